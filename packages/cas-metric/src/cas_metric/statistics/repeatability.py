"""Whether a judge says the same of the same images in another order, and what its place is worth.

Source: Kendall (1938) for tau; Wilson (1927) for the interval of a rate. That a judge is shown
every case in balanced orders, and what is reported of it, is ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from cas_metric.protocol import CONFIDENCE
from cas_metric.statistics.intervals import mean_interval, rate_interval
from cas_metric.statistics.preference import Rankings
from cas_metric.statistics.uncertainty import Floats, Interval


class Repeatability(NamedTuple):
    """How far the rankings of a case in several orders agree.

    Attributes:
        n_cases: Cases with at least two rankings.
        kendall_tau: Mean over cases of the mean tau of their pairs of rankings: 1 says that the
            order of showing changes nothing, 0 that the rankings of a case are unrelated.
        same_first: Share of those cases in which every ranking has the same first.
        same_first_chance: What unrelated rankings would give.
    """

    n_cases: int
    kendall_tau: Interval
    same_first: Interval
    same_first_chance: float


class Place(NamedTuple):
    """What standing in one place was worth.

    Attributes:
        shown: Rankings with a candidate in this place.
        first: How many of them put it first.
        rate: ``first / shown`` with Wilson's interval, rankings of a case in one order together.
        mean_rank: Mean rank of what stood here.
    """

    shown: int
    first: int
    rate: Interval
    mean_rank: float


def repeatability(rankings: Rankings, *, level: float = CONFIDENCE) -> Repeatability | None:
    """Agreement of the rankings of each case, with intervals over cases.

    Args:
        rankings: Strict and complete; several of each case.
        level: Nominal coverage.

    Returns:
        None where no case has two rankings.
    """
    taus, same, chances = [], [], []
    m = len(rankings.methods)
    for case in dict.fromkeys(rankings.cases):
        ranks = rankings.ranks[rankings.cases == case]
        if len(ranks) < 2:
            continue
        taus.append(np.mean([_tau(a, b) for a, b in combinations(ranks, 2)]))
        firsts = ranks.argmin(axis=1)
        same.append(float((firsts == firsts[0]).all()))
        chances.append(m ** (1.0 - len(ranks)))
    if not taus:
        return None
    tau = mean_interval(taus, level=level)
    return Repeatability(
        n_cases=len(taus),
        kendall_tau=tau._replace(low=max(tau.low, -1.0), high=min(tau.high, 1.0)),
        same_first=rate_interval(same, level=level),
        same_first_chance=float(np.mean(chances)),
    )


def places(rankings: Rankings, *, level: float = CONFIDENCE) -> dict[int, Place]:
    """What each place was worth; see :func:`cas_metric.statistics.position_bias.position_bias`.

    Args:
        rankings: Strict rankings with positions.
        level: Nominal coverage.

    Returns:
        Place, from 1, to its figures.
    """
    if rankings.positions is None:
        return {}
    first = rankings.ranks == np.nanmin(rankings.ranks, axis=1, keepdims=True)
    # Raters who saw one order of a case are one witness; another order of it is another.
    orders = np.array([f"{case} {order.tolist()}" for case, order in _shown(rankings)])
    found = {}
    for place in np.unique(rankings.positions[np.isfinite(rankings.positions)]):
        here = rankings.positions == place
        shown, won = int(here.sum()), int((first & here).sum())
        kept = here.any(axis=1)
        won_here = (first & here).any(axis=1)[kept].astype(np.float64)
        bounds = rate_interval(won_here, clusters=orders[kept], level=level)
        found[int(place)] = Place(shown, won, bounds, float(rankings.ranks[here].mean()))
    return found


def _shown(rankings: Rankings) -> Iterator[tuple[Any, Floats]]:
    """Case and order of each ranking."""
    assert rankings.positions is not None
    return zip(rankings.cases, rankings.positions, strict=True)


def shown_counts(rankings: Rankings) -> dict[str, list[int]]:
    """How often each method stood in each place, first place first: the balance of the orders."""
    if rankings.positions is None:
        return {}
    m = len(rankings.methods)
    return {
        method: [int((rankings.positions[:, k] == place).sum()) for place in range(1, m + 1)]
        for k, method in enumerate(rankings.methods)
    }


def _tau(left: Floats, right: Floats) -> float:
    """Kendall's tau of two strict rankings."""
    from scipy.stats import kendalltau

    return float(kendalltau(left, right).statistic)
