"""Data with a known truth, drawn as the tools' users have them.

Two halves of everything: methods were chosen on the settings and seeds of ``choose`` and are
reported on those of ``confirm``, which no choice has seen.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm

Floats = NDArray[np.float64]


class Half(NamedTuple):
    """One half of the settings.

    Attributes:
        seed: Of all draws.
        rare: Range from which the probability of a rare outcome is drawn, data set by data set.
        common: The same of a common outcome.
        correlation: Of two outcomes of one patient.
        sizes: Fewest and most images of a patient.
        modes: Share of DD = 0 in Real, in the method and in the baseline; gain of the method in
            VDC + CCS + SFS over four.
        scores: Log-scores of the ranked methods.
    """

    seed: int
    rare: tuple[float, float]
    common: tuple[float, float]
    correlation: float
    sizes: tuple[int, int]
    modes: tuple[tuple[float, float, float, float], ...]
    scores: tuple[float, ...]


HALVES = {
    "choose": Half(
        1,
        (0.02, 0.10),
        (0.1, 0.9),
        0.2,
        (1, 7),
        ((0.1, 0.1, 0.3, 0.0), (0.4, 0.5, 0.7, 0.0)),
        (0.0, 0.3, 0.6, 1.0),
    ),
    "confirm": Half(
        1001,
        (0.03, 0.12),
        (0.15, 0.85),
        0.3,
        (2, 6),
        ((0.15, 0.12, 0.35, 0.01), (0.45, 0.4, 0.6, 0.0)),
        (0.0, 0.2, 0.8, 1.3),
    ),
}
#: Centre and spread of CAS without its diagnosis, and what the diagnosis adds.
CENTRE, SPREAD, GAP = 0.30, 0.02, 0.25


def patients(rng: Generator, half: Half, count: int) -> NDArray[np.intp]:
    """Patient of each image."""
    low, high = half.sizes
    return np.repeat(np.arange(count), rng.integers(low, high + 1, count))


def outcomes(rng: Generator, chance: float, who: NDArray[np.intp], correlation: float) -> Floats:
    """Zeros and ones that go together within a patient (beta-binomial)."""
    scale = 1 / correlation - 1
    own = rng.beta(chance * scale, (1 - chance) * scale, int(who.max()) + 1)
    return (rng.random(len(who)) < own[who]).astype(float)


def cas(rng: Generator, right: NDArray[Any], gain: float = 0.0) -> Floats:
    """CAS of images whose diagnosis is ``right``."""
    return CENTRE + gain + GAP * right + SPREAD * rng.normal(size=len(right))


def tail_truth(real: float, own: float, gain: float, quantile: float = 0.25) -> tuple[float, float]:
    """The true threshold and low-alignment rate of the mixtures of :func:`cas`."""

    def below(x: float, wrong: float, shift: float) -> float:
        z = (x - CENTRE - shift) / SPREAD
        return float(wrong * norm.cdf(z) + (1 - wrong) * norm.cdf(z - GAP / SPREAD))

    tau = brentq(lambda x: below(x, real, 0.0) - quantile, 0.0, 1.2)
    return tau, below(tau, own, gain)


def rankings(
    rng: Generator, scores: tuple[float, ...], cases: int, raters: int, taste: float = 0.0
) -> tuple[Floats, NDArray[np.intp]]:
    """Plackett-Luce rankings; ``taste`` is what the raters of a case share beyond the scores."""
    m = len(scores)
    worth = np.asarray(scores) + taste * rng.normal(size=(cases, 1, m))
    seen = worth + rng.gumbel(size=(cases, raters, m))
    ranks = (-seen).argsort(axis=2).argsort(axis=2) + 1.0
    return ranks.reshape(-1, m), np.repeat(np.arange(cases), raters)
