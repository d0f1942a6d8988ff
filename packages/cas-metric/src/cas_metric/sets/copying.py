"""Does a generator copy what it was trained on? Two tests on features of whole sets.

Both compare distances to training images with what real images do; ``cas memorization`` looks for
the single copies.

Sources: Alaa et al. (2022), authenticity; Meehan, Chaudhuri and Dasgupta (2020), the data-copying
test, with the settings of Stein et al. (2023): 64 principal components, three cells.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cas_metric.errors import InputError
from cas_metric.protocol import BOOTSTRAP_SEED
from cas_metric.sets.fidelity import Floats, checked

#: Principal components, cells, and generated images that a cell needs to count.
COMPONENTS: Final = 64
CELLS: Final = 3
FEWEST_IN_CELL: Final = 20


class DataCopying(NamedTuple):
    """The data-copying test.

    Attributes:
        c_t: About standard normal where generated images lie as far from training images as real
            test images do; far below 0 where they lie nearer, which is copying.
        cells: Cells that entered.
    """

    c_t: float
    cells: int


def authenticity(generated: ArrayLike, train: ArrayLike) -> float:
    """Percentage of authentic images (AuthPct).

    An image is authentic if it lies farther from its nearest training image than that one lies
    from its own nearest training image.

    Args:
        generated: ``(N, D)``.
        train: ``(M, D)``, M at least 2.

    Returns:
        From 0 to 100. Unseen real images come to 50 or more, copies to 0.
    """
    left, right = checked(generated, train, at_least=2)
    distance, nearest = _nearest(left, right)
    return 100 * float((distance > _nearest_other(right)[nearest]).mean())


def data_copying(
    generated: ArrayLike,
    train: ArrayLike,
    test: ArrayLike,
    *,
    cells: int = CELLS,
    seed: int = BOOTSTRAP_SEED,
) -> DataCopying:
    """C_T: are generated images nearer to training images than real test images are?

    Args:
        generated: ``(N, D)``.
        train: ``(M, D)``: what the generator was trained on.
        test: ``(L, D)``: real images that it has not seen.
        cells: Number of cells that k-means divides the training images into.
        seed: Seed of k-means.

    Raises:
        InputError: No cell holds enough images.
    """
    from scipy.cluster.vq import kmeans2, vq

    left, right = checked(generated, train, at_least=2)
    held_out, _ = checked(test, train, at_least=2)
    left, right, held_out = _principal(right, left, right, held_out)
    centres, train_cells = kmeans2(right, cells, minit="++", seed=seed)
    return copying_in_cells(
        *(left, right, held_out),
        *(vq(left, centres)[0], train_cells, vq(held_out, centres)[0]),
    )


def copying_in_cells(
    generated: Floats,
    train: Floats,
    test: Floats,
    generated_cells: NDArray[np.integer],
    train_cells: NDArray[np.integer],
    test_cells: NDArray[np.integer],
) -> DataCopying:
    """C_T for given cells: the mean of the cells' statistics, weighted by their test images.

    Cells with too few generated images, or without training or test images, are left out.
    """
    weights, values = [], []
    for cell in np.unique(train_cells):
        ours, theirs = generated[generated_cells == cell], test[test_cells == cell]
        if len(ours) > FEWEST_IN_CELL and len(theirs):
            known = train[train_cells == cell]
            values.append(_standardised_u(_nearest(ours, known)[0], _nearest(theirs, known)[0]))
            weights.append(len(theirs))
    if not values:
        raise InputError(
            f"no cell holds more than {FEWEST_IN_CELL} generated images beside real ones",
            fix="give more generated images, or leave the data-copying test out",
        )
    return DataCopying(float(np.average(values, weights=weights)), len(values))


def _standardised_u(ours: Floats, theirs: Floats) -> float:
    """Mann-Whitney's U of two samples of distances, standardised; below 0 if ours are smaller."""
    from scipy.stats import rankdata

    m, n = len(ours), len(theirs)
    u = float(rankdata(np.concatenate([ours, theirs]))[:m].sum()) - m * (m + 1) / 2
    return (u - (m * n / 2 - 0.5)) / float(np.sqrt(m * n * (m + n + 1) / 12))


def _principal(basis: Floats, *sets: Floats) -> list[Floats]:
    """The sets in the leading principal components of ``basis``, where there are more."""
    if basis.shape[1] <= COMPONENTS:
        return list(sets)
    centre = basis.mean(axis=0)
    axes = np.linalg.svd(basis - centre, full_matrices=False)[2][:COMPONENTS]
    return [(rows - centre) @ axes.T for rows in sets]


def _nearest(rows: Floats, others: Floats) -> tuple[Floats, NDArray[np.intp]]:
    from scipy.spatial import KDTree

    distance, index = KDTree(others).query(rows)
    return distance, index


def _nearest_other(rows: Floats) -> Floats:
    """Distance of each row to its nearest other row."""
    from scipy.spatial import KDTree

    return KDTree(rows).query(rows, k=2)[0][:, 1]
