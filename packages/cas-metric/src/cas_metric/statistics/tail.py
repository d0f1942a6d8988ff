"""The low-alignment tail: how many images fall below the lower quartile of the real ones.

Source: §4.2.2 and Appendix H. The paper reports rates alone; here the threshold is an estimate as
well, so its own sampling error enters the interval of the rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cas_metric.errors import InputError
from cas_metric.protocol import (
    BOOTSTRAP_SEED,
    CONFIDENCE,
    LOW_PERCENTILE,
    QUANTILE_METHOD,
    RESAMPLES,
    TAIL_QUANTILE,
)
from cas_metric.statistics.uncertainty import (
    Codes,
    Floats,
    Interval,
    bootstrap_quantiles,
    cluster_codes,
    percentile_interval,
    resampling_counts,
)

Labels = Sequence[Any] | NDArray[Any] | None

#: Quantiles of Real at which the stability curve is drawn.
STABILITY_QUANTILES = tuple(round(0.05 * step, 2) for step in range(1, 11))


class TailStatistics(NamedTuple):
    """The tail of one set of generated images against one reference distribution.

    Attributes:
        tau: Threshold, with the interval of the resampled reference set.
        rate: Share of images with CAS below tau, with both sets resampled.
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
    """Threshold tau: a quantile of the real images' CAS, the 25th percentile by protocol."""
    return float(np.quantile(finite(real_cas), quantile, method=QUANTILE_METHOD))


def low_rate(cas: ArrayLike, tau: float) -> float:
    """Share of the images whose CAS lies strictly below ``tau``."""
    return float(np.mean(finite(cas) < tau))


def tail_statistics(
    cas: ArrayLike,
    real_cas: ArrayLike,
    *,
    clusters: Labels = None,
    real_clusters: Labels = None,
    quantile: float = TAIL_QUANTILE,
    resamples: int = RESAMPLES,
    level: float = CONFIDENCE,
    seed: int = BOOTSTRAP_SEED,
) -> TailStatistics:
    """Threshold, rate and 10th percentile, each with an interval.

    Args:
        cas: ``(N,)`` of the generated images; NaN is left out.
        real_cas: ``(M,)`` of the reference distribution (Real, or the floor).
        clusters: ``(N,)`` patient or reference of each generated image.
        real_clusters: ``(M,)`` the same of each real image. Where the two share labels a resampled
            case brings both its generated and its real images along; otherwise the two sets are
            resampled on their own.
        quantile: Of the reference distribution.
        resamples: Number of resamples.
        level: Nominal coverage.
        seed: Seed of the draw.

    Raises:
        InputError: If either set has no finite CAS.
    """
    generated, generated_codes, real, real_codes, strata = _ordered(
        cas, real_cas, clusters, real_clusters
    )
    tau = threshold(real, quantile)
    n_low = int(np.searchsorted(generated, tau, side="left"))
    taus, rates, lows = [], [], []
    for counts in resampling_counts(strata, resamples, seed):
        weights, real_weights = counts[:, generated_codes], counts[:, real_codes]
        taus.append(bootstrap_quantiles(real_weights, real, quantile))
        rates.append(_rates(weights, generated, taus[-1]))
        lows.append(bootstrap_quantiles(weights, generated, LOW_PERCENTILE / 100))
    p10 = float(np.quantile(generated, LOW_PERCENTILE / 100, method=QUANTILE_METHOD))
    return TailStatistics(
        tau=percentile_interval(tau, np.concatenate(taus), level),
        rate=percentile_interval(n_low / len(generated), np.concatenate(rates), level),
        p10=percentile_interval(p10, np.concatenate(lows), level),
        n=len(generated),
        n_low=n_low,
    )


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


def _ordered(
    cas: ArrayLike, real_cas: ArrayLike, clusters: Labels, real_clusters: Labels
) -> tuple[Floats, Codes, Floats, Codes, list[int]]:
    """Both sets in ascending order, the columns of their clusters, and the strata to draw."""
    values = np.asarray(cas, dtype=np.float64).ravel()
    real = np.asarray(real_cas, dtype=np.float64).ravel()
    kept = np.isfinite(values), np.isfinite(real)
    generated, reference = finite(values), finite(real, "CAS of Real")
    labels = None if clusters is None else np.asarray(clusters)[kept[0]]
    real_labels = None if real_clusters is None else np.asarray(real_clusters)[kept[1]]
    if labels is not None and real_labels is not None and np.isin(labels, real_labels).any():
        joint = np.concatenate([labels, real_labels])
        codes, count = cluster_codes(joint, len(joint))
        codes, real_codes, strata = codes[: len(labels)], codes[len(labels) :], [count]
    else:
        codes, count = cluster_codes(labels, len(generated))
        real_codes, real_count = cluster_codes(real_labels, len(reference))
        real_codes, strata = real_codes + count, [count, real_count]
    order, real_order = np.argsort(generated), np.argsort(reference)
    return generated[order], codes[order], reference[real_order], real_codes[real_order], strata


def _rates(weights: Floats, ordered: Floats, taus: Floats) -> Floats:
    """Weighted share of ``ordered`` below each resample's own threshold."""
    cumulative = np.cumsum(weights, axis=1)
    below = np.searchsorted(ordered, taus, side="left")
    padded = np.concatenate([np.zeros((len(weights), 1)), cumulative], axis=1)
    with np.errstate(invalid="ignore"):
        return padded[np.arange(len(weights)), below] / cumulative[:, -1]
