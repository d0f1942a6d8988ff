"""Confidence intervals that cover at the sizes users have, from ten cases on.

Every estimate is held as a :class:`Part`: its value, its limits and what each *cluster* (patient,
reference or row) contributes to its error. Parts of one set of cases can then be added with their
correlation, so that the interval of a CAS, of a difference or of a low-alignment rate is built out
of intervals that are each right for their kind of quantity:

* **means**: Student's t with clusters - 1 degrees of freedom on the cluster-robust standard error;
* **rates**: Wilson's interval at the effective sample size n / design effect, so that it has a
  width where every image is right, too;
* **quantiles**: order statistics, with no distribution assumed (``quantiles.py``);
* **sums of these**: the square-and-add rule (MOVER), which keeps the skewness of each part;
* **any other statistic**: Student's t on the delete-one-cluster jackknife.

With one cluster there is no interval, and none of zero width is ever given: both ends are NaN, and
the part says why. A sum has no limits where the spread of one of its parts is not known.

Source: Liang and Zeger (1986); Wilson (1927) with the effective size of Korn and Graubard (1998);
Woodruff (1952); Zou and Donner (2008, Stat. Med. 27:1693) and Newcombe (1998); Efron and Tibshirani
(1993, ch. 11). Which of them covers was settled by simulation: ``benchmarks/statistics``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from cas_metric.protocol import CONFIDENCE
from cas_metric.statistics.uncertainty import (
    Codes,
    Floats,
    Interval,
    Labels,
    cluster_codes,
)

#: Rows of each cluster.
Sizes = Codes | Floats

#: Below this many clusters a table says that its intervals rest on few.
FEW_CLUSTERS = 10
#: A design effect is estimated, so it may fall below one, but not without bound.
MOST = 2.0
#: A spread below this share of the values' size is rounding, not spread.
ROUNDING = 1e-12

#: Why an estimate has no limits: there is no value, too little to tell its spread from, or none.
NO_VALUE = "no value"
TOO_FEW = "too few independent cases for an interval"
NO_SPREAD = "all cases have the same value, from which no interval follows"


class Part(NamedTuple):
    """An estimate, its limits and its error cluster by cluster.

    Attributes:
        estimate: The value.
        low: Lower limit; NaN where there is none.
        high: Upper limit.
        influence: ``(C,)`` what each cluster adds to the error, summing to zero; clusters are those
            of the whole comparison, zero where one has no row here.
        lacks: Why there are no limits: :data:`NO_VALUE`, :data:`TOO_FEW`, :data:`NO_SPREAD`; empty
            where there are.
    """

    estimate: float
    low: float
    high: float
    influence: Floats
    lacks: str = ""

    def interval(self, level: float, bounds: tuple[float, float] = (-np.inf, np.inf)) -> Interval:
        """As an interval, cut to what the quantity can be."""
        low, high = (float(np.clip(end, *bounds)) for end in (self.low, self.high))
        return Interval(self.estimate, low, high, level)


def without_limits(estimate: float, influence: Floats, lacks: str) -> Part:
    """A part that says why it has no limits."""
    return Part(estimate, math.nan, math.nan, influence, lacks)


def t_quantile(level: float, degrees: float) -> float:
    """Half-width of a two-sided Student interval in standard errors."""
    # Not scipy.stats.t.ppf, whose import takes longer than a whole report.
    from scipy.special import ndtri, stdtrit

    if not np.isfinite(degrees):
        return float(ndtri(0.5 + level / 2))
    return float(stdtrit(degrees, 0.5 + level / 2))


def wilson_limits(share: float, size: float, z: float) -> tuple[float, float]:
    """Wilson's limits of a share at any, also fractional, sample size."""
    scale = 2 * (size + z * z)
    middle = (2 * size * share + z * z) / scale
    spread = z / scale * math.sqrt(max(4 * size * share * (1 - share), 0.0) + z * z)
    low = 0.0 if share <= 0 else middle - spread
    return low, 1.0 if share >= 1 else middle + spread


def influence(values: Floats, codes: Codes, count: int) -> Floats:
    """``(C,)`` error of the mean of ``(N,)`` finite values, cluster by cluster."""
    return np.bincount(codes, weights=values - values.mean(), minlength=count) / len(values)


def variance(errors: Floats, sizes: Sizes) -> float:
    """Cluster-robust variance of a mean, each error divided by one minus its share of the rows.

    The square root of that factor makes it unbiased for independent rows (CR2 of Bell and
    McCaffrey 2002); for equal clusters both come to C / (C - 1).
    """
    share = sizes / sizes.sum()
    if share.max() >= 1:
        return math.nan
    return float((errors * errors / (1 - share)).sum())


def degrees(sizes: Sizes) -> float:
    """Degrees of freedom: the effective number of clusters less one; large clusters count less."""
    return max(float(sizes.sum()) ** 2 / float(sizes @ sizes) - 1, 1e-9)


def effective_clusters(codes: Codes) -> float:
    """Clusters of equal size that ``(N,)`` codes are worth; their number where all are equal."""
    return degrees(np.bincount(codes)) + 1


def mean_part(values: Floats, codes: Codes, count: int, level: float = CONFIDENCE) -> Part:
    """Mean of finite values with Student's limits.

    Args:
        values: ``(N,)`` finite.
        codes: ``(N,)`` cluster of each, from 0.
        count: Clusters of the whole comparison.
        level: Nominal coverage.
    """
    if not len(values):
        return nothing(count)
    sizes = np.bincount(codes, minlength=count)
    return mean_of_errors(float(values.mean()), influence(values, codes, count), sizes, level)


def rate_part(
    values: Floats,
    codes: Codes,
    count: int,
    level: float = CONFIDENCE,
    *,
    trials: int = 0,
    student: bool = False,
) -> Part:
    """Share with Wilson's limits at the effective sample size.

    The design effect compares the cluster-robust variance with that of independent images. Where
    every value is 0, or every one 1, it cannot be estimated: the size is then taken halfway, on a
    logarithmic scale, between the number of clusters and that of images.

    Args:
        values: ``(N,)`` finite, in [0, 1]: zeros and ones, or shares of several trials.
        codes: ``(N,)`` cluster of each, from 0.
        count: Clusters of the whole comparison.
        level: Nominal coverage.
        trials: Zeros and ones behind the values, N at least: bounds the effective size.
        student: Student's quantile in place of the normal one for independent images, too: for
            sums in which correlations are estimated.
    """
    if not len(values):
        return nothing(count)
    return rate_of_errors(
        float(np.clip(values.mean(), 0.0, 1.0)),
        influence(values, codes, count),
        np.bincount(codes, minlength=count),
        level,
        trials=trials,
        student=student or not np.isin(values, (0.0, 1.0)).all(),
    )


def nothing(count: int) -> Part:
    """The part of no value."""
    return without_limits(math.nan, np.zeros(count), NO_VALUE)


def mean_of_errors(mean: float, errors: Floats, sizes: Sizes, level: float = CONFIDENCE) -> Part:
    """:func:`mean_part` from what each cluster adds.

    Args:
        mean: Of at least one value.
        errors: ``(C,)`` what each cluster adds to its error.
        sizes: ``(C,)`` values of each cluster.
        level: Nominal coverage.
    """
    spread = math.sqrt(variance(errors, sizes))
    if math.isnan(spread):
        return without_limits(mean, errors, TOO_FEW)
    if spread <= ROUNDING * max(1.0, abs(mean)):
        return without_limits(mean, errors, NO_SPREAD)
    reach = t_quantile(level, degrees(sizes)) * spread
    return Part(mean, mean - reach, mean + reach, errors)


def rate_of_errors(
    share: float,
    errors: Floats,
    sizes: Sizes,
    level: float = CONFIDENCE,
    *,
    trials: int = 0,
    student: bool = False,
) -> Part:
    """:func:`rate_part` from what each cluster adds; arguments as there and in `mean_of_errors`."""
    n, clusters = float(sizes.sum()), int((sizes > 0).sum())
    if clusters < 2:
        return without_limits(share, errors, TOO_FEW)
    fewest = n * n / float(sizes @ sizes)
    simple = share * (1 - share) / max(n - 1, 1)
    found = variance(errors, sizes)
    effective = n * simple / found if found > ROUNDING**2 and simple > 0 else math.sqrt(fewest * n)
    effective = min(max(effective, fewest), MOST * max(trials, n))
    z = t_quantile(level, math.inf if clusters == n and not student else degrees(sizes))
    return Part(share, *wilson_limits(share, effective, z), errors)


def combine(parts: Sequence[Part], weights: Sequence[float]) -> Part:
    """Weighted sum of parts with limits by square and add, correlations included.

    Args:
        parts: Over the same clusters. One that does not vary adds nothing to the width; one whose
            spread is not known leaves the sum without limits.
        weights: Factor of each; negative ones turn its limits round, 0 leaves it out.
    """
    factors = np.asarray(weights, dtype=np.float64)
    errors = np.stack([f * part.influence for f, part in zip(factors, parts, strict=True)])
    total = float(sum(f * part.estimate for f, part in zip(factors, parts, strict=True)))
    lacking = [part.lacks for f, part in zip(factors, parts, strict=True) if f]
    unknown = [reason for reason in lacking if reason not in ("", NO_SPREAD)]
    if unknown or all(lacking):
        return without_limits(total, errors.sum(axis=0), (*unknown, NO_SPREAD)[0])
    below, above = np.zeros(len(parts)), np.zeros(len(parts))
    for k, (part, factor) in enumerate(zip(parts, factors, strict=True)):
        if factor and not part.lacks:
            reach = factor * np.array([part.estimate - part.low, part.high - part.estimate])
            below[k], above[k] = reach if factor > 0 else -reach[::-1]
    norms = np.sqrt((errors * errors).sum(axis=1))
    scaled = errors / np.where(norms > 0, norms, 1.0)[:, None]
    together = scaled @ scaled.T
    np.fill_diagonal(together, 1.0)
    down, up = (math.sqrt(max(float(r @ together @ r), 0.0)) for r in (below, above))
    if not (down > 0 or up > 0):  # two that cancel
        return without_limits(total, errors.sum(axis=0), NO_SPREAD)
    return Part(total, total - down, total + up, errors.sum(axis=0))


def student_part(estimate: float, errors: Floats, level: float = CONFIDENCE) -> Part:
    """An estimate with Student's limits, given what each of equal clusters adds to its error."""
    count = len(errors)
    spread = math.sqrt(count / (count - 1) * float(errors @ errors)) if count > 1 else math.nan
    if not spread > ROUNDING:
        return without_limits(estimate, errors, NO_SPREAD if count > 1 else TOO_FEW)
    reach = t_quantile(level, count - 1) * spread
    return Part(estimate, estimate - reach, estimate + reach, errors)


def mean_interval(
    values: ArrayLike, *, clusters: Labels = None, level: float = CONFIDENCE
) -> Interval:
    """Mean of the finite values with Student's interval over clusters.

    Args:
        values: ``(N,)``; NaN rows (failed images) are left out.
        clusters: ``(N,)`` labels of what belongs together; None makes every row its own.
        level: Nominal coverage.

    Returns:
        NaN limits with one cluster or without any spread; all NaN without a finite value.

    Examples:
        >>> round(mean_interval([0.4, 0.5, 0.6, 0.5]).low, 3)
        0.37
    """
    kept, codes, count = finite_clusters(values, clusters)
    return mean_part(kept, codes, count, level).interval(level)


def rate_interval(
    values: ArrayLike, *, clusters: Labels = None, level: float = CONFIDENCE, trials: int = 0
) -> Interval:
    """Mean of finite zeros and ones with Wilson's interval at the effective sample size.

    Args:
        values: ``(N,)`` in [0, 1]; NaN is left out.
        clusters: ``(N,)`` labels of what belongs together; None makes every row its own.
        level: Nominal coverage.
        trials: Zeros and ones behind the values where these are shares.

    Examples:
        >>> found = rate_interval([1, 1, 1, 1])
        >>> round(found.low, 3), found.high  # four of four do not prove "always"
        (0.51, 1.0)
    """
    kept, codes, count = finite_clusters(values, clusters)
    return rate_part(kept, codes, count, level, trials=trials).interval(level, (0.0, 1.0))


def jackknife_interval(
    estimate: float,
    without: ArrayLike,
    *,
    level: float = CONFIDENCE,
    scale: tuple[Callable[..., Floats], Callable[..., Floats]] | None = None,
) -> Interval:
    """Student's interval on the spread of a statistic when each cluster is left out in turn.

    Args:
        estimate: The statistic of all clusters.
        without: ``(C,)`` the statistic without each cluster; NaN where it is undefined.
        level: Nominal coverage.
        scale: A transform on which the statistic is nearer to normal, and its inverse.

    Returns:
        NaN limits where the statistic is undefined without some cluster, or never changes.
    """
    there, back = scale or (np.asarray, np.asarray)
    with np.errstate(divide="ignore", invalid="ignore"):
        left, middle = there(np.asarray(without, dtype=np.float64)), float(there(estimate))
    count = len(left)
    unknown = Interval(float(estimate), math.nan, math.nan, level)
    if count < 2 or not (np.isfinite(left).all() and np.isfinite(middle)):
        return unknown
    spread = math.sqrt((count - 1) / count * float(((left - left.mean()) ** 2).sum()))
    if not spread > ROUNDING:
        return unknown
    reach = t_quantile(level, count - 1) * spread
    low, high = float(back(middle - reach)), float(back(middle + reach))
    return Interval(float(estimate), low, high, level)


def finite_clusters(values: ArrayLike, clusters: Labels) -> tuple[Floats, Codes, int]:
    """The finite values and the numbers of their clusters."""
    column = np.asarray(values, dtype=np.float64).reshape(-1)
    present = np.isfinite(column)
    if clusters is not None:
        clusters = np.asarray(clusters)
        if clusters.shape != column.shape:
            cluster_codes(clusters, len(column))  # says what is wrong
        clusters = clusters[present]
    codes, count = cluster_codes(clusters, int(present.sum()))
    return column[present], codes, count
