"""Quantiles with limits between order statistics, for clusters as well.

The number of values below a quantile is binomial whatever the distribution, so its limits are
order statistics; ranks between two values are interpolated, and clusters shrink the sample to its
effective size.

Source: Woodruff (1952, J. Am. Stat. Assoc. 47:635); interpolation as in Nyblom (1992).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from cas_metric.protocol import CONFIDENCE, QUANTILE_METHOD
from cas_metric.statistics.intervals import (
    degrees,
    effective_clusters,
    finite_clusters,
    influence,
    t_quantile,
    variance,
)
from cas_metric.statistics.uncertainty import Codes, Floats, Interval, Labels


def quantile_interval(
    values: ArrayLike,
    quantile: float,
    *,
    clusters: Labels = None,
    level: float = CONFIDENCE,
) -> Interval:
    """Quantile of the finite values with limits between order statistics.

    The rank of a limit is that of the binomial count of values below the quantile; ranks between
    two values are interpolated. Clusters shrink the sample to its effective size.

    Args:
        values: ``(N,)``; NaN is left out.
        quantile: In (0, 1).
        clusters: ``(N,)`` labels of what belongs together; None makes every row its own.
        level: Nominal coverage.

    Returns:
        An end is NaN where the clusters are too few for it: the lower end of the 25th percentile
        needs 13 of equal size, that of the 10th 36; unequal ones count by their effective number.

    Examples:
        >>> quantile_interval(range(1, 101), 0.25).estimate
        25.75
        >>> quantile_interval(range(5), 0.25).low  # too few for a lower limit
        nan
    """
    kept, codes, count = finite_clusters(values, clusters)
    if not len(kept):
        return Interval(math.nan, math.nan, math.nan, level)
    estimate = float(np.quantile(kept, quantile, method=QUANTILE_METHOD))
    low, high = quantile_limits(kept, quantile, codes, count, level)
    return Interval(estimate, low, high, level)


def quantile_limits(
    values: Floats, quantile: float, codes: Codes, count: int, level: float = CONFIDENCE
) -> tuple[float, float]:
    """Limits of :func:`quantile_interval` for finite values with numbered clusters."""
    from scipy.special import betainc, ndtr

    n, ordered = len(values), np.sort(values)
    size, clusters = _effective_size(values, quantile, codes, count)
    if clusters < 2 or ordered[0] == ordered[-1]:
        return math.nan, math.nan
    beyond, worth = (1 - level) / 2, effective_clusters(codes)
    reachable = (1 - quantile) ** worth <= beyond, quantile**worth <= beyond
    if clusters < n:
        beyond = float(ndtr(-t_quantile(level, degrees(np.bincount(codes)))))
    limits = []
    for chance, exists in zip((1 - beyond, beyond), reachable, strict=True):
        # P(the k-th of n values lies below the quantile) = I_q(k, n + 1 - k), for any real k.
        def excess(k: float, chance: float = chance) -> float:
            return float(betainc(k, size + 1 - k, quantile)) - chance

        if not exists:
            limits.append(math.nan)
            continue
        rank = root(excess, 1.0, size)
        if math.isnan(rank):  # few large clusters: the outermost value will have to do
            rank = 1.0 if chance > 0.5 else size
        rank *= (n + 1) / (size + 1)
        limits.append(float(np.interp(rank, np.arange(1, n + 1), ordered)))
    low, high = limits
    return (math.nan, math.nan) if low == high else (low, high)


def _effective_size(values: Floats, quantile: float, codes: Codes, count: int) -> tuple[float, int]:
    """Independent values that the sample is worth at a quantile, and its clusters."""
    n, sizes = len(values), np.bincount(codes, minlength=count)
    clusters = int((sizes > 0).sum())
    if clusters == n:
        return float(n), clusters
    below = (values < np.quantile(values, quantile)).astype(np.float64)
    share, fewest = float(below.mean()), n * n / float(sizes @ sizes)
    found = variance(influence(below, codes, count), sizes)
    effective = n * share * (1 - share) / (n - 1) / found if found > 0 else fewest
    return min(max(effective, fewest), float(n)), clusters


def root(function: Callable[[float], float], inside: float, outside: float) -> float:
    """Where ``function`` turns negative between a point where it is not and one where it is.

    Returns:
        NaN where the two do not bracket a change of sign.
    """
    if not function(outside) < 0 or not function(inside) >= 0:
        return math.nan
    for _ in range(40):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if function(middle) >= 0 else (inside, middle)
    return (inside + outside) / 2
