"""Everything that is reported of rankings, as plain values and as text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from cas_metric.errors import InputError
from cas_metric.statistics.agreement import agreement
from cas_metric.statistics.correlation import correlate
from cas_metric.statistics.correlation_table import coefficient_table
from cas_metric.statistics.intervals import FEW_CLUSTERS
from cas_metric.statistics.position_bias import PositionBias, position_bias
from cas_metric.statistics.preference import (
    Rankings,
    preference_scores,
    rank_distribution,
    top1_rates,
    win_matrix,
)
from cas_metric.statistics.rounding import bracketed
from cas_metric.statistics.tables import (
    markdown_table,
    number,
    p_value,
    percent,
    told_p,
    with_bounds,
)

_ALPHA = 0.05


def analyse(
    rankings: Rankings, model: str, ridge: float, draw: Mapping[str, int]
) -> dict[str, Any]:
    """Everything that the verb reports of rankings, as plain values.

    Args:
        rankings: What :func:`~cas_metric.statistics.preference.parse_rankings` read.
        model: ``bradley-terry``, ``plackett-luce`` or ``davidson``.
        ridge: Penalty on the scores.
        draw: ``resamples`` and ``seed`` of the exchanges that test for position bias.

    Raises:
        InputError: The rankings do not determine the scores.
    """
    scores = preference_scores(rankings, model=model, ridge=ridge)
    bias = position_bias(rankings, exchanges=draw["resamples"], seed=draw["seed"])
    return {
        "model": model,
        "ridge": ridge,
        "n_cases": scores.cases,
        "n_raters": len(set(rankings.raters)),
        "n_rankings": len(rankings.cases),
        "scores": {name: score._asdict() for name, score in scores.scores.items()},
        "differences": [
            {**one._asdict(), "difference": one.difference._asdict()} for one in scores.differences
        ],
        "ties": scores.ties,
        "top1": {name: rate._asdict() for name, rate in top1_rates(rankings).items()},
        "wins": {
            row: {
                column: {**win._asdict(), "rate": win.rate._asdict()}
                for column, win in columns.items()
            }
            for row, columns in win_matrix(rankings).items()
        },
        "ranks": rank_distribution(rankings),
        "agreement": _plain_agreement(agreement(rankings)),
        "position_bias": bias._asdict() if bias else None,
        "warnings": [*_about_cases(scores.cases), *_about_places(bias)],
    }


def _about_cases(cases: int) -> list[str]:
    if cases >= FEW_CLUSTERS:
        return []
    return [f"only {cases} cases: intervals over so few are wide and rough"]


def _about_places(bias: PositionBias | None) -> list[str]:
    if bias is None:
        return []
    if bias.confounded:
        return [
            f"{', '.join(bias.confounded)} stood in one place nearly always: what the method is "
            "worth and what the place is worth cannot be told apart"
        ]
    if bias.p < _ALPHA:
        told = told_p(bias.p)
        return [f"the first choice depends on the place of the image ({told})"]
    return []


def _plain_agreement(found: Any) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        **found._asdict(),
        "alpha": found.alpha._asdict(),
        "kendall_w": found.kendall_w._asdict(),
    }


def correlate_with(
    result: dict[str, Any], known: Mapping[str, float], source: str
) -> dict[str, Any]:
    """Correlation of the scores with the mean CAS of the methods.

    Args:
        result: Of :func:`analyse`.
        known: Method to mean CAS.
        source: Where ``known`` comes from, for messages.

    Raises:
        InputError: Fewer than three methods are in both.
    """
    shared = [name for name in result["scores"] if name in known]
    if len(shared) < 3:
        raise InputError(
            f"{source} and the rankings share {len(shared)} methods; a correlation needs 3",
            fix=f"name the methods alike: {', '.join(result['scores'])}",
        )
    scores = [result["scores"][name]["estimate"] for name in shared]
    values = [known[name] for name in shared]
    return {
        "methods": shared,
        "cas": values,
        "preference": scores,
        "coefficients": [
            {**c._asdict(), "value": c.value._asdict()} for c in correlate(values, scores)
        ],
    }


def preference_markdown(result: Mapping[str, Any]) -> str:
    """The document of :func:`analyse`, with the correlation where there is one."""
    parts = [
        f"# Preference\n\n{result['n_rankings']} rankings of {result['n_cases']} cases by "
        f"{result['n_raters']} raters; {result['model']} log-scores, 95% intervals over cases.",
        *(f"**Warning.** {warning}" for warning in result["warnings"]),
        score_table(result),
        f"## Who was preferred to whom\n\n{win_table(result)}",
        f"## Differences of scores\n\n{difference_table(result)}\n\n"
        "p: exact test over cases, of pairs with a tie as half a win.",
    ]
    if result["ties"] is not None:
        parts.append(
            f"Weight of a tie {number(result['ties'])}: 0 for none, 1 where equal methods tie as "
            "often as either wins."
        )
    if result["agreement"]:
        found = result["agreement"]
        parts.append(
            f"Agreement on {found['n_shared']} shared cases: Krippendorff's alpha (ordinal) "
            f"{with_bounds(found['alpha'])}, Kendall's W {with_bounds(found['kendall_w'])} "
            f"(unrelated rankings: {number(found['kendall_w_chance'])})."
        )
    if result["position_bias"]:
        bias = result["position_bias"]
        shares = ", ".join(f"{place}: {percent(rate)}" for place, rate in bias["top1"].items())
        told = told_p(bias["p"]) if math.isfinite(bias["p"]) else "no test of these orders"
        parts.append(f"First choice by place shown: {shares}; {told}.")
    if "correlation" in result:
        parts.append("## CAS against preference")
        parts.append(coefficient_table(result["correlation"]["coefficients"]))
    return "\n\n".join(parts) + "\n"


def win_table(result: Mapping[str, Any]) -> str:
    """Share of the rankings in which the row was preferred to the column, as Markdown."""
    order = _best_first(result)
    lines = [
        [row, *(_win_cell(result["wins"][row].get(column)) for column in order)] for row in order
    ]
    return markdown_table(["preferred to", *order], lines)


def _win_cell(win: Mapping[str, Any] | None) -> str:
    if win is None:
        return ""
    rate = win["rate"]
    bounds = bracketed([rate["low"], rate["high"]], percent)
    return f"{percent(rate['estimate'])} {bounds} of {win['n']}"


def difference_table(result: Mapping[str, Any]) -> str:
    """Differences of scores with p-values, as Markdown."""
    lines = [
        [
            f"{one['left']} − {one['right']}",
            with_bounds(one["difference"]),
            p_value(one["p"]),
            p_value(one["p_adjusted"]),
        ]
        for one in result["differences"]
    ]
    return markdown_table(["Pair", "difference of scores", "p", "p (Holm)"], lines)


def _best_first(result: Mapping[str, Any]) -> list[str]:
    return sorted(result["scores"], key=lambda m: -result["scores"][m]["estimate"])


def score_table(result: Mapping[str, Any]) -> str:
    """Score, top-1 rate and distribution of places of each method, the best first, as Markdown."""
    lines = []
    for name in _best_first(result):
        score, rate = result["scores"][name], result["top1"][name]
        lines.append(
            [
                name,
                with_bounds(score),
                f"{percent(rate['estimate'])} {bracketed([rate['low'], rate['high']], percent)}",
                *(percent(share) for share in result["ranks"][name]),
            ]
        )
    places = [f"place {k + 1}" for k in range(len(result["scores"]))]
    return markdown_table(["Method", "score", "ranked first", *places], lines)
