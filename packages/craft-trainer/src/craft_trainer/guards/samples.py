"""Samples and real images as 8-bit arrays: embedded as files are, and measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cas_metric.embedding.decoding import default_workers, ordered_map
from cas_metric.embedding.passes import BATCH_ON_CPU
from cas_metric.encoders import Encoder
from cas_metric.errors import CasError, PreflightError
from cas_metric.images import to_uint8
from craft_trainer.data.dataset import Examples, load_square
from craft_trainer.guards.statistics import grid_peak, high_frequencies, image_statistics

#: Statistics of :func:`image_statistics` that a guard watches.
_STATISTICS: Final = ("edge_density", "entropy", "saturation", "clipped")


def load_squares(examples: Examples, resolution: int) -> Tensor:
    """``(N, 3, S, S)`` images in [0, 1] as the model sees them.

    Raises:
        PreflightError: Images that cannot be read; all are listed.
    """

    def load(path: Path) -> Tensor | str:
        try:
            return load_square(path, resolution, examples.manifest)
        except CasError as error:
            return error.problem

    workers = default_workers()
    found = list(ordered_map(load, examples.paths, workers=workers, ahead=2 * workers))
    problems = {
        path: item
        for path, item in zip(examples.paths, found, strict=True)
        if isinstance(item, str)
    }
    if problems:
        raise unreadable(problems)
    return torch.stack([item for item in found if isinstance(item, Tensor)])


def as_pixels(images: Tensor) -> NDArray[np.uint8]:
    """``(N, 3, S, S)`` in [0, 1] to ``(N, S, S, 3)`` uint8, rounded as files are."""
    return to_uint8(images.permute(0, 2, 3, 1).numpy())


@torch.no_grad()
def embed_arrays(pixels: NDArray[np.uint8], encoder: Encoder) -> Tensor:
    """``(N, D)`` embeddings of ``(N, H, W, 3)`` images, as :func:`embed_image_files` makes them."""
    parts = []
    for start in range(0, len(pixels), BATCH_ON_CPU):
        some = list(pixels[start : start + BATCH_ON_CPU])
        filled = some + [some[-1]] * (BATCH_ON_CPU - len(some))
        parts.append(encoder.embed_pixels(encoder.official_preprocess(filled))[: len(some)])
    return torch.cat(parts)


def sample_statistics(pixels: NDArray[np.uint8], cells: Sequence[int]) -> dict[str, float]:
    """What no encoder rewards, of ``(N, S, S, 3)`` images."""
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    plain = image_statistics(images, repeats=1)
    fitting = [count for count in cells if 2 <= count <= images.shape[-1] // 2]
    return {
        **{name: float(plain[f"image/{name}"]) for name in _STATISTICS},
        "noise": float(high_frequencies(images)),
        "grid": max((float(grid_peak(images, count)) for count in fitting), default=0.0),
    }


def diversity(embeddings: Tensor, labels: Tensor) -> float:
    """Mean cosine distance of two images of one class, over all pairs; 0 without any pair."""
    vectors = torch.nn.functional.normalize(embeddings.float(), dim=-1)
    distance = 1 - vectors @ vectors.T
    same = (labels[:, None] == labels) & ~torch.eye(len(labels), dtype=torch.bool).to(labels.device)
    return float(distance[same].mean()) if same.any() else 0.0


def unreadable(problems: Mapping[Path, str]) -> PreflightError:
    """Every image of ``problems``, with its reason."""
    lines = [f"{path.name}: {reason}" for path, reason in problems.items()]
    return PreflightError(lines, fix="replace or remove these images")
