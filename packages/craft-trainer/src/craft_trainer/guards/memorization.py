"""Whether samples are copies of training images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cas_metric.copies import neighbours, phash
from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.embedding.decoding import default_workers, ordered_map
from cas_metric.embedding.passes import embed_image_files
from cas_metric.encoders import Encoder, load_encoder
from cas_metric.protocol import PHASH_THRESHOLD
from craft_trainer.config.schema import Config
from craft_trainer.data.dataset import Examples, load_square
from craft_trainer.guards.samples import as_pixels, embed_arrays
from craft_trainer.runtime import Progress


@dataclass(frozen=True, eq=False)
class TrainingImages:
    """What samples must not be copies of.

    Attributes:
        words: ``(M,)`` perceptual hashes of the training images as the model saw them.
        encoder: Self-supervised encoder, where ``guards.memorization`` names one.
        features: ``(M, D)`` their embeddings.
        usual: ``(L,)`` distance of each real held-out image to its nearest training image.
    """

    words: NDArray[np.uint64]
    encoder: Encoder | None = None
    features: NDArray[np.float32] | None = None
    usual: NDArray[np.float64] | None = None

    def copies(self, pixels: NDArray[np.uint8], *, real: bool = False) -> float:
        """Share of ``(N, S, S, 3)`` images that are near-copies.

        A perceptual hash within the protocol's distance counts, or a nearest training image that
        is nearer than that of every real held-out image, of which none is, by definition.
        """
        words = np.array([phash.phash(one) for one in pixels])
        near = phash.nearest(words, self.words).distance <= PHASH_THRESHOLD
        if self.encoder is not None and self.features is not None and not real:
            vectors = embed_arrays(pixels, self.encoder).cpu().numpy()
            distance = neighbours.nearest(vectors, self.features).distance[:, 0]
            assert self.usual is not None
            near |= neighbours.nearer_than_real(distance, self.usual)
        return float(near.mean())


def training_images(
    config: Config,
    train: Examples,
    examples: Examples,
    cache: EmbeddingCache,
    device: torch.device,
    progress: Progress,
) -> TrainingImages:
    """Hashes of the training images and, where an encoder is named, their embeddings."""
    resolution, total = config.data.resolution, len(train)

    def hashed(path: Path) -> np.uint64:
        square = load_square(path, resolution, train.manifest)
        return phash.phash(as_pixels(square[None])[0])

    workers, words = default_workers(), []
    for word in ordered_map(hashed, train.paths, workers=workers, ahead=2 * workers):
        words.append(word)
        progress("hashing training images", len(words), total)
    hashes = np.array(words, dtype=np.uint64)
    if config.guards.memorization.encoder is None or config.guards.memorization.reaction == "off":
        return TrainingImages(hashes)
    encoder = load_encoder(
        config.guards.memorization.encoder, device=str(device), offline=config.offline
    )
    features, held_out = (
        embed_image_files(one.paths, encoder, cache, windows=one.windows).embeddings
        for one in (train, examples)
    )
    usual = neighbours.nearest(held_out, features).distance[:, 0]
    return TrainingImages(hashes, encoder, features, usual)
