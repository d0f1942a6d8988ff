"""Bootstrap intervals whose unit is the case, not the image.

Images of one patient, or several samples made from one reference, are not independent: what is
drawn with replacement is therefore a *cluster*, and all its rows come along. A resample is held as
a vector of counts ("cluster 3 was drawn twice"), so that every mean of every method under every
resample is one matrix product, and all methods see the same resamples.

Source: Efron and Tibshirani, *An Introduction to the Bootstrap* (1993), ch. 8 and 13 (percentile
intervals); §A.3 of the paper (95% bootstrap intervals); number of resamples: ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cas_metric.errors import InputError
from cas_metric.protocol import BOOTSTRAP_SEED, CONFIDENCE, RESAMPLES

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


def bootstrap_means(
    values: ArrayLike,
    *,
    clusters: Sequence[Any] | NDArray[Any] | None = None,
    weights: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    seed: int = BOOTSTRAP_SEED,
) -> Floats:
    """Bootstrap replicates of the mean of every column, all under the same resamples.

    Args:
        values: ``(N, M)``: N rows, M quantities (methods, primitives). NaN is left out of its
            column alone.
        clusters: ``(N,)`` labels of what is drawn together; None draws rows.
        weights: ``(N,)`` weights of the rows in the mean; None weighs them alike.
        resamples: Number of resamples R.
        seed: Seed of the draw.

    Returns:
        ``(R, M)``; NaN where a resample holds no value of a column.
    """
    table = np.asarray(values, dtype=np.float64)
    codes, count = cluster_codes(clusters, len(table))
    present = np.isfinite(table)
    row_weights = np.ones(len(table)) if weights is None else np.asarray(weights, dtype=np.float64)
    mass = present * row_weights[:, None]
    totals = cluster_sums(np.where(present, table, 0.0) * mass, codes, count)
    masses = cluster_sums(mass, codes, count)
    replicates = []
    for counts in resampling_counts(count, resamples, seed):
        with np.errstate(invalid="ignore"):
            replicates.append((counts @ totals) / (counts @ masses))
    return np.concatenate(replicates) if replicates else np.empty((0, table.shape[1]))


def bootstrap_mean(
    values: ArrayLike,
    *,
    clusters: Sequence[Any] | NDArray[Any] | None = None,
    resamples: int = RESAMPLES,
    level: float = CONFIDENCE,
    seed: int = BOOTSTRAP_SEED,
) -> Interval:
    """Mean of the finite values with its percentile interval.

    Args:
        values: ``(N,)``; NaN rows (failed images) are left out.
        clusters: ``(N,)`` labels of what is drawn together; None draws rows.
        resamples: Number of resamples.
        level: Nominal coverage.
        seed: Seed of the draw.

    Returns:
        All NaN when no value is finite.
    """
    column = np.asarray(values, dtype=np.float64).reshape(-1, 1)
    codes, _ = cluster_codes(clusters, len(column))
    present = np.isfinite(column[:, 0])
    if not present.any():
        return Interval(float("nan"), float("nan"), float("nan"), level)
    column = column[present]
    replicates = bootstrap_means(column, clusters=codes[present], resamples=resamples, seed=seed)
    return percentile_interval(float(column.mean()), replicates[:, 0], level)


def bootstrap(
    statistic: Callable[[NDArray[Any]], float],
    values: ArrayLike,
    *,
    clusters: Sequence[Any] | NDArray[Any] | None = None,
    resamples: int = RESAMPLES,
    level: float = CONFIDENCE,
    seed: int = BOOTSTRAP_SEED,
) -> Interval:
    """Percentile interval of any statistic, one call a resample.

    For means and quantiles :func:`bootstrap_means` and :func:`bootstrap_quantiles` are far faster.

    Args:
        statistic: Maps rows to a number.
        values: ``(N, …)`` rows.
        clusters: ``(N,)`` labels of what is drawn together; None draws rows.
        resamples: Number of resamples.
        level: Nominal coverage.
        seed: Seed of the draw.
    """
    rows = np.asarray(values)
    codes, count = cluster_codes(clusters, len(rows))
    members = np.argsort(codes, kind="stable")
    groups = np.split(members, np.cumsum(np.bincount(codes, minlength=count))[:-1])
    rng = np.random.default_rng(seed)
    replicates = [
        statistic(rows[np.concatenate([groups[g] for g in rng.integers(count, size=count)])])
        for _ in range(resamples)
    ]
    return percentile_interval(float(statistic(rows)), replicates, level)


def bootstrap_quantiles(counts: ArrayLike, ordered: ArrayLike, quantile: float) -> Floats:
    """Linear quantile of each resample, from counts alone.

    Equal to ``np.quantile(np.repeat(ordered, counts[r]), quantile)`` for every resample ``r``.

    Args:
        counts: ``(R, N)`` how often each value occurs in each resample.
        ordered: ``(N,)`` values in ascending order.
        quantile: In [0, 1].

    Returns:
        ``(R,)``; NaN for a resample without any value.
    """
    values = np.asarray(ordered, dtype=np.float64)
    cumulative = np.cumsum(np.asarray(counts, dtype=np.float64), axis=1)
    size = cumulative[:, -1]
    position = quantile * np.maximum(size - 1, 0)
    floor = np.floor(position)
    # The k-th smallest of a resample is the first value whose cumulative count exceeds k.
    last = len(values) - 1
    below = np.minimum((cumulative <= floor[:, None]).sum(axis=1), last)
    above = (cumulative <= np.minimum(floor + 1, size - 1)[:, None]).sum(axis=1)
    lower, upper = values[below], values[np.minimum(above, last)]
    result = lower + (position - floor) * (upper - lower)
    return np.where(size > 0, result, np.nan)
