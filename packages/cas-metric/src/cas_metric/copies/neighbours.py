"""Nearest neighbours in feature space: are generated images nearer to training than to test images?

Distances are cosine distances between embeddings of unit norm. A set with more images has nearer
neighbours for that reason alone, so the comparison is also made at equal numbers: the mean
distance to the nearest of ``n`` images drawn without replacement has a closed form in the ordered
distances, which takes the place of drawing.

Source: Appendix M and Table 18 of the paper (mean distances and their difference). Size matching,
interval, reference distribution and permutation test: ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cas_metric.errors import InputError, MissingDependency
from cas_metric.protocol import BOOTSTRAP_SEED, CONFIDENCE, RESAMPLES
from cas_metric.statistics.intervals import mean_interval
from cas_metric.statistics.uncertainty import Interval, cluster_codes

Floats = NDArray[np.float64]

#: Distances held at once; bounds memory at 128 MB.
_BLOCK_PAIRS: Final = 32_000_000
#: Images of the larger set that are compared with a block of queries in one product.
_OTHERS_TOGETHER: Final = 100_000
#: Probability below which a neighbour is too far down the order to matter.
_NEGLIGIBLE: Final = 1e-12
#: Neighbours down the order among which exchanges look for the nearest image of a side; one that
#: lies deeper, since the side is so small, is searched for in the side itself.
_DEEPEST: Final = 500
#: Rounding of a mean distance by which two exchanges are no different.
_ROUNDING: Final = 1e-7


class Neighbours(NamedTuple):
    """The nearest of a set to each query.

    Attributes:
        distance: ``(N, k)`` cosine distances in [0, 2], ascending.
        position: ``(N, k)`` where they are in the set.
    """

    distance: Floats
    position: NDArray[np.int64]


class Comparison(NamedTuple):
    """Distances of generated images to the training set and to the test set.

    Attributes:
        n: Generated images.
        train: Mean distance to the nearest training image.
        test: Mean distance to the nearest test image.
        difference: ``train`` minus ``test``; below 0 is nearer to training. The interval is
            over generated images, both real sets being given.
        matched_size: Images of each real set in the size-matched comparison.
        matched_difference: The difference at that size.
        p: Permutation p-value, one-sided, of a difference as low as this one; NaN where no real
            image can be exchanged.
    """

    n: int
    train: float
    test: float
    difference: Interval
    matched_size: int
    matched_difference: Interval
    p: float


def nearest(
    queries: NDArray[Any], others: NDArray[Any], k: int = 1, *, faiss: bool = False
) -> Neighbours:
    """The ``k`` nearest of ``others`` to each query, exactly, in blocks of bounded memory.

    Args:
        queries: ``(N, D)`` embeddings of unit norm.
        others: ``(M, D)``; fewer than ``k`` give all of them.
        k: How many.
        faiss: Let FAISS search its flat index, which is exact too. On a CPU it is the slower one.

    Raises:
        InputError: ``others`` is empty.
        MissingDependency: ``faiss`` without the package.
    """
    if not len(others):
        raise InputError("there is no image to search among")
    k = min(k, len(others))
    if faiss:
        return _by_faiss(queries, others, k)
    distance = np.empty((len(queries), k))
    position = np.empty((len(queries), k), dtype=np.int64)
    rows = max(1, _BLOCK_PAIRS // max(min(len(others), _OTHERS_TOGETHER) + k, 1))
    for block in _slices(len(queries), rows):
        best = np.full((block.stop - block.start, 0), 0.0, np.float32)
        where = np.empty((block.stop - block.start, 0), dtype=np.int64)
        for part in _slices(len(others), _OTHERS_TOGETHER):
            found = queries[block] @ others[part].T
            near = _largest(found, k)
            best = np.concatenate([best, np.take_along_axis(found, near, axis=1)], axis=1)
            where = np.concatenate([where, near + part.start], axis=1)
            kept = _largest(best, k)
            best = np.take_along_axis(best, kept, axis=1)
            where = np.take_along_axis(where, kept, axis=1)
        order = np.lexsort((where, -best), axis=1)
        position[block] = np.take_along_axis(where, order, axis=1)
        distance[block] = np.clip(1.0 - np.take_along_axis(best, order, axis=1), 0.0, 2.0)
    return Neighbours(distance, position)


def _by_faiss(queries: NDArray[Any], others: NDArray[Any], k: int) -> Neighbours:
    try:
        from faiss import IndexFlatIP
    except ImportError as error:
        raise MissingDependency("faiss-cpu", extra="faiss", purpose="--faiss") from error
    index = IndexFlatIP(others.shape[1])
    index.add(np.ascontiguousarray(others, dtype=np.float32))
    similarity, position = index.search(np.ascontiguousarray(queries, dtype=np.float32), k)
    order = np.lexsort((position, -similarity), axis=1)
    distance = np.clip(1.0 - np.take_along_axis(similarity, order, axis=1), 0.0, 2.0)
    return Neighbours(
        distance.astype(np.float64), np.take_along_axis(position, order, axis=1).astype(np.int64)
    )


def expected_nearest(distance: Floats, total: int, size: int) -> Floats:
    """Mean distance to the nearest of ``size`` images drawn without replacement from ``total``.

    The k-th nearest is the nearest drawn one when it is drawn and the k - 1 nearer ones are not.

    Args:
        distance: ``(N, k)`` ascending distances; those beyond k weigh less than 1e-12 when k is
            :func:`depth`.
        total: Images in the set.
        size: Images drawn, from 1 to ``total``.

    Returns:
        ``(N,)``.
    """
    weights = np.empty(distance.shape[1])
    missed = 1.0
    for k in range(len(weights)):
        left = total - k
        drawn = min(size / left, 1.0) if left else 1.0
        weights[k] = missed * drawn
        missed *= 1.0 - drawn
    return distance @ (weights / weights.sum())


def depth(total: int, size: int) -> int:
    """How many neighbours :func:`expected_nearest` needs."""
    if size >= total:
        return 1
    return min(total, int(np.ceil(np.log(_NEGLIGIBLE) / np.log1p(-size / total))))


def compare(
    generated: NDArray[Any],
    train: NDArray[Any],
    test: NDArray[Any],
    *,
    clusters: Sequence[Any] | None = None,
    strata: Sequence[Any] | None = None,
    units: Sequence[Any] | None = None,
    resamples: int = RESAMPLES,
    seed: int = BOOTSTRAP_SEED,
) -> Comparison:
    """Compare the distances to two real sets.

    Args:
        generated: ``(N, D)`` embeddings of unit norm.
        train: ``(M, D)``.
        test: ``(L, D)``.
        clusters: ``(N,)`` labels of generated images that depend on each other (samples of one
            prompt); they are resampled together.
        strata: ``(M + L,)`` labels within which membership is exchanged (the class).
        units: ``(M + L,)`` labels of real images that are exchanged together (the patient).
        resamples: Number of permutations.
        seed: Of the permutations.
    """
    size = min(len(train), len(test))
    near = [_nearest_and_expected(generated, real, size) for real in (train, test)]
    gaps, matched = near[0] - near[1]
    options: dict[str, Any] = {"clusters": clusters, "level": CONFIDENCE}
    return Comparison(
        n=len(generated),
        train=float(near[0][0].mean()),
        test=float(near[1][0].mean()),
        difference=mean_interval(gaps, **options),
        matched_size=size,
        matched_difference=mean_interval(matched, **options),
        p=permutation_p(
            generated, train, test, strata=strata, units=units, permutations=resamples, seed=seed
        ),
    )


def _nearest_and_expected(queries: NDArray[Any], others: NDArray[Any], size: int) -> Floats:
    """``(2, N)`` distance to the nearest image, and to that of ``size`` drawn ones.

    In blocks: a few images of many thousands need many thousand neighbours each.
    """
    k = depth(len(others), size)
    found = np.empty((2, len(queries)))
    for block in _slices(len(queries), max(1, _BLOCK_PAIRS // k)):
        distance = nearest(queries[block], others, k).distance
        found[:, block] = distance[:, 0], expected_nearest(distance, len(others), size)
    return found


def permutation_p(
    generated: NDArray[Any],
    train: NDArray[Any],
    test: NDArray[Any],
    *,
    strata: Sequence[Any] | None = None,
    units: Sequence[Any] | None = None,
    permutations: int = RESAMPLES,
    seed: int = BOOTSTRAP_SEED,
) -> float:
    """How often exchanging training and test images gives a difference at most as large.

    If the generator treats training images as it treats unseen ones, which real image is in which
    set does not matter. What is exchanged are whole patients, among those with as many images of
    each class, so that both sets keep their sizes and classes in every exchange.

    Args:
        generated: ``(N, D)`` embeddings of unit norm.
        train: ``(M, D)``.
        test: ``(L, D)``.
        strata: ``(M + L,)`` class of each real image; None for one class.
        units: ``(M + L,)`` patient of each real image; None makes every image its own.
        permutations: Number of random exchanges.
        seed: Seed of the draw.

    Returns:
        NaN where nothing can be exchanged: no patient of one set has a like in the other, or a
        patient is in both.
    """
    pool = np.concatenate([train, test])
    member = np.arange(len(pool)) < len(train)
    blocks = _exchangeable(member, strata, units)
    if not blocks:
        return math.nan
    depths = [depth(len(pool), len(side)) for side in (train, test)]
    near = nearest(generated, pool, max([k for k in depths if k <= _DEEPEST], default=1))

    def difference(member: NDArray[np.bool_]) -> float:
        first, second = (
            _mean_nearest(near, side)
            if k <= _DEEPEST
            else float(nearest(generated, pool[side]).distance.mean())
            for side, k in zip((member, ~member), depths, strict=True)
        )
        return first - second

    observed = difference(member)
    rng = np.random.default_rng(seed)
    limit = observed + (1e-12 if max(depths) <= _DEEPEST else _ROUNDING)
    lower = sum(difference(_exchanged(member, blocks, rng)) <= limit for _ in range(permutations))
    return (1 + lower) / (1 + permutations)


def nearer_than_real(distance: Floats, reference: Floats) -> NDArray[np.bool_]:
    """Which generated images lie nearer to training than every real test image does.

    Of images that are no copies, one in ``len(reference) + 1`` is expected to: see
    :func:`nearer_p`.

    Args:
        distance: ``(N,)`` distance of each generated image to its nearest training image.
        reference: ``(L,)`` the same of the real test images.
    """
    return distance < np.min(reference)


def nearer_p(
    distance: Floats,
    reference: Floats,
    *,
    clusters: Sequence[Any] | None = None,
    units: Sequence[Any] | None = None,
) -> float:
    """Probability that so many generated images are nearest without any copying.

    Were the ``N`` generated and ``L`` test images drawn alike, the ``k`` nearest of all would be
    generated ones with probability C(N, k) / C(N + L, k), whatever the distances. One image of each
    case and of each patient enters at a time, since several of one are not drawn alike; over the
    images of the cases the smallest p-value counts, times their number.

    Args:
        distance: ``(N,)`` distance of each generated image to its nearest training image.
        reference: ``(L,)`` the same of the real test images.
        clusters: ``(N,)`` case of each generated image; None makes every image its own.
        units: ``(L,)`` patient of each test image; None makes every image its own.
    """
    real = np.sort(reference[_first_of_each(units, len(reference)) == 0])
    turns = _first_of_each(clusters, len(distance))
    p_values = []
    for turn in range(int(turns.max(initial=-1)) + 1):
        own = distance[turns == turn]
        near = int((own < real[0]).sum())
        steps = np.arange(near)
        p_values.append(float(np.prod((len(own) - steps) / (len(own) + len(real) - steps))))
    return min(1.0, len(p_values) * min(p_values)) if p_values else math.nan


def excess_p(hits: NDArray[np.bool_], usual: NDArray[np.bool_]) -> float:
    """One-sided exact p-value that generated images are hits more often than real test images.

    Args:
        hits: ``(N,)`` whether each generated image sets off a detector against training images.
        usual: ``(L,)`` the same of real test images, one a patient.
    """
    from scipy.stats import fisher_exact

    table = [[int(each.sum()), int((~each).sum())] for each in (hits, usual)]
    return float(fisher_exact(table, alternative="greater").pvalue)


def _first_of_each(labels: Sequence[Any] | None, size: int) -> NDArray[np.int64]:
    """``(size,)`` how many rows of the same label come before each row."""
    codes, _ = cluster_codes(labels, size)
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], codes[order])
    turns = np.empty(size, dtype=np.int64)
    turns[order] = np.arange(size) - starts
    return turns


def _mean_nearest(near: Neighbours, side: NDArray[np.bool_]) -> float:
    """Mean distance to the nearest image of a side."""
    hits = side[near.position]
    # Where none of the k nearest is on this side the last one stands in, a lower limit.
    first = np.where(hits.any(axis=1), hits.argmax(axis=1), hits.shape[1] - 1)
    return float(np.take_along_axis(near.distance, first[:, None], axis=1).mean())


def _exchangeable(
    member: NDArray[np.bool_], strata: Sequence[Any] | None, units: Sequence[Any] | None
) -> list[NDArray[np.int64]]:
    """Rows of like units, ``(units, images)``, for every kind of unit that both sets hold."""
    classes, _ = cluster_codes(strata, len(member)) if strata is not None else (member * 0, 1)
    codes, count = cluster_codes(units, len(member))
    order = np.lexsort((classes, codes))
    alike: dict[tuple[Any, ...], list[NDArray[np.int64]]] = {}
    for rows in np.split(order, np.searchsorted(codes[order], np.arange(1, count))):
        if member[rows].all() or not member[rows].any():
            alike.setdefault(tuple(classes[rows]), []).append(rows)
    blocks = [np.array(rows) for rows in alike.values()]
    return [rows for rows in blocks if 0 < member[rows[:, 0]].sum() < len(rows)]


def _exchanged(
    member: NDArray[np.bool_], blocks: list[NDArray[np.int64]], rng: np.random.Generator
) -> NDArray[np.bool_]:
    """A membership in which like units changed places at random."""
    moved = member.copy()
    for rows in blocks:
        moved[rows] = member[rows[:, :1]][rng.permutation(len(rows))]
    return moved


def _largest(values: NDArray[Any], k: int) -> NDArray[np.int64]:
    """Columns of the ``k`` largest of each row, in any order; all where there are no more."""
    if values.shape[1] <= k:
        return np.broadcast_to(np.arange(values.shape[1]), values.shape)
    if k == 1:
        return values.argmax(axis=1)[:, None]
    return np.argpartition(-values, k - 1, axis=1)[:, :k]


def _slices(length: int, step: int) -> Iterator[slice]:
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))
