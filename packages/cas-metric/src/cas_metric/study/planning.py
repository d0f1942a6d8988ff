"""How many cases and raters it takes to find a difference, before anyone has ranked anything.

The test is the one that ``cas preference`` reports: Student's over cases, of the share of raters
who prefer one method to another. Raters who look at the same case agree more than chance has it, so
that a second rater is worth less than a second case.

Source: Donner and Klar (2000) for the variance of a mean of correlated answers; Cohen (1988) for
the power of Student's test by the noncentral t distribution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from cas_metric.errors import InputError

#: Beyond this many cases a study of rankings is out of reach.
MAX_CASES: Final = 100_000
MIN_CASES: Final = 4


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
        >>> round(power(Plan(win_rate=0.7), cases=50, raters=1), 2)
        0.86
    """
    from scipy.stats import nct, t

    freedom = cases - 1
    shift = (plan.win_rate - 0.5) / plan.spread(raters) * np.sqrt(cases)
    bound = t.isf(plan.alpha / plan.comparisons / 2, freedom)
    return float(nct.sf(bound, freedom, shift))


def cases_needed(plan: Plan, raters: int, wanted: float = 0.8) -> int | None:
    """Fewest cases with which the difference is found with a chance of ``wanted``.

    Returns:
        None beyond :data:`MAX_CASES`.
    """
    low, high = MIN_CASES - 1, MIN_CASES
    while power(plan, high, raters) < wanted:
        low, high = high, 2 * high
        if high > MAX_CASES:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(plan, middle, raters) >= wanted else (middle, high)
    return high
