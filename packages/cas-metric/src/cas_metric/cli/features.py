"""Embedding two folders for the verbs that compare distributions."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cas_metric.cli.common import CountProgress

if TYPE_CHECKING:
    import numpy as np

    from cas_metric.encoders import Encoder
    from cas_metric.manifest import Manifest

#: Self-supervised: it has seen no text, so it does not favour what a text encoder rewards.
DEFAULT_ENCODER = "dinov2"
DEFAULT_PHANTOM_ENCODER = "phantom-dino"


class Running(NamedTuple):
    """How images are embedded; nothing here changes what comes out."""

    cache: str | None
    batch_size: int | None
    num_workers: int | None


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


def choose_encoder(spec: str | None, manifest: Manifest, *, device: str, offline: bool) -> Encoder:
    """The encoder asked for; by default DINOv2, or its phantom for phantom images."""
    from cas_metric.encoders import open_encoder

    default = DEFAULT_PHANTOM_ENCODER if is_phantom(manifest) else DEFAULT_ENCODER
    return open_encoder(spec or default, device=device, offline=offline)


def embed(manifest: Manifest, encoder: Encoder, running: Running) -> Features:
    """Embed the images of a manifest through its window and the cache, with a progress bar."""
    from cas_metric.embedding.cache import EmbeddingCache
    from cas_metric.embedding.passes import embed_image_files
    from cas_metric.images import count_steps

    with EmbeddingCache(running.cache) as store, CountProgress("images") as bar:
        found = embed_image_files(
            manifest.paths(),
            encoder,
            store,
            windows=[manifest.window] * len(manifest),
            batch_size=running.batch_size,
            num_workers=running.num_workers,
            progress=bar,
        )
    errors = {str(path): why for path, why in found.errors.items()}
    return Features(found.embeddings, errors, count_steps(found.steps))
