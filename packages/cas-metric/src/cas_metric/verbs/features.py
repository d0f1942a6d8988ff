"""The feature spaces that verbs compare images in, and images embedded in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cas_metric.verbs.progress import Progress, counting

if TYPE_CHECKING:
    import numpy as np

    from cas_metric.encoders import Encoder
    from cas_metric.manifest import Manifest

#: Self-supervised: it has seen no text, so it does not favour what a text encoder rewards.
DEFAULT_ENCODER = "dinov2"
DEFAULT_PHANTOM_ENCODER = "phantom-dino"


class Running(NamedTuple):
    """How images are embedded; nothing here changes what comes out."""

    cache: str | None = None
    batch_size: int | None = None
    num_workers: int | None = None


class Features(NamedTuple):
    """Embeddings of a manifest.

    Attributes:
        embeddings: ``(N, D)`` in the order of the rows; NaN rows for unreadable images.
        errors: Path of each unreadable image to the reason.
        pixels: How many images each treatment of their stored values was applied to.
    """

    embeddings: np.ndarray
    errors: dict[str, str]
    pixels: dict[str, int]


def is_phantom(manifest: Manifest) -> bool:
    """Whether a folder says that its images are drawn phantoms."""
    domain = manifest.config.domain if manifest.config else None
    return bool(domain) and str(domain).startswith("phantom-")


def choose_encoder(
    spec: str | None, manifest: Manifest, *, device: str, offline: bool, raw: bool = False
) -> Encoder:
    """The encoder asked for; by default DINOv2, or its phantom for phantom images.

    Args:
        spec: What :func:`~cas_metric.encoders.open_encoder` takes, or a space of
            :mod:`cas_metric.sets.spaces`.
        manifest: Images, for the default.
        device: ``auto`` or a torch device.
        offline: Never use the network.
        raw: Leave embeddings as long as the network makes them, as published set distances do.

    Raises:
        ModelUnavailable: The model cannot be had here.
        InputError: The spec names none.
    """
    from cas_metric.encoders import open_encoder
    from cas_metric.sets.spaces import open_space

    default = DEFAULT_PHANTOM_ENCODER if is_phantom(manifest) else DEFAULT_ENCODER
    named = open_space(spec, device=device, offline=offline) if spec else None
    return named or open_encoder(spec or default, device=device, offline=offline, raw=raw)


def embed(
    manifest: Manifest,
    encoder: Encoder,
    running: Running | None = None,
    progress: Progress | None = None,
) -> Features:
    """Embed the images of a manifest through its window and the cache.

    Args:
        manifest: N images.
        encoder: Of :func:`choose_encoder`.
        running: Cache, batches and threads.
        progress: Told how many images are done.
    """
    from cas_metric.embedding.cache import EmbeddingCache
    from cas_metric.embedding.passes import embed_image_files
    from cas_metric.images import count_steps

    running = running or Running()
    with EmbeddingCache(running.cache) as store:
        found = embed_image_files(
            manifest.paths(),
            encoder,
            store,
            windows=[manifest.window] * len(manifest),
            batch_size=running.batch_size,
            num_workers=running.num_workers,
            progress=counting(progress, "images"),
        )
    errors = {str(path): why for path, why in found.errors.items()}
    return Features(found.embeddings, errors, count_steps(found.steps))
