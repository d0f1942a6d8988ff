"""How many cases and raters it takes to find a difference, before anyone has ranked anything.

The test is the one that ``cas preference`` reports: the exact test over cases of
:mod:`cas_metric.statistics.pair_tests`, run on simulated studies. Raters who look at the same
case agree more than chance has it, so that a second rater is worth less than a second case. Over
many cases the power follows from Student's distribution.

Source: Mosimann (1962) for answers that are correlated within cases; Donner and Klar (2000) for the
variance of their mean; Cohen (1988) for the power of Student's test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cas_metric.errors import InputError
from cas_metric.statistics.pair_tests import whole_p_values

#: Beyond this many cases a study of rankings is out of reach.
MAX_CASES: Final = 100_000
MIN_CASES: Final = 4
#: Studies that are simulated, up to this size: cases squared times raters.
STUDIES: Final = 5_000
SIMULATED: Final = 30_000


@dataclass(frozen=True)
class Plan:
    """What is expected of a comparison of two methods.

    Attributes:
        win_rate: Share of answers that prefer the better method, between 0.5 and 1, ties as halves.
        correlation: Of two raters' preferences of one case: 0 as if they saw different cases, 1 as
            if the second only repeated the first.
        ties: Share of answers without a preference.
        alpha: Two-sided level of the test.
        comparisons: How many pairs of methods are tested; the level is divided by it.

    Raises:
        InputError: A value out of its range.
    """

    win_rate: float
    correlation: float = 0.3
    ties: float = 0.0
    alpha: float = 0.05
    comparisons: int = 1

    def __post_init__(self) -> None:
        if not 0.5 < self.win_rate < 1:
            raise InputError(
                f"a win rate of {self.win_rate:g}", fix="give one between 0.5 (no difference) and 1"
            )
        if not 0 <= self.ties < 2 * min(self.win_rate, 1 - self.win_rate):
            raise InputError(
                f"{self.ties:g} ties leave no room for a win rate of {self.win_rate:g}",
                fix="ties count as half a win of each method",
            )
        for name, value in (("correlation", self.correlation), ("alpha", self.alpha)):
            if not 0 <= value <= 1:
                raise InputError(f"{name} {value:g}", fix="give a number from 0 to 1")

    def spread(self, raters: int) -> float:
        """Standard deviation, over cases, of the share of raters who prefer the better method."""
        answer = self.win_rate * (1 - self.win_rate) - self.ties / 4
        return float(np.sqrt(answer * (1 + (raters - 1) * self.correlation) / raters))


def power(plan: Plan, cases: int, raters: int) -> float:
    """Chance that the test finds the difference.

    Args:
        plan: What is expected.
        cases: At least 2.
        raters: At least 1; each judges every case.

    Examples:
        >>> round(power(Plan(win_rate=0.7), cases=400, raters=1), 2)
        1.0
    """
    if cases**2 * raters <= SIMULATED:
        return float(_simulated(plan, cases, raters)[-1])
    return _approximate(plan, cases, raters)


def _approximate(plan: Plan, cases: int, raters: int) -> float:
    """Power over many cases: Student's, of the error without a difference and whole answers."""
    from scipy.stats import nct, t

    freedom, spread, gain = cases - 1, plan.spread(raters), plan.win_rate - 0.5
    shift = (gain - 0.5 / (cases * raters)) / spread * np.sqrt(cases)
    bound = t.isf(plan.alpha / plan.comparisons / 2, freedom) * np.hypot(spread, gain) / spread
    return float(nct.sf(bound, freedom, shift))


def _simulated(plan: Plan, cases: int, raters: int) -> NDArray[np.float64]:
    """``(cases,)`` share of simulated studies of 1, 2, … cases in which the test finds it."""
    net = draw_answers(plan, cases, raters, STUDIES)
    level = plan.alpha / plan.comparisons
    return np.asarray((whole_p_values(net) <= level).mean(axis=0))


def draw_answers(
    plan: Plan, cases: int, raters: int, studies: int, seed: int = 0
) -> NDArray[np.intp]:
    """Raters for the better method less raters for the other, ``(studies, cases)``.

    The chances of a case are drawn from a Dirichlet distribution, which gives any two raters the
    same correlation. The first cases are the same however many follow.
    """
    of_cases, of_raters = (np.random.default_rng([seed, k]) for k in range(2))
    size = (cases, studies)
    win = plan.win_rate - plan.ties / 2
    mean = np.array([win, 1 - win - plan.ties, plan.ties])
    if plan.correlation == 0:
        chance = np.broadcast_to(mean, (*size, 3))
    elif plan.correlation == 1:
        chance = of_cases.multinomial(1, mean, size).astype(np.float64)
    else:
        chance = np.zeros((*size, 3))
        total = mean[mean > 0] * (1 / plan.correlation - 1)
        chance[:, :, mean > 0] = of_cases.dirichlet(total, size)
    drawn = of_raters.multinomial(raters, chance)
    return np.asarray(drawn[:, :, 0] - drawn[:, :, 1]).T


def cases_needed(plan: Plan, raters: int, wanted: float = 0.8) -> int | None:
    """Fewest cases from which on the difference is found with a chance of ``wanted``.

    Returns:
        None beyond :data:`MAX_CASES`.
    """
    low, high = MIN_CASES - 1, MIN_CASES
    while _approximate(plan, high, raters) < wanted:
        low, high = high, 2 * high
        if high > MAX_CASES:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        found = _approximate(plan, middle, raters) >= wanted
        low, high = (low, middle) if found else (middle, high)
    most = high + high // 2 + 10
    if most**2 * raters > SIMULATED:
        return high
    # With a case more the power of an exact test can fall: the last number that misses it counts.
    missed = np.flatnonzero(_simulated(plan, most, raters) < wanted)
    return int(missed[-1]) + 2 if len(missed) else MIN_CASES
