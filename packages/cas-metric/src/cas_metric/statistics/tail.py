"""The low-alignment tail: how many images fall below the lower quartile of the real ones.

Source: §4.2.2 and Appendix H. The paper reports rates alone; here the threshold is an estimate as
well, so its own sampling error enters the interval of the rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cas_metric.errors import InputError
from cas_metric.protocol import CONFIDENCE, LOW_PERCENTILE, QUANTILE_METHOD, TAIL_QUANTILE
from cas_metric.statistics.balanced import balanced_rate_part
from cas_metric.statistics.intervals import (
    TOO_FEW,
    Part,
    combine,
    effective_clusters,
    influence,
    rate_part,
    without_limits,
)
from cas_metric.statistics.quantiles import quantile_limits, root
from cas_metric.statistics.uncertainty import Codes, Floats, Interval, Labels, cluster_codes

#: Quantiles of Real at which the stability curve is drawn.
STABILITY_QUANTILES = tuple(round(0.05 * step, 2) for step in range(1, 11))


#: Cases of equal size from which on a relative reduction, a ratio of two small counts, has limits.
RELATIVE_CASES = 50


class TailStatistics(NamedTuple):
    """The tail of one set of generated images against one reference distribution.

    Attributes:
        tau: Threshold, with the interval between order statistics of the reference set.
        rate: Share of images with CAS below tau; its interval carries that of tau.
        p10: 10th percentile of the generated CAS.
        n: Number of scored images.
        n_low: How many of them are below tau.
    """

    tau: Interval
    rate: Interval
    p10: Interval
    n: int
    n_low: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: an interval becomes ``[low, high]`` beside its estimate."""
        return {
            "n": self.n,
            "n_low": self.n_low,
            "tau": self.tau.estimate,
            "tau_interval": [self.tau.low, self.tau.high],
            "rate": self.rate.estimate,
            "rate_interval": [self.rate.low, self.rate.high],
            "p10": self.p10.estimate,
            "p10_interval": [self.p10.low, self.p10.high],
        }


class Reduction(NamedTuple):
    """How far a rate lies below that of a baseline.

    Attributes:
        baseline: Name of the baseline.
        reading: Why it is "the strongest": ``lowest tail`` or ``best mean``.
        absolute: Baseline rate minus own rate, as a share (0.055 is 5.5 points).
        relative: The same as a share of the baseline rate; NaN for a baseline rate of 0.
    """

    baseline: str
    reading: str
    absolute: float
    relative: float


def finite(values: ArrayLike, what: str = "CAS") -> Floats:
    """The finite values as float64; an :class:`InputError` when there are none."""
    array = np.asarray(values, dtype=np.float64).ravel()
    array = array[np.isfinite(array)]
    if array.size == 0:
        raise InputError(
            f"no image has a finite {what}", fix="look at the status column of the run"
        )
    return array


def threshold(real_cas: ArrayLike, quantile: float = TAIL_QUANTILE) -> float:
    """Threshold tau: a quantile of the real images' CAS, the 25th percentile by protocol.

    Examples:
        >>> threshold([0.40, 0.44, 0.48, 0.52, 0.56])
        0.44
    """
    return float(np.quantile(finite(real_cas), quantile, method=QUANTILE_METHOD))


def low_rate(cas: ArrayLike, tau: float) -> float:
    """Share of the images whose CAS lies strictly below ``tau``.

    Examples:
        >>> low_rate([0.30, 0.44, 0.50, 0.60], tau=0.44)  # at tau is not below it
        0.25
    """
    return float(np.mean(finite(cas) < tau))


class Sample(NamedTuple):
    """CAS of some images, their clusters among those of the whole comparison, and their classes.

    Attributes:
        values: ``(N,)`` finite.
        codes: ``(N,)`` cluster of each image.
        classes: ``(N,)`` label of each image; None averages over images.
    """

    values: Floats
    codes: Codes
    classes: NDArray[Any] | None = None


def tail_statistics(
    cas: ArrayLike,
    real_cas: ArrayLike,
    *,
    clusters: Labels = None,
    real_clusters: Labels = None,
    quantile: float = TAIL_QUANTILE,
    level: float = CONFIDENCE,
) -> TailStatistics:
    """Threshold, rate and 10th percentile, each with an interval.

    The interval of the rate adds two errors, with their correlation over common cases: that of a
    share at the threshold as it is, and that of the threshold.

    Args:
        cas: ``(N,)`` of the generated images; NaN is left out.
        real_cas: ``(M,)`` of the reference distribution (Real, or the floor).
        clusters: ``(N,)`` patient or reference of each generated image.
        real_clusters: ``(M,)`` the same of each real image; equal labels are one case.
        quantile: Of the reference distribution.
        level: Nominal coverage.

    Returns:
        A limit is NaN where the clusters are too few for it: tau, and with it the rate, needs 13
        real ones, the 10th percentile 36 generated ones, unequal ones by their effective number.

    Raises:
        InputError: If either set has no finite CAS.

    Examples:
        >>> found = tail_statistics(np.linspace(0.2, 0.6, 40), np.linspace(0.3, 0.7, 40))
        >>> found.rate.low < found.rate.estimate < found.rate.high
        True
    """
    (generated, real), count = samples([(cas, clusters)], (real_cas, real_clusters))
    tau = threshold(real.values, quantile)
    limits = quantile_limits(real.values, quantile, real.codes, count, level)
    low = LOW_PERCENTILE / 100
    rates = tail_rates([generated], real, count, quantile=quantile, level=level)
    return TailStatistics(
        tau=Interval(tau, *limits, level),
        rate=rates.weighted([1.0]).interval(level, (0.0, 1.0)),
        p10=Interval(
            threshold(generated.values, low),
            *quantile_limits(generated.values, low, generated.codes, count, level),
            level,
        ),
        n=len(generated.values),
        n_low=int((generated.values < tau).sum()),
    )


def samples(
    sets: Sequence[tuple[ArrayLike, Labels]], real: tuple[ArrayLike, Labels]
) -> tuple[list[Sample], int]:
    """Sets of generated images and Real, with one numbering of their clusters.

    Args:
        sets: CAS and cluster labels of each generated set.
        real: The same of Real; equal labels are one case in all sets.

    Returns:
        The sets in order, Real last, and the number of clusters.

    Raises:
        InputError: If a set has no finite CAS.
    """
    values, names = [], []
    for k, (cas, labels) in enumerate((*sets, real)):
        column = np.asarray(cas, dtype=np.float64).ravel()
        kept = np.isfinite(column)
        values.append(finite(column, "CAS of Real" if k == len(sets) else "CAS"))
        own = np.arange(len(column)) if labels is None else np.asarray(labels)
        # Sets without labels share no case with any other.
        prefix = f"{k}:" if labels is None else ":"
        names.append(np.char.add(prefix, own[kept].astype(str)))
    codes, count = cluster_codes(np.concatenate(names), sum(map(len, values)))
    ends = np.cumsum([len(v) for v in values])[:-1]
    return [Sample(v, c) for v, c in zip(values, np.split(codes, ends), strict=True)], count


class Rates(NamedTuple):
    """Low-alignment rates of some sets under one estimated threshold.

    Attributes:
        parts: The rate of each set at the threshold as it is, with its own error.
        low: ``(S,)`` the rates at the lower limit of the threshold; NaN where it has none.
        high: ``(S,)`` the rates at its upper limit.
        influence: ``(C,)`` error of the threshold, in the direction in which rates rise.
    """

    parts: tuple[Part, ...]
    low: Floats
    high: Floats
    influence: Floats

    def weighted(self, weights: Sequence[float]) -> Part:
        """Weighted sum of the rates: the errors of the shares and of the threshold together."""
        factors = np.asarray(weights, dtype=np.float64)
        middle = float(sum(f * part.estimate for f, part in zip(factors, self.parts, strict=True)))
        ends = float(factors @ self.low) - middle, float(factors @ self.high) - middle
        if not np.isfinite(ends).all():
            return without_limits(middle, self.influence, TOO_FEW)
        errors = self.influence if ends[1] >= ends[0] else -self.influence
        moved = Part(0.0, min(0.0, *ends), max(0.0, *ends), errors)
        return combine([*self.parts, moved], [*factors, 1.0])


def tail_rates(
    sets: Sequence[Sample],
    real: Sample,
    count: int,
    *,
    quantile: float = TAIL_QUANTILE,
    level: float = CONFIDENCE,
) -> Rates:
    """Low-alignment rates of generated sets, and how they move with the threshold.

    Args:
        sets: Generated sets.
        real: The reference distribution that makes the threshold.
        count: Clusters of the whole comparison.
        quantile: Of the reference distribution.
        level: Nominal coverage.
    """
    tau = threshold(real.values, quantile)
    limits = quantile_limits(real.values, quantile, real.codes, count, level)
    low, high = (
        np.array([_plain_rate(one, end) if np.isfinite(end) else math.nan for one in sets])
        for end in limits
    )
    # Fewer real images below tau than there should be: tau is too high, and the rates with it.
    errors = -influence((real.values < tau).astype(np.float64), real.codes, count)
    parts = tuple(_rate_below(one, tau, count, level) for one in sets)
    return Rates(parts, low, high, errors)


def _rate_below(one: Sample, tau: float, count: int, level: float) -> Part:
    below = (one.values < tau).astype(np.float64)
    if one.classes is None:
        return rate_part(below, one.codes, count, level)
    return balanced_rate_part(below, one.classes, one.codes, count, level)


def _plain_rate(one: Sample, tau: float) -> float:
    below = one.values < tau
    if one.classes is None:
        return float(below.mean())
    return float(np.mean([below[one.classes == k].mean() for k in np.unique(one.classes)]))


def reduction_intervals(
    own: Sample,
    baseline: Sample,
    real: Sample,
    count: int,
    *,
    quantile: float = TAIL_QUANTILE,
    level: float = CONFIDENCE,
) -> tuple[Interval, Interval]:
    """Absolute and relative reduction of the tail against a baseline, under the shared threshold.

    The relative one holds every ratio of the two rates that the data do not contradict (Fieller);
    it has no limits with fewer than :data:`RELATIVE_CASES` cases, nor where the baseline's tail
    cannot be told from none.

    Args:
        own: The method.
        baseline: The baseline.
        real: The reference distribution that makes the threshold.
        count: Clusters of the whole comparison.
        quantile: Of the reference distribution.
        level: Nominal coverage.
    """
    rates = tail_rates([own, baseline], real, count, quantile=quantile, level=level)
    absolute = rates.weighted([-1.0, 1.0]).interval(level, (-1.0, 1.0))
    numerator, denominator = (part.estimate for part in rates.parts)
    few = min(effective_clusters(one.codes) for one in (own, baseline, real)) < RELATIVE_CASES
    if denominator == 0 or few or not np.isfinite(absolute.low):
        share = 1 - numerator / denominator if denominator else math.nan
        return absolute, Interval(share, math.nan, math.nan, level)
    ratio = numerator / denominator
    high = root(lambda at: rates.weighted([1.0, -at]).high, ratio, ratio + 20.0)
    low = 0.0
    if rates.weighted([1.0, 0.0]).low > 0:
        low = root(lambda at: -rates.weighted([1.0, -at]).low, ratio, 0.0)
    limits = (1 - high, 1 - low) if np.isfinite(high) else (math.nan, math.nan)
    return absolute, Interval(1 - ratio, *limits, level)


def reductions(
    rate: float, baselines: dict[str, tuple[float, float]]
) -> tuple[Reduction, Reduction]:
    """Reduction of the low-alignment rate against both readings of "the strongest baseline".

    The paper compares with the baseline of the lowest tail (§4.2.2); the baseline of the best mean
    CAS is the other reading, and on BreakHis the two differ.

    Args:
        rate: Low-alignment rate of the method.
        baselines: Name to (rate, mean CAS) of every baseline.

    Raises:
        InputError: If there is no baseline.

    Examples:
        >>> lowest, best = reductions(0.2, {"a": (0.4, 0.45), "b": (0.5, 0.48)})
        >>> lowest.baseline, round(lowest.absolute, 3), best.baseline, round(best.absolute, 3)
        ('a', 0.2, 'b', 0.3)
    """
    if not baselines:
        raise InputError("a reduction needs at least one baseline")
    lowest = min(baselines, key=lambda name: baselines[name][0])
    best = max(baselines, key=lambda name: baselines[name][1])
    return (
        _reduction(rate, lowest, "lowest tail", baselines[lowest][0]),
        _reduction(rate, best, "best mean", baselines[best][0]),
    )


def _reduction(rate: float, name: str, reading: str, baseline: float) -> Reduction:
    absolute = baseline - rate
    relative = absolute / baseline if baseline > 0 else float("nan")
    return Reduction(name, reading, absolute, relative)


def stability_curve(
    cas: ArrayLike, real_cas: ArrayLike, quantiles: Sequence[float] = STABILITY_QUANTILES
) -> list[tuple[float, float, float]]:
    """The rate at every choice of the quantile: ``(quantile, tau, rate)`` in the order given."""
    generated, real = finite(cas), finite(real_cas, "CAS of Real")
    taus = [threshold(real, quantile) for quantile in quantiles]
    return [
        (quantile, tau, low_rate(generated, tau))
        for quantile, tau in zip(quantiles, taus, strict=True)
    ]


def split_by_diagnosis(cas: ArrayLike, dd: ArrayLike, tau: float) -> dict[str, Any]:
    """The low-alignment tail among rightly and wrongly diagnosed images.

    Args:
        cas: ``(N,)``.
        dd: ``(N,)`` of zeros and ones.
        tau: The threshold.

    Returns:
        ``n_correct``, ``n_wrong``; ``rate_correct``, ``rate_wrong`` (NaN for an empty group); and
        ``share_wrong_of_low``, the part of the tail that a wrong diagnosis alone accounts for.

    Examples:
        >>> split_by_diagnosis([0.3, 0.5, 0.2], [1, 1, 0], tau=0.4)["share_wrong_of_low"]
        0.5
    """
    scores, correct = np.asarray(cas, dtype=np.float64), np.asarray(dd, dtype=np.float64) > 0.5
    scored = np.isfinite(scores)
    low = scored & (scores < tau)
    groups = {"correct": scored & correct, "wrong": scored & ~correct}
    result: dict[str, Any] = {}
    for name, members in groups.items():
        size = int(members.sum())
        result[f"n_{name}"] = size
        result[f"rate_{name}"] = float(low[members].mean()) if size else float("nan")
    total = int(low.sum())
    wrong = int((low & ~correct).sum())
    result["share_wrong_of_low"] = wrong / total if total else float("nan")
    return result
