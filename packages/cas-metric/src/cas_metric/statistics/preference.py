"""Preference scores, top-1 rates and rank distributions from rankings, with their uncertainty.

What varies is the case with the rankings of all its raters: two physicians who look at the
same images do not make two independent observations, and neither do the ten pairs out of one
ranking of five.

Source: Appendices D and E and Figures 5-7 of the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cas_metric.errors import InputError
from cas_metric.protocol import CONFIDENCE
from cas_metric.statistics import choice_model, davidson
from cas_metric.statistics.comparison import holm
from cas_metric.statistics.intervals import rate_interval, student_part
from cas_metric.statistics.pair_tests import pair_p_values
from cas_metric.statistics.uncertainty import Floats, Interval, cluster_codes

if TYPE_CHECKING:
    import pandas as pd

#: Models of :func:`preference_scores`.
MODELS = (*choice_model.MODELS, "davidson")
_KEYS = ("case", "rater")


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


class ScoreDifference(NamedTuple):
    """Score of one method minus that of another.

    Attributes:
        left: Name of the method subtracted from.
        right: Name of the method subtracted.
        difference: On the log scale, with its interval; the log odds that left is preferred.
        p: Two-sided p-value of the exact test over cases in ``pair_tests``; it is of the
            pairs, a tie as half a win, under every model.
        p_adjusted: The same after Holm over all pairs.
    """

    left: str
    right: str
    difference: Interval
    p: float
    p_adjusted: float


class Win(NamedTuple):
    """How one method fared against another.

    Attributes:
        rate: Share of the rankings of both in which it was preferred, a tie counting half.
        n: Rankings of both.
        ties: How many of them were ties.
    """

    rate: Interval
    n: int
    ties: int


class PreferenceScores(NamedTuple):
    """Scores of a choice model.

    Attributes:
        model: ``bradley-terry``, ``plackett-luce`` or ``davidson``.
        scores: Method to log-score with its interval; the scores sum to zero, and
            ``exp(a - b) / (1 + exp(a - b))`` is the probability that a is preferred to b (under
            ``davidson`` where the two do not tie).
        differences: Every pair of methods.
        cases: Cases, the units of the intervals.
        ties: Weight of a tie of the Davidson model: 0 for none, 1 makes a tie of equals as
            likely as each winning; None for the other models.
    """

    model: str
    scores: dict[str, Interval]
    differences: tuple[ScoreDifference, ...]
    cases: int
    ties: float | None = None


def parse_rankings(frame: pd.DataFrame) -> Rankings:
    """Read rankings from a table in either of two layouts.

    *Long*: columns ``case, rater, method, rank`` and, if recorded, ``position``. *Wide*: ``case``,
    ``rater`` and one column a method that holds its rank; an empty cell was not ranked. Ranks are
    numbers, 1 best; equal ranks are ties. A missing ``rater`` column means one rater.

    Raises:
        InputError: For missing columns, ranks or positions that are not positive numbers, a rank
            without a case, rater or method, a method ranked twice by a rater in a case, or a
            ranking of fewer than two methods.

    Examples:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"case": [1, 2], "a": [1, 2], "b": [2, 1], "c": [3, 3]})
        >>> parse_rankings(table).methods, parse_rankings(table).ranks.tolist()
        (('a', 'b', 'c'), [[1.0, 2.0, 3.0], [2.0, 1.0, 3.0]])
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

    places = pd.to_numeric(column, errors="coerce").astype(float)
    bad = column.notna() & (column.astype(str).str.strip() != "") & ~(places > 0)
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
    level: float = CONFIDENCE,
) -> PreferenceScores:
    """Scores of a choice model with cluster-robust intervals.

    The error of a case is what one Newton step says the scores would move without its rankings
    (Huber's sandwich); intervals are Student's with one degree of freedom less than cases. They
    cover from ten cases on where percentiles of resampled cases fall short, and no resample can
    have infinite scores.

    Args:
        rankings: Strict, partial or tied rankings.
        model: ``bradley-terry``, ``plackett-luce`` or ``davidson`` (pairs with ties of their own).
        ridge: Weight of a quadratic penalty on the scores, as ``alpha`` of choix; 0 for none.
        level: Nominal coverage.

    Raises:
        InputError: If the comparisons do not determine the scores; the groups are named.

    Examples:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"case": range(20), "a": [1, 1, 1, 2] * 5, "b": [2, 2, 2, 1] * 5})
        >>> scores = preference_scores(parse_rankings(table)).scores
        >>> round(scores["a"].estimate - scores["b"].estimate, 3)  # log 3: three wins to one
        1.099
    """
    codes, count = cluster_codes(rankings.cases, len(rankings.cases))
    ties = None
    if model == "davidson":
        if ridge:
            raise InputError("the Davidson model takes no ridge", fix="leave --ridge out")
        fitted = davidson.fit(rankings.ranks, codes, list(rankings.methods))
        estimate, errors, ties = fitted.scores, fitted.errors, fitted.ties
    else:
        choices = choice_model.count_choices(rankings.ranks, codes, model)
        if ridge == 0:
            choice_model.check_connected(choices, list(rankings.methods))
        estimate = choice_model.fit(choices.sets, choices.total()[None], ridge=ridge)[0]
        errors = choice_model.case_errors(choices, estimate, ridge=ridge)
    parts = [student_part(float(e), errors[:, k], level) for k, e in enumerate(estimate)]
    return PreferenceScores(
        model=model,
        scores={
            method: part.interval(level)
            for method, part in zip(rankings.methods, parts, strict=True)
        },
        differences=_differences(
            rankings.methods,
            estimate,
            errors,
            pair_p_values(rankings.ranks, codes, estimate, ridge=ridge),
            level,
        ),
        cases=count,
        ties=ties,
    )


def _differences(
    methods: Sequence[str], estimate: Floats, errors: Floats, tests: list[float], level: float
) -> tuple[ScoreDifference, ...]:
    """All pairs, with p-values after Holm."""
    pairs = list(combinations(range(len(methods)), 2))
    parts = [
        student_part(float(estimate[i] - estimate[j]), errors[:, i] - errors[:, j], level)
        for i, j in pairs
    ]
    return tuple(
        ScoreDifference(methods[i], methods[j], part.interval(level), p, float(adjusted))
        for (i, j), part, p, adjusted in zip(pairs, parts, tests, holm(tests), strict=True)
    )


def top1_rates(rankings: Rankings, *, level: float = CONFIDENCE) -> dict[str, Interval]:
    """Share of the rankings holding a method in which it comes first; shared first places split.

    Intervals are Wilson's at the effective sample size, all raters of a case together.

    Examples:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"case": range(4), "a": [1, 1, 1, 2], "b": [2, 2, 2, 1]})
        >>> top1_rates(parse_rankings(table))["a"].estimate
        0.75
    """
    ranks = rankings.ranks
    first = ranks == np.nanmin(ranks, axis=1, keepdims=True)
    shares = np.where(np.isnan(ranks), np.nan, first / first.sum(axis=1, keepdims=True))
    return {
        method: rate_interval(shares[:, k], clusters=rankings.cases, level=level)
        for k, method in enumerate(rankings.methods)
    }


def win_matrix(rankings: Rankings, *, level: float = CONFIDENCE) -> dict[str, dict[str, Win]]:
    """How often each method was preferred to each other one, ties counting half.

    Args:
        rankings: Any.
        level: Nominal coverage of Wilson's intervals, all raters of a case together.

    Returns:
        Row to column to :class:`Win`; pairs that were never ranked together are left out.

    Examples:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"case": range(4), "a": [1, 1, 1, 2], "b": [2, 2, 1, 1]})
        >>> win = win_matrix(parse_rankings(table))["a"]["b"]
        >>> win.rate.estimate, win.n, win.ties
        (0.625, 4, 1)
    """
    table: dict[str, dict[str, Win]] = {}
    for i, row in enumerate(rankings.methods):
        table[row] = {}
        for j, column in enumerate(rankings.methods):
            gaps = rankings.ranks[:, j] - rankings.ranks[:, i]
            kept = np.isfinite(gaps)
            if i == j or not kept.any():
                continue
            wins = 0.5 * (np.sign(gaps[kept]) + 1)
            rate = rate_interval(
                wins, clusters=rankings.cases[kept], level=level, trials=2 * len(wins)
            )
            table[row][column] = Win(rate, int(kept.sum()), int((gaps[kept] == 0).sum()))
    return table


def rank_distribution(rankings: Rankings) -> dict[str, list[float]]:
    """Share of its rankings in which each method took each place, first place first.

    Tied methods share the places that they cover equally (two in first place: half of first and
    half of second each).

    Examples:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"case": [1, 2], "a": [1, 1], "b": [1, 2]})
        >>> rank_distribution(parse_rankings(table))
        {'a': [0.75, 0.25], 'b': [0.25, 0.75]}
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
