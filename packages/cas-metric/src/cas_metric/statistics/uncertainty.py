"""Intervals, clusters, and resamples whose unit is the case, not the image.

Images of one patient, or several samples made from one reference, are not independent: what is
drawn with replacement is therefore a *cluster*, and all its rows come along. A resample is held as
a vector of counts ("cluster 3 was drawn twice"), so that all methods see the same resamples.

Source: Efron and Tibshirani, *An Introduction to the Bootstrap* (1993), ch. 8 and 13. Means and
rates have better intervals, see :mod:`cas_metric.statistics.intervals`; resampled are statistics
that have no other, such as macro-F1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cas_metric.errors import InputError

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]
#: What groups the rows of a sample; None makes every row its own group.
Labels = Sequence[Any] | NDArray[Any] | None

#: Counts held at once; bounds memory at 32 MB whatever the number of cases.
_BLOCK_ELEMENTS = 4_000_000


class Interval(NamedTuple):
    """A point estimate with its confidence interval.

    Attributes:
        estimate: The statistic of the data as they are.
        low: Lower end of the interval; NaN where none could be made.
        high: Upper end of the interval.
        level: Nominal coverage, for example 0.95.

    Examples:
        >>> found = Interval(0.50, 0.47, 0.53, 0.95)
        >>> found.low <= 0.52 <= found.high
        True
    """

    estimate: float
    low: float
    high: float
    level: float


def percentile_interval(estimate: float, replicates: ArrayLike, level: float) -> Interval:
    """Interval between the two tail percentiles of the finite bootstrap replicates."""
    values = np.asarray(replicates, dtype=np.float64)
    values = values[np.isfinite(values)]
    if values.size == 0:
        return Interval(float(estimate), float("nan"), float("nan"), level)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(estimate), float(low), float(high), level)


def cluster_codes(clusters: Sequence[Any] | NDArray[Any] | None, size: int) -> tuple[Codes, int]:
    """Number the clusters.

    Args:
        clusters: One label a row; None makes every row its own cluster.
        size: Number of rows.

    Returns:
        ``(size,)`` codes from 0, and the number of clusters.

    Raises:
        InputError: If the number of labels is not ``size``.
    """
    if clusters is None:
        return np.arange(size), size
    labels = np.asarray(clusters)
    if labels.shape != (size,):
        raise InputError(f"{labels.size} cluster labels were given for {size} values")
    _, codes = np.unique(labels, return_inverse=True)
    return codes.reshape(-1), int(codes.max(initial=-1)) + 1


def resampling_counts(
    sizes: int | Sequence[int], resamples: int, seed: int
) -> Iterator[NDArray[np.float64]]:
    """How often each cluster is drawn in each resample, in blocks of bounded memory.

    Args:
        sizes: Number of clusters, or of the clusters of each stratum: strata are drawn
            independently and stand side by side. Every resample draws as many as there are, with
            replacement.
        resamples: Number of resamples over all blocks.
        seed: The same seed gives the same resamples, whatever is computed from them.

    Yields:
        ``(block, total)`` counts; the columns of a stratum sum to its size in every row.
    """
    strata = [sizes] if isinstance(sizes, int) else list(sizes)
    block = max(1, min(resamples, _BLOCK_ELEMENTS // max(sum(strata), 1)))
    if block == resamples:
        yield _whole(tuple(strata), resamples, seed)
        return
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        yield np.concatenate([_draw(rng, rows, size) for size in strata], axis=1)


@lru_cache(maxsize=1)
def _whole(strata: tuple[int, ...], resamples: int, seed: int) -> NDArray[np.float64]:
    """All resamples in one block, kept for the next statistic of as many clusters; read-only."""
    rng = np.random.default_rng(seed)
    counts = np.concatenate([_draw(rng, resamples, size) for size in strata], axis=1)
    counts.flags.writeable = False
    return counts


def _draw(rng: np.random.Generator, rows: int, size: int) -> NDArray[np.float64]:
    drawn = rng.integers(size, size=(rows, size), dtype=np.int64)
    drawn += np.arange(rows)[:, None] * size
    counts = np.bincount(drawn.ravel(), minlength=rows * size)
    return counts.reshape(rows, size).astype(np.float64)


def cluster_sums(values: Floats, codes: Codes, count: int) -> Floats:
    """Sum the rows of ``values`` ``(N, M)`` within each cluster: ``(count, M)``."""
    sums = np.zeros((count, values.shape[1]))
    np.add.at(sums, codes, values)
    return sums
