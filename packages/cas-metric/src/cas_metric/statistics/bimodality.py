"""When the threshold tau sits on the edge between the two modes of Real.

A real image has SFS = 1 and DD in {0, 1}, so its CAS is a mixture of two narrow modes a quarter
apart: (VDC + CCS + 1) / 4 where the probe errs and (VDC + CCS + 2) / 4 where it does not. The
quantile function of such a mixture jumps at the share of DD = 0. With the 25th percentile close to
that share, sampling noise decides in which mode tau falls, and the low-alignment rate with it: it
either counts little beyond wrong diagnoses or nearly every image.

The warning is raised when both hold:

1. the modes are apart: Ashman's D = sqrt(2) |m1 - m0| / sqrt(s0^2 + s1^2) exceeds 2
   (Ashman, Bird and Zepf 1994, AJ 108:2348);
2. the quantile lies within the confidence interval (Wilson's, at the effective number of patients)
   of the share of DD = 0 in Real, so another Real would put tau in the other mode with more than
   negligible probability.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from cas_metric.protocol import CONFIDENCE, TAIL_QUANTILE
from cas_metric.statistics.intervals import (
    influence,
    rate_part,
    t_quantile,
    variance,
    wilson_limits,
)
from cas_metric.statistics.tail import finite, threshold
from cas_metric.statistics.uncertainty import Codes, Floats, Labels, cluster_codes

#: Two normal modes are cleanly apart beyond this value of Ashman's D.
SEPARATION = 2.0


class Bimodality(NamedTuple):
    """Where tau lies in the mixture of Real.

    Attributes:
        wrong_share: Share of real images with DD = 0: where the quantile function jumps.
        wrong_low: Lower end of its Wilson interval.
        wrong_high: Upper end of its Wilson interval.
        separation: Ashman's D of the two modes; NaN with fewer than two images in either.
        gap: Median CAS with DD = 1 minus median CAS with DD = 0.
        mode: ``wrong`` or ``correct``: the mode that holds tau.
        flip_probability: Predictive probability that another Real sample of the same size puts tau
            in the other mode: the error of this sample and that of the next one both count.
        warning: Whether tau lies on the boundary.
    """

    wrong_share: float
    wrong_low: float
    wrong_high: float
    separation: float
    gap: float
    mode: str
    flip_probability: float
    warning: bool

    @property
    def message(self) -> str:
        """What the warning means for a reader; empty without one."""
        if not self.warning:
            return ""
        return (
            f"tau lies on the boundary between the two modes of Real: {self.wrong_share:.1%} of "
            f"the real images have DD = 0 (interval {self.wrong_low:.1%} to {self.wrong_high:.1%}) "
            f"and the modes are {self.gap:.3f} apart. Another sample of real images would put tau "
            f"in the other mode with probability {self.flip_probability:.2f}, so the low-alignment "
            "rate is not stable: read the stability curve and the rate of the graded score."
        )


def bimodality(
    real_cas: ArrayLike,
    real_dd: ArrayLike,
    *,
    clusters: Labels = None,
    quantile: float = TAIL_QUANTILE,
    level: float = CONFIDENCE,
) -> Bimodality:
    """Judge whether tau lies within a mode of Real or on the boundary between the modes.

    Args:
        real_cas: ``(M,)`` CAS of the real images; NaN is left out.
        real_dd: ``(M,)`` their DD, zeros and ones.
        clusters: ``(M,)`` patient of each real image; None makes every image its own.
        quantile: The quantile that makes tau.
        level: Coverage of the interval of the share of DD = 0.

    Raises:
        InputError: If no real image has a finite CAS.

    Examples:
        >>> dd = np.repeat([0.0, 1.0], [10, 30])  # a quarter wrong: tau lies on the edge
        >>> found = bimodality(0.25 * dd + np.linspace(0.2, 0.25, 40), dd)
        >>> found.wrong_share, found.warning
        (0.25, True)
    """
    values = np.asarray(real_cas, dtype=np.float64)
    kept = np.isfinite(values)
    correct = (np.asarray(real_dd, dtype=np.float64) > 0.5)[kept]
    scores = finite(values, "CAS of Real")
    wrong, right = scores[~correct], scores[correct]
    labels = None if clusters is None else np.asarray(clusters)[kept]
    codes, count = cluster_codes(labels, len(scores))
    errs = (~correct).astype(np.float64)
    share, low, high = rate_part(errs, codes, count, level)[:3]
    if math.isnan(low):  # one patient: nothing is known of another
        low, high = 0.0, 1.0
    separation = ashman_d(wrong, right)
    gap = float(np.median(right) - np.median(wrong)) if len(wrong) and len(right) else math.nan
    return Bimodality(
        wrong_share=share,
        wrong_low=low,
        wrong_high=high,
        separation=separation,
        gap=gap,
        mode=_mode_of(threshold(scores, quantile), wrong, right),
        flip_probability=_flip_probability(errs, codes, count, quantile),
        warning=bool(separation > SEPARATION and low <= quantile <= high),
    )


def wilson(successes: int, n: int, level: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927, JASA 22:209)."""
    # Not by scipy.stats.binomtest, whose import takes longer than a whole report; a test holds the
    # two equal.
    return wilson_limits(successes / n, n, t_quantile(level, math.inf))


def ashman_d(left: Floats, right: Floats) -> float:
    """Separation of two modes in units of their pooled spread; NaN below two values in either."""
    if min(len(left), len(right)) < 2:
        return math.nan
    spread = math.sqrt(float(left.var(ddof=1) + right.var(ddof=1)))
    distance = math.sqrt(2) * abs(float(right.mean() - left.mean()))
    return distance / spread if spread > 0 else math.inf


def _mode_of(tau: float, wrong: Floats, right: Floats) -> str:
    """The mode whose centre is nearer: with modes apart, the one that holds tau."""
    if not len(wrong) or not len(right):
        return "correct" if len(right) else "wrong"
    near_wrong = abs(tau - np.median(wrong)) < abs(tau - np.median(right))
    return "wrong" if near_wrong else "correct"


def _flip_probability(wrong: Floats, codes: Codes, count: int, quantile: float) -> float:
    """Probability that the share of DD = 0 of another sample lies across the quantile."""
    share = float(wrong.mean())
    # Of two samples, this one and the next; a share of 0 or 1 is no certainty.
    n = len(wrong)
    simple = (share * n + 1) / (n + 2) * (1 - (share * n + 1) / (n + 2)) / n
    found = variance(influence(wrong, codes, count), np.bincount(codes, minlength=count))
    error = math.sqrt(2 * max(simple, found if math.isfinite(found) else 0.0))
    return 0.5 * math.erfc(abs(share - quantile) / error / math.sqrt(2))
