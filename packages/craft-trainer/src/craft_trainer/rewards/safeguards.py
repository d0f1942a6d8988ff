"""What generated images are judged against, made harder to please by other means than the finding.

A reward that compares with the very image whose prompt is used can be raised by copying it, one
without a limit by exceeding every real image, one for the own class by what all classes share.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cas_metric.protocol import PRIMITIVES
from craft_trainer.rewards.clinical_alignment import ClinicalAlignmentModule, Targets

if TYPE_CHECKING:
    from collections.abc import Sequence

References = Literal["paired", "other", "class_mean"]


def other_references(reference: Tensor, labels: Sequence[str], kind: References) -> Tensor:
    """What SFS compares with in place of each image's own embedding.

    Args:
        reference: ``(N, D)`` unit embeddings of the real images.
        labels: ``N`` class names.
        kind: ``other``: the next image of the class in an order drawn once, so that each is used
            once; ``class_mean``: the mean of all other images of the class.

    Returns:
        ``(N, D)`` of unit norm; an image that is alone in its class keeps its own.
    """
    if kind == "paired":
        return reference
    made = reference.clone()
    rng = np.random.default_rng(0)
    for label in sorted(set(labels)):
        rows = rng.permutation([row for row, one in enumerate(labels) if one == label])
        if len(rows) == 1:
            continue
        own = reference[rows]
        made[rows] = own.roll(1, dims=0) if kind == "other" else own.sum(dim=0) - own
    return F.normalize(made, dim=1)


@torch.no_grad()
def real_level(cam: ClinicalAlignmentModule, targets: Targets, reference: Tensor) -> Tensor:
    """``(N, 4)`` mean reward of the real images of each row's class; infinite without a weight.

    Args:
        cam: Gives the rewards.
        targets: Of all rows.
        reference: ``(N, D)`` embeddings of the real images.
    """
    terms = cam.terms(reference, replace(targets, ceiling=None))
    level = torch.full((len(reference), len(PRIMITIVES)), torch.inf, device=reference.device)
    for label in targets.label.unique():
        rows = targets.label == label
        for name, value in terms.items():
            level[rows, PRIMITIVES.index(name)] = value[rows].mean()
    return level


def cropped(images: Tensor, share: float, generators: Sequence[torch.Generator]) -> Tensor:
    """Each ``(3, H, W)`` image less up to ``share`` of its sides, at its old size; gradients flow.

    Args:
        images: ``(B, 3, H, W)``.
        share: Most of a side that is cut away.
        generators: One an image.
    """
    height, width = images.shape[-2:]
    parts = []
    for image, generator in zip(images, generators, strict=True):
        size, down, right = torch.rand(3, generator=generator, device=generator.device).tolist()
        kept = 1 - share * size
        rows, columns = max(1, round(kept * height)), max(1, round(kept * width))
        top, left = int(down * (height - rows + 1)), int(right * (width - columns + 1))
        part = image[None, :, top : top + rows, left : left + columns]
        parts.append(F.interpolate(part, (height, width), mode="bilinear", antialias=True))
    return torch.cat(parts)
