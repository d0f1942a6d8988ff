"""Checks that hold for every phantom renderer, and a small independent classifier."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from cas_metric.phantoms import FindingSpec, Renderer, generator


def sampled(artist: Renderer, label: str, seed: int, **nuisance: object) -> FindingSpec:
    """Phantom ``seed`` of a class, with some of its nuisance fixed."""
    spec = artist.sample(label, generator(artist.domain, label, seed))
    return dataclasses.replace(spec, nuisance={**spec.nuisance, **nuisance})


def halved(image: np.ndarray) -> np.ndarray:
    """Mean of 2 × 2 pixels, float."""
    side = len(image) // 2
    return image.reshape(side, 2, side, 2, 3).mean((1, 3))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def thumbnails(images: np.ndarray) -> np.ndarray:
    """``(N, 64, 64, 3)`` to 8 × 8 pixels, flat."""
    n = len(images)
    return images.reshape(n, 8, 8, 8, 8, 3).mean((2, 4)).reshape(n, -1) / 255


def texture_statistics(images: np.ndarray, filters: int = 64) -> np.ndarray:
    """Mean, spread and maximum of random rectified filters at two scales: blind to position."""
    stack = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    random = torch.Generator().manual_seed(0)
    pooled = []
    for block in (2, 4):
        bank = torch.randn(filters, 3, 5, 5, generator=random)
        bank = bank - 0.9 * bank.mean((2, 3), keepdim=True)
        bank = bank / bank.flatten(1).norm(dim=1)[:, None, None, None]
        for part in stack.split(128):
            small = torch.nn.functional.avg_pool2d(part, block)
            response = torch.relu(torch.nn.functional.conv2d(small, bank) - 0.1)
            pooled.append((response.mean((2, 3)), response.std((2, 3)), response.amax((2, 3))))
    parts = [torch.cat(statistics, dim=1) for statistics in pooled]
    half = len(parts) // 2
    return torch.cat([torch.cat(parts[:half]), torch.cat(parts[half:])], dim=1).numpy()


def ridge_accuracy(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, truth: np.ndarray, weight: float = 0.03
) -> float:
    """Accuracy of a linear read-out fitted by ridge regression to one-hot labels."""
    mean, spread = train.mean(0), train.std(0) + 1e-6
    train, test = (train - mean) / spread, (test - mean) / spread
    targets = np.eye(labels.max() + 1)[labels] - 1 / (labels.max() + 1)
    kernel = train @ train.T + weight * train.shape[1] * np.eye(len(train))
    return float(((test @ train.T @ np.linalg.solve(kernel, targets)).argmax(1) == truth).mean())


def dataset(artist: Renderer, seeds: range) -> tuple[np.ndarray, np.ndarray]:
    """Images and class numbers of some phantoms of every class."""
    images = [
        artist.render(sampled(artist, label, seed)) for label in artist.classes for seed in seeds
    ]
    return np.stack(images), np.repeat(np.arange(len(artist.classes)), len(seeds))
