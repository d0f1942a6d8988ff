"""Agreement of raters, and whether the place of an image on the screen moved its rank.

Source: Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability"; Kendall and Babington
Smith (1939) for W with the usual correction for ties.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cas_metric.protocol import BOOTSTRAP_SEED, CONFIDENCE, RESAMPLES
from cas_metric.statistics.preference import Rankings
from cas_metric.statistics.uncertainty import Floats, Interval, bootstrap, bootstrap_mean


class Agreement(NamedTuple):
    """How far raters who ranked the same cases agree.

    Attributes:
        n_raters: Raters.
        n_shared: Cases ranked by at least two of them.
        alpha: Krippendorff's alpha of the ranks (ordinal), intervals by resampling cases: 1 is
            full agreement, 0 what chance gives.
        kendall_w: Mean over shared cases of Kendall's W; 1 is full agreement.
        kendall_w_chance: Expected W of unrelated rankings, the mean of 1 / raters.
    """

    n_raters: int
    n_shared: int
    alpha: Interval
    kendall_w: Interval
    kendall_w_chance: float


class PositionBias(NamedTuple):
    """Whether the place in which an image was shown went with its rank.

    Attributes:
        top1: Place to the share of rankings whose first choice was shown there.
        mean_rank: Place to the mean rank of what was shown there.
        p: Chi-squared p-value that the first choice is equally likely in every place.
        n: Rankings that entered.
    """

    top1: dict[int, float]
    mean_rank: dict[int, float]
    p: float
    n: int


def agreement(
    rankings: Rankings,
    *,
    resamples: int = RESAMPLES,
    level: float = CONFIDENCE,
    seed: int = BOOTSTRAP_SEED,
) -> Agreement | None:
    """Agreement over the cases that several raters ranked; None when there are none."""
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
    options = {"resamples": resamples, "level": level, "seed": seed}
    concordance = [kendall_w(case[np.isfinite(case).any(axis=1)]) for case in shared]
    return Agreement(
        n_raters=len(raters),
        n_shared=len(shared),
        alpha=bootstrap(_alpha_of_cases, shared, **options),  # type: ignore[arg-type]
        kendall_w=bootstrap_mean(concordance, **options),  # type: ignore[arg-type]
        kendall_w_chance=float(np.mean(1 / present[present > 1])),
    )


def _alpha_of_cases(cube: Floats) -> float:
    """Alpha with every method of every case as one unit."""
    return krippendorff_alpha(cube.transpose(1, 0, 2).reshape(cube.shape[1], -1))


def krippendorff_alpha(ratings: Floats) -> float:
    """Krippendorff's alpha at the ordinal level.

    Args:
        ratings: ``(raters, units)``; NaN where a rater left a unit out.

    Returns:
        At most 1; NaN when no unit has two ratings or all ratings are equal.
    """
    pairable = np.isfinite(ratings).sum(axis=0) > 1
    values = np.unique(ratings[:, pairable][np.isfinite(ratings[:, pairable])])
    if len(values) < 2:
        return float("nan")
    # (units, values): how many raters gave a unit each value.
    table = (ratings[:, pairable].T[:, :, None] == values).sum(axis=1).astype(np.float64)
    raters = table.sum(axis=1)
    weighted = table / (raters - 1)[:, None]
    coincidences = weighted.T @ table - np.diag(weighted.sum(axis=0))
    margins = coincidences.sum(axis=0)
    cumulative = np.cumsum(margins) - margins / 2
    distance = (cumulative[:, None] - cumulative[None, :]) ** 2
    expected = (np.outer(margins, margins) * distance).sum()
    observed = (coincidences * distance).sum()
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


def position_bias(rankings: Rankings) -> PositionBias | None:
    """Test whether the first choice depends on where it was shown; None without positions.

    Only rankings that show the commonest number of images enter, so that every place is equally
    likely to hold the first choice when the order of showing was random. A shared first place
    counts in equal parts.
    """
    if rankings.positions is None:
        return None
    from scipy.stats import chisquare

    shown = np.isfinite(rankings.ranks) & np.isfinite(rankings.positions)
    sizes = shown.sum(axis=1)
    common = np.bincount(sizes).argmax()
    kept = sizes == common
    ranks = np.where(shown, rankings.ranks, np.nan)[kept]
    positions = np.where(shown, rankings.positions, np.nan)[kept]
    places = np.unique(positions[np.isfinite(positions)])
    first = ranks == np.nanmin(ranks, axis=1, keepdims=True)
    share = first / first.sum(axis=1, keepdims=True)
    counts = np.array([share[positions == place].sum() for place in places])
    means = [float(np.nanmean(ranks[positions == place])) for place in places]
    return PositionBias(
        top1={int(p): float(c / kept.sum()) for p, c in zip(places, counts, strict=True)},
        mean_rank={int(p): mean for p, mean in zip(places, means, strict=True)},
        p=float(chisquare(counts).pvalue),
        n=int(kept.sum()),
    )
