"""A judge that nobody trained on: a linear probe on AlexNet's ImageNet features.

EfficientNet-lite0 is the evaluator's trunk, so that its opinion would be the evaluator's own once
more. AlexNet's convolutions come with LPIPS (``benchmarks.lpips_backbone`` writes the file); here
the means of the last three of them over the picture are 896 features, and logistic regression on
real photographs names the class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from cas_metric.manifest import Manifest
from cas_metric.sets.diversity import load_lpips
from cas_metric.statistics.intervals import mean_interval
from cas_metric.statistics.uncertainty import Interval

#: Side at which AlexNet sees a picture, pictures in a pass, and the blocks whose means are taken.
_SIDE, _BATCH, _BLOCKS = 224, 32, 3
#: Of the squared weights of the logistic regression, on standardised features.
DECAY: Final = 0.01
#: Share of the weight of a training set that synthetic images have, as in ``cas utility``.
SHARE: Final = 0.2


class AlexNet:
    """Features of pictures.

    Args:
        weights: What ``benchmarks.lpips_backbone`` wrote.
    """

    def __init__(self, weights: Path) -> None:
        self.network: Any = load_lpips(weights).eval()

    @torch.inference_mode()
    def __call__(self, manifest: Manifest) -> Tensor:
        """``(N, 896)`` of the images of a manifest."""
        parts, paths = [], list(manifest.paths())
        for first in range(0, len(paths), _BATCH):
            pictures = torch.stack([_read(path) for path in paths[first : first + _BATCH]])
            blocks = self.network.net(self.network.scaling_layer(pictures))[-_BLOCKS:]
            parts.append(torch.cat([block.mean(dim=(2, 3)) for block in blocks], dim=1))
        return torch.cat(parts)


def _read(path: Path) -> Tensor:
    """``(3, S, S)`` in [-1, 1]."""
    with Image.open(path) as image:
        small = image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1) / 127.5 - 1


@dataclass(frozen=True)
class Known:
    """Features ``(N, D)`` of images and the classes ``(N,)`` that they go under."""

    features: Tensor
    labels: np.ndarray

    def take(self, rows: np.ndarray) -> Known:
        """Some of them."""
        return Known(self.features[torch.from_numpy(rows)], self.labels[rows])


class Logistic:
    """Multinomial logistic regression of weighted images, classes counted alike.

    Args:
        real: Images whose features set mean and spread, and are learned from.
        synthetic: Further images; together they weigh :data:`SHARE` of all.
        classes: How many there are.
    """

    def __init__(self, real: Known, classes: int, synthetic: Known | None = None) -> None:
        self.mean, self.spread = real.features.mean(dim=0), real.features.std(dim=0) + 1e-6
        sets, shares = [real], [1.0]
        if synthetic is not None and len(synthetic.labels):
            sets, shares = [real, synthetic], [1 - SHARE, SHARE]
        x = torch.cat([self._scaled(one.features) for one in sets])
        y = torch.from_numpy(np.concatenate([one.labels for one in sets]))
        weight = torch.cat(
            [share * alike(one.labels) for one, share in zip(sets, shares, strict=True)]
        )
        self.layer = torch.nn.Linear(x.shape[1], classes).to(x.dtype)
        torch.nn.init.zeros_(self.layer.weight)
        torch.nn.init.zeros_(self.layer.bias)
        optimizer = torch.optim.LBFGS(
            self.layer.parameters(), max_iter=100, line_search_fn="strong_wolfe"
        )

        def loss() -> Tensor:
            optimizer.zero_grad()
            error = (weight * F.cross_entropy(self.layer(x), y, reduction="none")).sum()
            total = error + 0.5 * DECAY * self.layer.weight.square().sum()
            total.backward()
            return total

        optimizer.step(loss)

    def _scaled(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.spread

    @torch.inference_mode()
    def named(self, features: Tensor) -> np.ndarray:
        """``(N,)`` class of each image."""
        return self.layer(self._scaled(features)).argmax(dim=1).numpy()


def alike(labels: np.ndarray) -> Tensor:
    """``(N,)`` weights that sum to 1, each class that is there having as much as the others."""
    found, place, count = np.unique(labels, return_inverse=True, return_counts=True)
    return torch.from_numpy(1 / (len(found) * count[place])).float()


def drawn(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """``count`` random rows, each class with its share of all, rounded up."""
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    return np.concatenate([one[: -(-count * len(one) // len(labels))] for one in rows])


@dataclass(frozen=True)
class Gain:
    """What a synthetic set did to the judge's accuracy.

    Attributes:
        name: Of the set; empty for real images alone.
        real: Real training images.
        accuracy: Mean over draws of the real images.
        spread: Standard deviation over them.
        difference: To real images alone, with a 95% interval over test images.
    """

    name: str
    real: int
    accuracy: float
    spread: float
    difference: Interval | None


def gains(
    real: Known,
    test: Known,
    synthetic: Mapping[str, Known],
    sizes: Sequence[int],
    draws: int,
) -> list[Gain]:
    """Accuracy on ``test`` of judges of real images, and of real and synthetic ones together.

    Each draw of the real images serves every set; with all real images there is one draw.
    """
    classes, found = int(real.labels.max()) + 1, []
    for size in sizes:
        right: dict[str, np.ndarray] = {}
        for name, extra in {"": None, **synthetic}.items():
            right[name] = np.stack(
                [
                    Logistic(real.take(rows), classes, extra).named(test.features) == test.labels
                    for rows in _draws(real.labels, size, draws)
                ]
            )
        for name, hits in right.items():
            change = (hits.astype(float) - right[""]).mean(axis=0)
            share = hits.mean(axis=1)
            found.append(
                Gain(name, size, share.mean(), share.std(), mean_interval(change) if name else None)
            )
    return found


def _draws(labels: np.ndarray, size: int, draws: int) -> list[np.ndarray]:
    if size >= len(labels):
        return [np.arange(len(labels))]
    return [drawn(labels, size, seed) for seed in range(draws)]
