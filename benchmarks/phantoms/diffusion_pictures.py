"""The pictures that phantom-sd is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.phantoms.corpus import COUNTS, read_corpus

#: Of the weights, of the order and of the corpus: no encoder has been trained on these pictures.
SEED = 4
#: Pictures for each one of ``corpus.COUNTS``.
SCALE = 0.3


@dataclass(frozen=True)
class Pictures:
    """All domains together: ``images`` ``(N, 3, S, S)`` uint8, ``domains`` ``(N,)`` from 0."""

    images: Tensor
    domains: np.ndarray
    prompts: tuple[str, ...]

    def balanced(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """``(count,)`` rows, the same number of each domain."""
        rows = [np.flatnonzero(self.domains == domain) for domain in np.unique(self.domains)]
        return np.array([rng.choice(rows[index % len(rows)]) for index in range(count)])


def read_pictures(scratch: Path, first: float = 1.0) -> Pictures:
    """The corpus of :data:`SEED`, rendered first if need be; of each domain the ``first`` share."""
    corpora = [read_corpus(scratch, name, int(n * SCALE), SEED) for name, n in COUNTS.items()]
    counts = [int(first * len(corpus.labels)) for corpus in corpora]
    parts = list(zip(corpora, counts, strict=True))
    stacked = np.concatenate([corpus.images[:count] for corpus, count in parts])
    return Pictures(
        torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous(),
        np.repeat(np.arange(len(corpora)), counts),
        tuple(prompt for corpus, count in parts for prompt in corpus.prompts[:count]),
    )


def pixels(images: Tensor) -> Tensor:
    """uint8 pictures in [-1, 1], as a VAE takes them."""
    return images.float() / 127.5 - 1
