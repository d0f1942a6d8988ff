"""Agreement of raters.

Source: Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability"; Kendall and Babington
Smith (1939) for W with the usual correction for ties.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cas_metric.protocol import CONFIDENCE
from cas_metric.statistics.intervals import jackknife_interval, mean_interval
from cas_metric.statistics.preference import Rankings
from cas_metric.statistics.uncertainty import Floats, Interval


class Agreement(NamedTuple):
    """How far raters who ranked the same cases agree.

    Attributes:
        n_raters: Raters.
        n_shared: Cases ranked by at least two of them.
        alpha: Krippendorff's alpha of the ranks (ordinal), intervals by leaving cases out: 1 is
            full agreement, 0 what chance gives.
        kendall_w: Mean over shared cases of Kendall's W; 1 is full agreement.
        kendall_w_chance: Expected W of unrelated rankings, the mean of 1 / raters.
    """

    n_raters: int
    n_shared: int
    alpha: Interval
    kendall_w: Interval
    kendall_w_chance: float


def agreement(rankings: Rankings, *, level: float = CONFIDENCE) -> Agreement | None:
    """Agreement over the cases that several raters ranked; None when there are none.

    Examples:
        >>> import pandas as pd
        >>> from cas_metric.statistics.preference import parse_rankings
        >>> votes = {"case": [1, 1, 2, 2], "rater": ["x", "y"] * 2}
        >>> votes |= {"a": [1, 1, 2, 2], "b": [2, 2, 1, 1]}
        >>> found = agreement(parse_rankings(pd.DataFrame(votes)))
        >>> found.n_raters, found.kendall_w.estimate
        (2, 1.0)
    """
    raters = sorted(set(rankings.raters))
    cases = sorted(set(rankings.cases))
    cube = np.full((len(cases), len(raters), len(rankings.methods)), np.nan)
    row = {case: k for k, case in enumerate(cases)}
    column = {rater: k for k, rater in enumerate(raters)}
    for case, rater, ranks in zip(rankings.cases, rankings.raters, rankings.ranks, strict=True):
        cube[row[case], column[rater]] = ranks
    present = np.isfinite(cube).any(axis=2).sum(axis=1)
    shared = cube[present > 1]
    if not len(shared):
        return None
    by_case = _coincidences_by_case(shared)
    whole = by_case.sum(axis=0)
    without = [_alpha_of(whole - one) for one in by_case]
    concordance = [kendall_w(case[np.isfinite(case).any(axis=1)]) for case in shared]
    return Agreement(
        n_raters=len(raters),
        n_shared=len(shared),
        alpha=_cut(jackknife_interval(_alpha_of(whole), without, level=level), -1.0),
        kendall_w=_cut(mean_interval(concordance, level=level), 0.0),
        kendall_w_chance=float(np.mean(1 / present[present > 1])),
    )


def _cut(interval: Interval, least: float) -> Interval:
    return interval._replace(low=max(interval.low, least), high=min(interval.high, 1.0))


def _coincidences_by_case(cube: Floats) -> Floats:
    """``(cases, V, V)`` coincidences, every method of a case one unit."""
    cases, raters, methods = cube.shape
    units = cube.transpose(1, 0, 2).reshape(raters, -1)
    found = _coincidences(units, np.unique(units[np.isfinite(units)]))
    return found.reshape(cases, methods, *found.shape[1:]).sum(axis=1)


def krippendorff_alpha(ratings: Floats) -> float:
    """Krippendorff's alpha at the ordinal level.

    Args:
        ratings: ``(raters, units)``; NaN where a rater left a unit out.

    Returns:
        At most 1; NaN when no unit has two ratings or all ratings are equal.
    """
    return _alpha_of(_coincidences(ratings, np.unique(ratings[np.isfinite(ratings)])).sum(axis=0))


def _coincidences(ratings: Floats, values: Floats) -> Floats:
    """``(units, V, V)`` how often raters of a unit paired two values; zero with one rater."""
    # (units, V): how many raters gave a unit each value.
    table = (ratings.T[:, :, None] == values).sum(axis=1).astype(np.float64)
    raters = table.sum(axis=1)
    weighted = table * np.where(raters > 1, 1 / np.maximum(raters - 1, 1), 0.0)[:, None]
    paired = weighted[:, :, None] * table[:, None, :]
    paired[:, np.arange(len(values)), np.arange(len(values))] -= weighted
    return np.asarray(paired)


def _alpha_of(coincidences: Floats) -> float:
    """Alpha of a table of coincidences; values that no pair holds carry nothing."""
    margins = coincidences.sum(axis=0)
    cumulative = np.cumsum(margins) - margins / 2
    distance = (cumulative[:, None] - cumulative[None, :]) ** 2
    expected = (np.outer(margins, margins) * distance).sum()
    observed = (coincidences * distance).sum()
    if not expected > 0:
        return float("nan")
    return float(1 - (margins.sum() - 1) * observed / expected)


def kendall_w(ranks: Floats) -> float:
    """Kendall's coefficient of concordance, corrected for ties.

    Args:
        ranks: ``(raters, items)``; items left out by any rater are dropped.

    Returns:
        In [0, 1]; NaN with fewer than two raters or items, or when everything is tied.
    """
    from scipy.stats import rankdata

    complete = ranks[:, np.isfinite(ranks).all(axis=0)]
    m, n = complete.shape
    if m < 2 or n < 2:
        return float("nan")
    ranked = rankdata(complete, axis=1)
    spread = ((ranked.sum(axis=0) - m * (n + 1) / 2) ** 2).sum()
    ties = 0.0
    for row in ranked:
        _, sizes = np.unique(row, return_counts=True)
        ties += float((sizes**3 - sizes).sum())
    scale = m * m * (n**3 - n) - m * ties
    return float(12 * spread / scale) if scale > 0 else float("nan")
