"""Distances between the distributions of generated and real features, of any encoder.

On InceptionV3 features the Fréchet distance is FID; on the features of another encoder it is that
encoder's Fréchet distance, on another scale, and never to be compared with a FID. None of these
says whether a single image shows what it should.

Sources: Heusel et al. (2017), FID; Chong and Forsyth (2020), its value without bias;
Kynkaanniemi et al. (2019), precision and recall; Naeem et al. (2020), density and coverage.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cas_metric.errors import InputError
from cas_metric.protocol import BOOTSTRAP_SEED

Floats = NDArray[np.float64]

#: Customary number of neighbours.
NEIGHBOURS = 5
#: Sizes that an unbiased Fréchet distance is extrapolated from, and their smallest.
INFINITY_POINTS = 15
INFINITY_SMALLEST = 5000
#: Below this many images the bias of a Fréchet distance is commonly held to be too large.
CUSTOMARY_MINIMUM = 2048
#: Rows of a distance matrix held at once.
_BLOCK = 1024


class Manifolds(NamedTuple):
    """Overlap of the two sets' k-nearest-neighbour balls.

    Attributes:
        precision: Share of generated images within some real ball: fidelity.
        recall: Share of real images within some generated ball: diversity.
        density: Mean number of real balls around a generated image over k; may exceed 1.
        coverage: Share of real balls that hold a generated image.

    Examples:
        >>> rows = np.random.default_rng(0).normal(size=(50, 2))
        >>> manifolds(rows, rows + 100)  # nowhere near
        Manifolds(precision=0.0, recall=0.0, density=0.0, coverage=0.0)
    """

    precision: float
    recall: float
    density: float
    coverage: float


def frechet_distance(generated: ArrayLike, real: ArrayLike) -> float:
    """Fréchet distance between normal distributions fitted to the two sets.

    The trace of the root of C1 C2 is taken as a sum of singular values: it stays real and needs no
    matrix root where the covariances are singular.

    Args:
        generated: ``(N, D)``, N at least 2.
        real: ``(M, D)``, M at least 2.

    Examples:
        >>> rows = np.random.default_rng(0).normal(size=(500, 4))
        >>> round(frechet_distance(rows + 1, rows), 3)  # a shift of 1 in each of four dimensions
        4.0
    """
    left, right = checked(generated, real, at_least=2)
    difference = left.mean(axis=0) - right.mean(axis=0)
    # With X the centred rows over sqrt(N - 1), C = X^T X, and the eigenvalues of C1 C2 are the
    # squared singular values of X1 X2^T.
    first, second = ((rows - rows.mean(axis=0)) / np.sqrt(len(rows) - 1) for rows in (left, right))
    traces = float(np.square(first).sum() + np.square(second).sum())
    root = float(np.linalg.svd(_thin(first) @ _thin(second).T, compute_uv=False).sum())
    return max(0.0, float(difference @ difference) + traces - 2 * root)


def frechet_infinity(
    generated: ArrayLike,
    real: ArrayLike,
    *,
    points: int = INFINITY_POINTS,
    seed: int = BOOTSTRAP_SEED,
) -> float:
    """Fréchet distance of infinitely many generated images, extrapolated over 1 / N.

    Takes subsets between ``min(5000, N / 10)`` and N images and fits a line. What is left is the
    bias that the number of real images makes. The line is one only where subsets are larger than
    the features have dimensions.

    Args:
        generated: ``(N, D)``.
        real: ``(M, D)``.
        points: Number of sizes.
        seed: Seed of the subsets.
    """
    left, right = checked(generated, real, at_least=4)
    smallest = min(INFINITY_SMALLEST, max(len(left) // 10, 2))
    sizes = np.linspace(smallest, len(left), points).astype(int)
    rng = np.random.default_rng(seed)
    values = [
        frechet_distance(left[rng.choice(len(left), size, replace=False)], right)
        for size in sizes.tolist()
    ]
    return float(np.polyfit(1 / sizes, values, 1)[1])


def manifolds(generated: ArrayLike, real: ArrayLike, *, k: int = NEIGHBOURS) -> Manifolds:
    """Precision, recall, density and coverage.

    An image at exactly the radius of a ball, as a copy of a training image can be, is inside for
    precision and recall (Kynkäänniemi et al. 2019) and outside for density and coverage (Naeem et
    al. 2020), as in the code of their authors.

    Args:
        generated: ``(N, D)``, N above k.
        real: ``(M, D)``, M above k.
        k: A ball reaches to the k-th nearest neighbour within its own set.

    Raises:
        InputError: If a set has no more than k images.

    Examples:
        >>> rows = np.random.default_rng(0).normal(size=(50, 2))
        >>> manifolds(rows, rows).precision
        1.0
    """
    left, right = checked(generated, real, at_least=k + 1)
    radius_left, radius_right = _radii(left, k), _radii(right, k)
    precise, strictly_within = np.zeros(len(left), dtype=bool), np.zeros(len(left))
    recalled, covered = np.zeros(len(right), dtype=bool), np.zeros(len(right), dtype=bool)
    for start in range(0, len(right), _BLOCK):
        stop = start + _BLOCK
        distance = _distances(right[start:stop], left)
        precise |= (distance <= radius_right[start:stop, None]).any(axis=0)
        inside = distance < radius_right[start:stop, None]
        strictly_within += inside.sum(axis=0)
        covered[start:stop] = inside.any(axis=1)
        recalled[start:stop] = (distance <= radius_left).any(axis=1)
    return Manifolds(
        precision=float(precise.mean()),
        recall=float(recalled.mean()),
        density=float(strictly_within.mean() / k),
        coverage=float(covered.mean()),
    )


def small_sample_warnings(n_generated: int, n_real: int, dim: int) -> list[str]:
    """What sample sizes make of a Fréchet distance: one sentence for each concern."""
    smaller = min(n_generated, n_real)
    if smaller <= dim:
        return [
            f"{smaller} images against {dim} dimensions: the covariance is singular and the "
            "Fréchet distance is biased upwards; compare sets of equal size only, or read KID"
        ]
    if smaller < CUSTOMARY_MINIMUM:
        return [
            f"{smaller} images are fewer than the customary {CUSTOMARY_MINIMUM}: the Fréchet "
            "distance is biased upwards; compare sets of equal size only, or read KID"
        ]
    return []


def checked(generated: ArrayLike, real: ArrayLike, at_least: int) -> tuple[Floats, Floats]:
    """Both sets as float64 without the rows of failed images.

    Raises:
        InputError: Too few images, or features of different length.
    """
    sets = []
    for name, features in (("generated", generated), ("real", real)):
        rows = np.asarray(features, dtype=np.float64)
        rows = rows[np.isfinite(rows).all(axis=1)]
        if len(rows) < at_least:
            raise InputError(f"{len(rows)} {name} images are too few: {at_least} are needed")
        sets.append(rows)
    if sets[0].shape[1] != sets[1].shape[1]:
        raise InputError(
            f"features of {sets[0].shape[1]} and of {sets[1].shape[1]} dimensions cannot be "
            "compared"
        )
    return sets[0], sets[1]


def _thin(rows: Floats) -> Floats:
    """A square factor with the same ``X^T X`` when there are more rows than columns."""
    return np.asarray(np.linalg.qr(rows, mode="r")) if len(rows) > rows.shape[1] else rows


def _radii(rows: Floats, k: int) -> Floats:
    """Distance of each row to its k-th nearest other row."""
    radii = np.empty(len(rows))
    for start in range(0, len(rows), _BLOCK):
        distance = _distances(rows[start : start + _BLOCK], rows)
        # The row itself, at distance 0, takes the first place.
        radii[start : start + _BLOCK] = np.partition(distance, k, axis=1)[:, k]
    return radii


def _distances(left: Floats, right: Floats) -> Floats:
    from scipy.spatial.distance import cdist

    return cdist(left, right)
