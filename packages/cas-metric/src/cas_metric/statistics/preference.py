"""Preference scores, top-1 rates and rank distributions from rankings, with their uncertainty.

What is resampled is the case with the rankings of all its raters: two physicians who look at the
same images do not make two independent observations, and neither do the ten pairs out of one
ranking of five.

Source: Appendices D and E and Figures 5-7 of the paper.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cas_metric.errors import InputError
from cas_metric.protocol import BOOTSTRAP_SEED, CONFIDENCE, RESAMPLES
from cas_metric.statistics import choice_model
from cas_metric.statistics.uncertainty import (
    Floats,
    Interval,
    bootstrap_means,
    cluster_codes,
    percentile_interval,
    resampling_counts,
)

if TYPE_CHECKING:
    import pandas as pd

_KEYS = ("case", "rater")
#: Resampled tables fitted at once.
_BATCH = 500


class Rankings(NamedTuple):
    """Rankings as arrays: R rankings of m methods.

    Attributes:
        methods: Names, in order of first appearance.
        cases: ``(R,)`` label of the case.
        raters: ``(R,)`` label of the rater.
        ranks: ``(R, m)``, 1 best, ties equal, NaN where a method was not ranked.
        positions: ``(R, m)`` place in which each method was shown, or None.
    """

    methods: tuple[str, ...]
    cases: NDArray[Any]
    raters: NDArray[Any]
    ranks: Floats
    positions: Floats | None = None


class PreferenceScores(NamedTuple):
    """Scores of a choice model.

    Attributes:
        model: ``bradley-terry`` or ``plackett-luce``.
        scores: Method to log-score with its interval; the scores sum to zero, and
            ``exp(a - b) / (1 + exp(a - b))`` is the probability that a is preferred to b.
        unbounded: Share of resamples in which some score was infinite; they are left out.
    """

    model: str
    scores: dict[str, Interval]
    unbounded: float


def parse_rankings(frame: pd.DataFrame) -> Rankings:
    """Read rankings from a table in either of two layouts.

    *Long*: columns ``case, rater, method, rank`` and, if recorded, ``position``. *Wide*: ``case``,
    ``rater`` and one column a method that holds its rank; an empty cell was not ranked. Ranks are
    numbers, 1 best; equal ranks are ties. A missing ``rater`` column means one rater.

    Raises:
        InputError: For missing columns, ranks or positions that are not positive numbers, a rank
            without a case, rater or method, a method ranked twice by a rater in a case, or a
            ranking of fewer than two methods.
    """
    import pandas as pd

    if "case" not in frame:
        raise InputError(
            f"the rankings have no column 'case' (columns: {', '.join(map(str, frame.columns))})",
            fix="give case, rater, method, rank - or case, rater and one column a method",
        )
    table = frame.assign(rater=frame.get("rater", "rater"))
    if "method" in table and "rank" in table:
        long = table
    else:
        long = table.melt(id_vars=list(_KEYS), var_name="method", value_name="rank")
    ranks = pd.to_numeric(long["rank"], errors="coerce")
    written = long["rank"].notna() & (long["rank"].astype(str).str.strip() != "")
    bad = written & ~((ranks > 0) & np.isfinite(ranks))
    if bad.any():
        row = long[bad].iloc[0]
        raise InputError(
            f"case {row['case']}, method {row['method']!r}: rank {row['rank']!r} is no positive "
            "number",
            fix="write 1 for the best; leave the cell empty where a method was not ranked",
        )
    long = long.assign(rank=ranks)[written]
    keys = [*_KEYS, "method"]
    for key in keys:  # a blank key would drop its row without a word
        blank = long[key].isna() | (long[key].astype(str).str.strip() == "")
        if blank.any():
            raise InputError(
                f"{int(blank.sum())} of the {len(long)} ranks name no {key}",
                fix=f"fill the column {key!r}; pandas also reads 'None' and 'NA' as empty",
            )
    if long.duplicated(keys).any():
        case, rater, method = long[long.duplicated(keys)].iloc[0][keys]
        raise InputError(f"rater {rater} ranked {method!r} twice in case {case}")
    return _as_arrays(long)


def _as_arrays(long: pd.DataFrame) -> Rankings:
    methods = list(dict.fromkeys(long["method"].astype(str)))
    long = long.assign(method=long["method"].astype(str))
    wide = long.pivot_table(index=list(_KEYS), columns="method", values="rank", sort=False)
    wide = wide.reindex(columns=methods)
    short = wide.notna().sum(axis=1) < 2
    if short.any() or wide.empty:
        where = f"case {wide.index[short][0][0]}" if short.any() else "the table"
        raise InputError(f"{where} ranks fewer than two methods", fix="drop it or complete it")
    positions = None
    if "position" in long and long["position"].notna().any():
        long = long.assign(position=_positions(long["position"]))
        shown = long.pivot_table(index=list(_KEYS), columns="method", values="position", sort=False)
        positions = shown.reindex(index=wide.index, columns=methods).to_numpy(dtype=np.float64)
    return Rankings(
        methods=tuple(methods),
        cases=wide.index.get_level_values("case").astype(str).to_numpy(),
        raters=wide.index.get_level_values("rater").astype(str).to_numpy(),
        ranks=wide.to_numpy(dtype=np.float64),
        positions=positions,
    )


def _positions(column: pd.Series) -> pd.Series:
    """Places as numbers; an empty cell is an unknown place."""
    import pandas as pd

    places = pd.to_numeric(column, errors="coerce")
    bad = column.notna() & ~(places > 0)
    if bad.any():
        raise InputError(
            f"position {column[bad].iloc[0]!r} is no positive number",
            fix="number the places from 1; leave the column out where they are not known",
        )
    return places


def preference_scores(
    rankings: Rankings,
    *,
    model: str = "bradley-terry",
    ridge: float = 0.0,
    resamples: int = RESAMPLES,
    level: float = CONFIDENCE,
    seed: int = BOOTSTRAP_SEED,
) -> PreferenceScores:
    """Scores of a choice model with intervals by resampling cases.

    The estimates are those of choix (see its ``alpha`` for ``ridge``); choix fits one data set at a
    time, here all resamples are fitted together, several hundred times faster
    (``benchmarks/performance/preference.py``).

    Args:
        rankings: Strict, partial or tied rankings.
        model: ``bradley-terry`` or ``plackett-luce``.
        ridge: Weight of a quadratic penalty on the scores, as ``alpha`` of choix; 0 for none.
        resamples: Number of resamples.
        level: Nominal coverage.
        seed: Seed of the draw.

    Raises:
        InputError: If the comparisons do not determine the scores; the groups are named.
    """
    codes, count = cluster_codes(rankings.cases, len(rankings.cases))
    choices = choice_model.count_choices(rankings.ranks, codes, model)
    if ridge == 0:
        choice_model.check_connected(choices, list(rankings.methods))
    estimate = choice_model.fit(choices.sets, choices.total()[None], ridge=ridge)[0]
    replicates = [np.empty((0, len(rankings.methods)))]
    flat = choices.counts.reshape(count, -1)
    for counts in resampling_counts(count, resamples, seed):
        for start in range(0, len(counts), _BATCH):
            tables = (counts[start : start + _BATCH] @ flat).reshape(-1, *choices.counts.shape[1:])
            replicates.append(choice_model.fit(choices.sets, tables, ridge=ridge, start=estimate))
    drawn = np.concatenate(replicates)
    return PreferenceScores(
        model=model,
        scores={
            method: percentile_interval(float(estimate[k]), drawn[:, k], level)
            for k, method in enumerate(rankings.methods)
        },
        unbounded=float(np.isnan(drawn[:, 0]).mean()) if len(drawn) else 0.0,
    )


def top1_rates(
    rankings: Rankings,
    *,
    resamples: int = RESAMPLES,
    level: float = CONFIDENCE,
    seed: int = BOOTSTRAP_SEED,
) -> dict[str, Interval]:
    """Share of the rankings holding a method in which it comes first; shared first places split.

    Intervals resample cases, all raters of a case together.
    """
    ranks = rankings.ranks
    first = ranks == np.nanmin(ranks, axis=1, keepdims=True)
    shares = np.where(np.isnan(ranks), np.nan, first / first.sum(axis=1, keepdims=True))
    replicates = bootstrap_means(shares, clusters=rankings.cases, resamples=resamples, seed=seed)
    return {
        method: percentile_interval(float(np.nanmean(shares[:, k])), replicates[:, k], level)
        for k, method in enumerate(rankings.methods)
    }


def rank_distribution(rankings: Rankings) -> dict[str, list[float]]:
    """Share of its rankings in which each method took each place, first place first.

    Tied methods share the places that they cover equally (two in first place: half of first and
    half of second each).
    """
    m = len(rankings.methods)
    shares = np.zeros((m, m))
    for ranking in rankings.ranks:
        place = 0
        for rank in np.unique(ranking[np.isfinite(ranking)]):
            tied = np.flatnonzero(ranking == rank)
            shares[tied, place : place + len(tied)] += 1 / len(tied)
            place += len(tied)
    shares /= np.isfinite(rankings.ranks).sum(axis=0)[:, None]
    return {method: shares[k].tolist() for k, method in enumerate(rankings.methods)}
