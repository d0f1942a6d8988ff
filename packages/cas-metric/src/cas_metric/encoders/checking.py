"""What an encoder does on this machine: on a probe image and text, and to checklists."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cas_metric.encoders.loading import load_encoder
from cas_metric.encoders.registry import list_encoders
from cas_metric.protocol import SCORE_DTYPE

if TYPE_CHECKING:
    from torch import Tensor

    from cas_metric.domains import Domain
    from cas_metric.encoders.base import Encoder
    from cas_metric.encoders.family import EncoderInfo
    from cas_metric.encoders.model import ModelEncoder

PROBE_TEXT: Final = "Frontal chest radiograph with an enlarged cardiac silhouette."
_PROBE_SHAPE: Final = (600, 480)


def named_encoders() -> list[dict[str, Any]]:
    """Every named encoder as a row: what :class:`EncoderInfo` says, and whether it is ``cached``.

    Examples:
        >>> next(row["token_limit"] for row in named_encoders() if row["alias"] == "siglip")
        64
    """
    return [_row(info) for info in list_encoders()]


def check_encoder(
    spec: str | Path,
    *,
    device: str = "auto",
    dtype: str = SCORE_DTYPE,
    batch_size: int = 8,
    offline: bool = False,
    revision: str | None = None,
) -> dict[str, Any]:
    """Load an encoder, embed a probe image and a probe text, and say how it did.

    Args:
        spec: See :func:`~cas_metric.encoders.load_encoder`, as for the others.
        device: Where it computes.
        dtype: In which precision; other than float32, its change against float32 is measured too.
        batch_size: Images in a timed batch.
        offline: Never use the network.
        revision: Commit, tag or branch instead of the pinned one.

    Returns:
        Name, revision, identity, dimensions, fingerprint, preprocessing and how far the
        differentiable one is from the official, images per second, and the cosine of the probes.
    """
    encoder = load_encoder(spec, device=device, dtype=dtype, offline=offline, revision=revision)
    result = _probe(encoder, batch_size)
    if dtype != SCORE_DTYPE:
        exact = load_encoder(spec, device=device, offline=offline, revision=revision)
        result["cosine_change_from_float32"] = _cosine_change(encoder, exact)
    return result


def seen_tokens(encoder: Encoder, text: str) -> dict[str, Any]:
    """The tokens that an encoder sees of a text, how many it has, and whether some are cut.

    Examples:
        >>> from cas_metric.encoders import load_encoder
        >>> found = seen_tokens(load_encoder("phantom-siglip"), "left pleural effusion")
        >>> found["tokens"], found["truncated"]
        (['left</w>', 'pleural</w>', 'effusion</w>', '</s>'], False)
    """
    count = encoder.count_tokens([text])[0]
    limit = encoder.token_limit
    tokens = encoder.show_tokens(text)
    return {"tokens": tokens, "count": count, "limit": limit, "truncated": count > limit}


def checklist_lengths(encoder: Encoder, domains: Sequence[Domain]) -> list[dict[str, Any]]:
    """Tokens of every checklist of some domains, and which are cut at the encoder's limit.

    Examples:
        >>> from cas_metric.domains import load_domain
        >>> from cas_metric.encoders import load_encoder
        >>> domains = [load_domain("phantom-chexpert")]
        >>> (found,) = checklist_lengths(load_encoder("phantom-siglip", device="cpu"), domains)
        >>> found["limit"], found["tokens"]["Pneumonia"], found["cut"]
        (64, 42, [])
    """
    return [_lengths(encoder, domain) for domain in domains]


def _row(info: EncoderInfo) -> dict[str, Any]:
    from cas_metric.encoders.hub import find_cached

    cached = info.embedded or find_cached(info.hub_id, info.revision) is not None
    return {**vars(info), "sha256": dict(info.sha256), "cached": cached}


def _probe(encoder: ModelEncoder, batch_size: int) -> dict[str, Any]:
    import torch

    from cas_metric.encoders.identity import identify

    image = _probe_image()
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    official = encoder.official_preprocess([image])
    difference = (official - encoder.preprocess(tensor)).abs()
    with torch.no_grad():
        embedded = encoder.embed_pixels(official)
        differentiable = encoder.embed_images(tensor)
    result = {
        "name": encoder.name,
        "revision": encoder.revision,
        "identity": identify(encoder).description,
        "fingerprint": encoder.fingerprint,
        "dim": encoder.dim,
        "token_limit": encoder.token_limit,
        "image_size": encoder.image_size,
        "device": encoder.device_description,
        "pooling": encoder.pooling,
        "preprocessing": encoder.preprocessing.describe(),
        "preprocessing_difference": {
            "mean": float(difference.mean()),
            "max": float(difference.max()),
            "cosine": float((embedded * differentiable).sum()),
        },
        "images_per_second": _images_per_second(encoder, official, batch_size),
    }
    if encoder.token_limit:
        texts = encoder.embed_texts([PROBE_TEXT])
        result["probe_text_tokens"] = int(texts.tokens[0])
        result["probe_cosine"] = float((embedded @ texts.embeddings.T).item())
    return result


def _images_per_second(encoder: ModelEncoder, inputs: Tensor, batch_size: int) -> float:
    """Speed of the bare encoder on tensors in memory, after one batch to warm up."""
    import torch

    batch = inputs.repeat(batch_size, *[1] * (inputs.ndim - 1))
    with torch.no_grad():
        encoder.embed_pixels(batch).cpu()
        start, batches = time.perf_counter(), 0
        while batches < 3 or (time.perf_counter() - start < 1.0 and batches < 1000):
            encoder.embed_pixels(batch).cpu()  # .cpu() waits for the device
            batches += 1
    return batches * batch_size / (time.perf_counter() - start)


def _cosine_change(encoder: ModelEncoder, exact: ModelEncoder) -> dict[str, float]:
    """Largest change of image-image and image-text cosines against the float32 encoder."""
    import torch

    images = [_probe_image(seed) for seed in range(4)]
    with torch.no_grad():
        rough, fine = (e.embed_pixels(e.official_preprocess(images)) for e in (encoder, exact))
    change = {"image": float((rough @ rough.T - fine @ fine.T).abs().max())}
    if encoder.token_limit:
        rough_text, fine_text = (e.embed_texts([PROBE_TEXT]).embeddings for e in (encoder, exact))
        change["text"] = float((rough @ rough_text.T - fine @ fine_text.T).abs().max())
    return change


def _probe_image(seed: int = 0) -> np.ndarray:
    """A smooth picture with edges and a little noise, ``(H, W, 3)`` uint8, no real data."""
    height, width = _PROBE_SHAPE
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    generator = np.random.default_rng(seed)
    disc = ((x - 0.4) ** 2 + (y - 0.3 - 0.1 * seed) ** 2 < 0.05).astype(float)
    picture = np.stack([0.6 * x + 0.4 * disc, 0.5 * y + 0.3 * disc, 0.3 + 0.2 * x * y], axis=-1)
    picture += 0.02 * generator.standard_normal(picture.shape)
    return (np.clip(picture, 0, 1) * 255).astype(np.uint8)


def _lengths(encoder: Encoder, domain: Domain) -> dict[str, Any]:
    labels = [label for label in domain.class_names if domain.checklist_text(label)]
    counts = encoder.count_tokens([domain.checklist_text(label) for label in labels])
    tokens_of = dict(zip(labels, counts, strict=True))
    return {
        "domain": domain.name,
        "limit": encoder.token_limit,
        "checklists": len(labels),
        "cut": [label for label, count in tokens_of.items() if count > encoder.token_limit],
        "tokens": tokens_of,
    }
