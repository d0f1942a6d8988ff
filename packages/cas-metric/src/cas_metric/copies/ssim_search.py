"""The most similar pairs of two sets of images by SSIM, over all pairs, exactly.

All pairs are evaluated in float32, which finds the candidates: the pairs that lie within
:data:`~cas_metric.copies.ssim.TOLERANCE` of a query's greatest similarity or of the
threshold. Those alone are evaluated again in float64, and only these values are reported.

Pruning is exact. The local covariance is at most the product of the local standard deviations
(Cauchy-Schwarz), which bounds the similarity at each position by two terms of the form
``g(a, b) = (2ab + C) / (a² + b² + C)`` with a, b ≥ 0, one of means and one of deviations. g grows
as its arguments approach each other, so over a tile it is at most its value at the closest ends
of their ranges there. A pair is given up as soon as the strips that were summed and the bounds of
the others cannot reach what was already found. This needs intensities that are not negative.

Source: the counts and maxima of Table 17 (Appendix M of the paper); the bound is ours.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cas_metric.copies.ssim import (
    TOLERANCE,
    Constants,
    Floats,
    Moments,
    check,
    moments,
    paired,
    similarities,
)
from cas_metric.errors import InputError
from cas_metric.protocol import SSIM_THRESHOLD

#: Queries that share one strip of the other images; eight strips fit a 1 MB cache at 256×256.
_QUERIES_TOGETHER: Final = 8
#: Others that are compared before the limits of the queries are raised.
_OTHERS_TOGETHER: Final = 64
#: Images whose moments are held at once, as pixels (of 12 bytes each).
_CHUNK_PIXELS: Final = 32_000_000
#: Side of the thumbnails whose correlation says which pair to evaluate first.
_THUMBNAIL: Final = 16

#: Pairs above the threshold that are evaluated again and listed of one query, at least.
LISTED: Final = 16

#: Told after every step with (done, total) pairs.
Progress = Callable[[int, int], None]


class NearestSsim(NamedTuple):
    """The most similar image of the other set to each query, over all pairs.

    Attributes:
        value: ``(N,)`` similarity in [-1, 1]; NaN where only pairs above the threshold were
            asked for and there is none.
        position: ``(N,)`` where it is, the first of several equal ones; -1 where NaN.
        above: ``(P, 2)`` pairs (query, other) above the threshold, at most :data:`LISTED` a query.
        above_value: ``(P,)`` their similarity.
        counts: ``(N,)`` how many others are above the threshold, listed or not.
        work: Share of the strips of all pairs that were evaluated; 1 without pruning.
    """

    value: Floats
    position: NDArray[np.int64]
    above: NDArray[np.int64]
    above_value: Floats
    work: float
    counts: NDArray[np.int64]


@dataclass(frozen=True)
class Search:
    """How to go through all pairs.

    Attributes:
        data_range: Range of the intensities, 255 for 8-bit.
        threshold: Pairs above it are listed.
        maximum: Find the greatest similarity of every query too; without, pruning is far
            stronger, since nothing below the threshold matters.
        prune: Give up the pairs that their bound excludes; the answer is the same without.
        workers: Threads; None uses every core.
        device: ``cpu``, or a torch device such as ``cuda``, which evaluates every pair.
        progress: Told how many pairs are done.
    """

    data_range: float = 255.0
    threshold: float = SSIM_THRESHOLD
    maximum: bool = True
    prune: bool = True
    workers: int | None = None
    device: str = "cpu"
    progress: Progress | None = None


def nearest(
    queries: NDArray[Any], others: NDArray[Any], search: Search | None = None
) -> NearestSsim:
    """The most similar of ``others`` to each query and all pairs above a threshold.

    Args:
        queries: ``(N, H, W)`` grey images, not negative.
        others: ``(M, H, W)`` of the same shape.
        search: How to go through the pairs.

    Raises:
        InputError: If the shapes differ or ``others`` is empty.
    """
    search = search or Search()
    if queries.shape[1:] != others.shape[1:] or not len(others):
        raise InputError(f"SSIM compares equal sizes, not {queries.shape} with {others.shape}")
    step = max(1, _CHUNK_PIXELS // int(np.prod(queries.shape[1:])))
    parts, work = [], 0.0
    for rows in _slices(len(queries), step):
        coarse, share = _coarse(queries[rows], others, search, step, rows.start)
        parts.append(_refine(queries[rows], others, coarse, search, rows.start))
        work += share * len(coarse) / len(queries)
    value, index, above, above_value, count = (
        np.concatenate(columns) for columns in zip(*parts, strict=True)
    )
    return NearestSsim(value, index, above, above_value, work, count)


def _coarse(
    queries: NDArray[Any], others: NDArray[Any], search: Search, step: int, before: int
) -> tuple[NDArray[np.float32], float]:
    """Similarity in float32 of all pairs, minus infinity where one was given up, and the work."""
    total = (before + len(queries)) * len(others) if search.progress else 0
    table = np.empty((len(queries), len(others)), np.float32)
    if search.device != "cpu":
        from cas_metric.copies.ssim_torch import similarities as on_device

        check(queries)
        check(others)
        for block in _slices(len(others), step):
            table[:, block] = on_device(
                queries, others[block], data_range=search.data_range, device=search.device
            )
        return table, 1.0
    prepared = moments(queries, data_range=search.data_range)
    limits = _first_limits(queries, others, search)
    done = 0.0
    with ThreadPoolExecutor(search.workers or os.cpu_count() or 1) as pool:
        for block in _slices(len(others), step):
            against = moments(others[block], data_range=search.data_range)
            task = _Task(prepared, against, search, limits, table[:, block])
            tiles = list(_slices(len(queries), _QUERIES_TOGETHER))
            for tile, share in zip(tiles, pool.map(task.run, tiles), strict=True):
                done += share * (tile.stop - tile.start) * (block.stop - block.start)
                if search.progress:
                    finished = before * len(others) + len(queries) * block.start
                    finished += tile.stop * (block.stop - block.start)
                    search.progress(finished, max(total, finished))
    return table, done / table.size


def _first_limits(queries: NDArray[Any], others: NDArray[Any], search: Search) -> Floats:
    """What a pair has to reach at least, from one promising pair a query: ``(N,)``."""
    if not search.prune:
        return np.full(len(queries), -np.inf)
    if not search.maximum:
        return np.full(len(queries), search.threshold)
    one, other = _thumbnails(queries), _thumbnails(others)
    lead = np.concatenate([(one[rows] @ other.T).argmax(axis=1) for rows in _slices(len(one), 256)])
    return np.minimum(paired(queries, others[lead], data_range=search.data_range), search.threshold)


@dataclass(frozen=True)
class _Task:
    """Queries against one chunk of others, a few queries at a time; runs in a thread."""

    queries: Moments
    others: Moments
    search: Search
    limits: Floats
    table: NDArray[np.float32]

    def run(self, tile: slice) -> float:
        """Fill the rows of ``tile``, raise their limits, and return the share of work done."""
        shape = self.queries.means.shape[1:]
        positions = int(np.prod(shape))
        constants = Constants.of(shape, self.search.data_range, np.float32)
        one = self.queries.part(tile)
        summed = 0
        for block in _slices(self.table.shape[1], _OTHERS_TOGETHER):
            out = np.empty((len(one.pixels), block.stop - block.start))
            # Twice: neither what was found nor what it is compared with is free of rounding.
            limits = (self.limits[tile] - 2 * TOLERANCE) * positions
            summed += constants.evaluate(one, self.others.part(block), limits, out)
            out /= positions
            self.table[tile, block] = out
            if self.search.prune and self.search.maximum:
                best = np.minimum(out.max(axis=1), self.search.threshold)
                self.limits[tile] = np.maximum(self.limits[tile], best)
        return summed / (len(constants.weights) * len(one.pixels) * self.table.shape[1])


def _refine(
    queries: NDArray[Any],
    others: NDArray[Any],
    coarse: NDArray[np.float32],
    search: Search,
    offset: int,
) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64], Floats, NDArray[np.int64]]:
    """Evaluate the candidates again in float64: value, index, pairs above, values, counts."""
    value, index = np.full(len(queries), np.nan), np.full(len(queries), -1)
    counts = np.zeros(len(queries), np.int64)
    above, above_value = [np.empty((0, 2), np.int64)], [np.empty(0)]

    def candidates(i: int) -> tuple[NDArray[np.int64], Floats, int]:
        return _evaluate_candidates(queries[i : i + 1], others, coarse[i], search)

    with ThreadPoolExecutor(search.workers or os.cpu_count() or 1) as pool:
        for i, (chosen, exact, certain) in enumerate(pool.map(candidates, range(len(queries)))):
            high = exact > search.threshold
            counts[i] = certain + high.sum()
            above.append(np.stack([np.full(high.sum(), i + offset), chosen[high]], axis=1))
            above_value.append(exact[high])
            if len(chosen) and (search.maximum or high.any()):
                best = int(exact.argmax())
                value[i], index[i] = exact[best], chosen[best]
    return value, index, np.concatenate(above), np.concatenate(above_value), counts


def _evaluate_candidates(
    query: NDArray[Any], others: NDArray[Any], row: NDArray[np.float32], search: Search
) -> tuple[NDArray[np.int64], Floats, int]:
    """Others that may be the most similar or above the threshold, and their SSIM in float64.

    Where more than :data:`LISTED` are above it beyond doubt, the first of the most similar ones
    stand for them, and the number of the others is returned.
    """
    floor = search.threshold - TOLERANCE
    if search.maximum:
        floor = min(floor, float(row.max()) - 2 * TOLERANCE)
    chosen = np.flatnonzero(row >= floor)
    sure = chosen[row[chosen] > search.threshold + TOLERANCE]
    left_out = sure[np.argsort(-row[sure], kind="stable")[LISTED:]]
    chosen = np.setdiff1d(chosen, left_out)
    exact = [
        similarities(query, others[chosen[part]], data_range=search.data_range)[0]
        for part in _slices(len(chosen), _OTHERS_TOGETHER)
    ]
    return chosen, np.concatenate([np.empty(0), *exact]), len(left_out)


def _thumbnails(images: NDArray[Any]) -> NDArray[np.float32]:
    """Block means, centred and of unit norm: ``(N, 256)`` or fewer."""
    rows, columns = (
        np.unique(np.linspace(0, side, min(_THUMBNAIL, side) + 1).astype(np.int64))[:-1]
        for side in images.shape[1:]
    )
    small = np.stack(
        [np.add.reduceat(np.add.reduceat(x, rows, 0), columns, 1).ravel() for x in images]
    ).astype(np.float32)
    small -= small.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(small, axis=1, keepdims=True)
    return small / np.maximum(norm, 1e-12)


def _slices(length: int, step: int) -> Iterator[slice]:
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))
