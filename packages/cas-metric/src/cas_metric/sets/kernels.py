"""Kernel distances between two sets of features: KID and CMMD.

Sources: Binkowski et al. (2018), KID; Jayasumana et al. (2024), CMMD.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from cas_metric.protocol import BOOTSTRAP_SEED
from cas_metric.sets.fidelity import Floats, checked

#: Customary number of subsets of KID and their largest size.
KID_SUBSETS: Final = 100
KID_SUBSET_SIZE: Final = 1000
#: Bandwidth and factor of CMMD, as published.
CMMD_SIGMA: Final = 10.0
CMMD_SCALE: Final = 1000.0
#: Rows of a kernel matrix held at once.
_BLOCK: Final = 1024


class KernelDistance(NamedTuple):
    """Kernel distance over random subsets.

    Attributes:
        mean: Unbiased estimate, mean over the subsets; may be slightly negative.
        std: Standard deviation over the subsets.
        subset_size: Images in a subset.
    """

    mean: float
    std: float
    subset_size: int


def kernel_distance(
    generated: ArrayLike,
    real: ArrayLike,
    *,
    subsets: int = KID_SUBSETS,
    subset_size: int = KID_SUBSET_SIZE,
    seed: int = BOOTSTRAP_SEED,
) -> KernelDistance:
    """Squared maximum mean discrepancy with the cubic kernel ``(x . y / D + 1)^3`` (KID).

    On features of unit norm the kernel is nearly linear and the number unreadably small: give
    features as the network makes them.

    Args:
        generated: ``(N, D)``.
        real: ``(M, D)``.
        subsets: Number of random subsets.
        subset_size: Images of a subset; the smaller set bounds it.
        seed: Seed of the subsets.

    Returns:
        Mean and standard deviation over the subsets. Where both sets have just the size of a
        subset there is one, and no deviation (NaN).
    """
    left, right = checked(generated, real, at_least=2)
    size = min(subset_size, len(left), len(right))
    if size == len(left) == len(right):
        return KernelDistance(_cubic_discrepancy(left, right), float("nan"), size)
    rng = np.random.default_rng(seed)
    values = [
        _cubic_discrepancy(
            left[rng.choice(len(left), size, replace=False)],
            right[rng.choice(len(right), size, replace=False)],
        )
        for _ in range(subsets)
    ]
    return KernelDistance(float(np.mean(values)), float(np.std(values)), size)


def cmmd(generated: ArrayLike, real: ArrayLike) -> float:
    """CMMD: squared maximum mean discrepancy of unit vectors with a Gaussian kernel, times 1000.

    As published it keeps the diagonal, so it has a bias of about 1 / N: compare sets of one size.
    On the embeddings of CLIP ViT-L/14 it is the published number.

    Args:
        generated: ``(N, D)``; normalised here.
        real: ``(M, D)``.

    Examples:
        >>> cmmd([[1.0, 0.0]], [[0.0, 2.0]])
        19.900...
    """
    left, right = (_unit(rows) for rows in checked(generated, real, at_least=1))
    parts = [_mean_gaussian(a, b) for a, b in ((left, left), (right, right), (left, right))]
    return CMMD_SCALE * (parts[0] + parts[1] - 2 * parts[2])


def _mean_gaussian(left: Floats, right: Floats) -> float:
    total = 0.0
    for start in range(0, len(left), _BLOCK):
        squared = 2 - 2 * (left[start : start + _BLOCK] @ right.T)  # of unit vectors
        total += float(np.exp(-squared / (2 * CMMD_SIGMA**2)).sum())
    return total / (len(left) * len(right))


def _unit(rows: Floats) -> Floats:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _cubic_discrepancy(left: Floats, right: Floats) -> float:
    m, dim = left.shape

    def kernel(a: Floats, b: Floats) -> Floats:
        return (a @ b.T / dim + 1) ** 3

    within = sum(
        float(gram.sum() - np.trace(gram)) for gram in (kernel(left, left), kernel(right, right))
    )
    return within / (m * (m - 1)) - 2 * float(kernel(left, right).mean())
