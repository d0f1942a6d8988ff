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
    """How far raters agree who ranked the same methods of a case.

    Attributes:
        n_raters: Raters.
        n_shared: Cases of which at least two of them ranked the same methods.
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
    """Agreement where several raters ranked the same methods of a case; None where none did.

    Examples:
        >>> import pandas as pd
        >>> from cas_metric.statistics.preference import parse_rankings
        >>> votes = {"case": [1, 1, 2, 2], "rater": ["x", "y"] * 2}
        >>> votes |= {"a": [1, 1, 2, 2], "b": [2, 2, 1, 1]}
        >>> found = agreement(parse_rankings(pd.DataFrame(votes)))
        >>> found.n_raters, found.kendall_w.estimate
        (2, 1.0)
    """
    # Ranks can be compared where they are of the same methods: raters of a case who saw others
    # form a group of their own.
    groups: dict[tuple[str, bytes], list[Floats]] = {}
    for case, ranks in zip(rankings.cases, rankings.ranks, strict=True):
        groups.setdefault((str(case), np.isfinite(ranks).tobytes()), []).append(ranks)
    shared = {key: np.stack(found) for key, found in groups.items() if len(found) > 1}
    if not shared:
        return None
    values = np.unique(rankings.ranks[np.isfinite(rankings.ranks)])
    codes = np.unique([case for case, _ in shared], return_inverse=True)[1]
    by_case = np.zeros((codes.max() + 1, len(values), len(values)))
    np.add.at(by_case, codes, [_coincidences(one, values).sum(axis=0) for one in shared.values()])
    whole = by_case.sum(axis=0)
    concordance = [kendall_w(one) for one in shared.values()]
    return Agreement(
        n_raters=len(set(rankings.raters)),
        n_shared=len(by_case),
        alpha=_cut(
            jackknife_interval(
                _alpha_of(whole), [_alpha_of(whole - one) for one in by_case], level=level
            ),
            -1.0,
        ),
        kendall_w=_cut(mean_interval(concordance, clusters=codes, level=level), 0.0),
        kendall_w_chance=float(np.mean([1 / len(one) for one in shared.values()])),
    )


def _cut(interval: Interval, least: float) -> Interval:
    return interval._replace(low=max(interval.low, least), high=min(interval.high, 1.0))


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
