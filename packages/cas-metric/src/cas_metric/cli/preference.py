"""``cas preference``: Bradley-Terry scores and agreement from rankings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cas_metric import protocol
from cas_metric.cli.results import deliver
from cas_metric.errors import InputError
from cas_metric.tables import read_frame

if TYPE_CHECKING:
    from cas_metric.statistics.preference import Rankings

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")

#: Above this share of unbounded resamples the interval of a score is not to be trusted.
_UNBOUNDED = 0.01
_ALPHA = 0.05


HELP = """
Turn rankings of images into preference scores with their uncertainty.

Ranks are numbers, 1 best. Equal ranks are ties; a method without a rank was not shown.
Intervals resample cases, all raters of a case together, because raters of the same images are
not independent. Scores are log-scores that sum to zero.

Also printed: how often each method came first, how its places are distributed, how far raters
agree (Krippendorff's alpha, Kendall's W), and, with a `position` column, whether the first
choice depended on where an image was shown.

Example: `cas preference study/rankings.csv --cas comparison/comparison.csv --out preference`
"""


@app.command(help=HELP)
def preference(
    rankings: Annotated[
        Path,
        typer.Argument(
            help="CSV with case, rater, method, rank (and position), or with case, rater and one "
            "column a method.",
        ),
    ],
    cas: Annotated[
        Path | None,
        typer.Option(
            help="CSV with method and cas (comparison.csv of `cas compare` will do), to correlate."
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(help="bradley-terry (pairs) or plackett-luce (whole rankings).")
    ] = "bradley-terry",
    ridge: Annotated[
        float,
        typer.Option(min=0.0, help="Penalty on the scores; needed when a method always wins."),
    ] = 0.0,
    resamples: Annotated[
        int, typer.Option(min=100, help="Bootstrap resamples of the cases.")
    ] = protocol.RESAMPLES,
    seed: Annotated[int, typer.Option(help="Seed of the resamples.")] = protocol.BOOTSTRAP_SEED,
    out: Annotated[
        Path | None, typer.Option(help="Directory for preference.json, preference.md and figures.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Results as JSON on stdout.")] = False,
) -> None:
    """Score rankings; the help text is :data:`HELP`."""
    from cas_metric.statistics.preference import parse_rankings

    parsed = parse_rankings(read_frame(rankings, numeric=["position"]))
    draw = {"resamples": resamples, "seed": seed}
    result = analyse(parsed, model, ridge, draw)
    if cas is not None:
        result["correlation"] = correlate_with(result, _mean_cas(cas), str(cas))
    if out is not None:
        draw_figures(out, result)
    deliver(result, _markdown(result), out=out, name="preference", as_json=as_json)


def _mean_cas(path: Path) -> dict[str, float]:
    """Method to mean CAS out of a table with one row a method."""
    table = read_frame(path, "method", "cas", numeric=["cas"])
    names = table["method"]
    if names.duplicated().any():
        raise InputError(
            f"{path}: {names[names.duplicated()].iloc[0]!r} has several rows",
            fix="give a table with one row a method, of one data set",
        )
    return dict(zip(names, table["cas"], strict=True))


def analyse(rankings: Rankings, model: str, ridge: float, draw: dict[str, int]) -> dict[str, Any]:
    """Everything that the verb reports of rankings, as plain values.

    Args:
        rankings: What :func:`~cas_metric.statistics.preference.parse_rankings` read.
        model: ``bradley-terry`` or ``plackett-luce``.
        ridge: Penalty on the scores.
        draw: ``resamples`` and ``seed`` of the bootstrap.

    Raises:
        InputError: The rankings do not determine the scores.
    """
    from cas_metric.statistics.agreement import agreement, position_bias
    from cas_metric.statistics.preference import (
        preference_scores,
        rank_distribution,
        top1_rates,
    )

    scores = preference_scores(rankings, model=model, ridge=ridge, **draw)
    raters = agreement(rankings, **draw)
    bias = position_bias(rankings)
    warnings = []
    if scores.unbounded > _UNBOUNDED:
        warnings.append(
            f"in {scores.unbounded:.1%} of the resamples some score is infinite; they are left "
            "out, so the intervals are too narrow (more cases, or --ridge, would help)"
        )
    if bias is not None and bias.p < _ALPHA:
        warnings.append(f"the first choice depends on the place of the image (p = {bias.p:.3g})")
    return {
        "model": model,
        "ridge": ridge,
        "n_cases": len(set(rankings.cases)),
        "n_raters": len(set(rankings.raters)),
        "n_rankings": len(rankings.cases),
        "scores": {name: score._asdict() for name, score in scores.scores.items()},
        "unbounded_resamples": scores.unbounded,
        "top1": {name: rate._asdict() for name, rate in top1_rates(rankings, **draw).items()},
        "ranks": rank_distribution(rankings),
        "agreement": _plain_agreement(raters),
        "position_bias": bias._asdict() if bias else None,
        "warnings": warnings,
    }


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
    from cas_metric.statistics.correlation import correlate

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


def _markdown(result: dict[str, Any]) -> str:
    from cas_metric.statistics.tables import number, p_value, percent

    parts = [
        f"# Preference\n\n{result['n_rankings']} rankings of {result['n_cases']} cases by "
        f"{result['n_raters']} raters; {result['model']} log-scores, 95% intervals by resampling "
        "cases.",
        *(f"**Warning.** {warning}" for warning in result["warnings"]),
        score_table(result),
    ]
    if result["agreement"]:
        found = result["agreement"]
        alpha, w = found["alpha"], found["kendall_w"]
        parts.append(
            f"Agreement on {found['n_shared']} shared cases: Krippendorff's alpha (ordinal) "
            f"{number(alpha['estimate'])} [{number(alpha['low'])}, {number(alpha['high'])}], "
            f"Kendall's W {number(w['estimate'])} [{number(w['low'])}, {number(w['high'])}] "
            f"(unrelated rankings: {number(found['kendall_w_chance'])})."
        )
    if result["position_bias"]:
        bias = result["position_bias"]
        shares = ", ".join(f"{place}: {percent(rate)}" for place, rate in bias["top1"].items())
        p = p_value(bias["p"])
        told = f"p {p}" if p.startswith("<") else f"p = {p}"
        parts.append(f"First choice by place shown: {shares}; {told}.")
    if "correlation" in result:
        from cas_metric.cli.correlate import coefficient_table

        parts.append("## CAS against preference")
        parts.append(coefficient_table(result["correlation"]["coefficients"]))
    return "\n\n".join(parts) + "\n"


def score_table(result: dict[str, Any]) -> str:
    """Score, top-1 rate and distribution of places of each method, the best first, as Markdown."""
    from cas_metric.statistics.tables import markdown_table, number, percent

    lines = []
    for name in sorted(result["scores"], key=lambda m: -result["scores"][m]["estimate"]):
        score, rate = result["scores"][name], result["top1"][name]
        lines.append(
            [
                name,
                f"{number(score['estimate'])} [{number(score['low'])}, {number(score['high'])}]",
                f"{percent(rate['estimate'])} [{percent(rate['low'])}, {percent(rate['high'])}]",
                *(percent(share) for share in result["ranks"][name]),
            ]
        )
    places = [f"place {k + 1}" for k in range(len(result["scores"]))]
    return markdown_table(["Method", "score", "ranked first", *places], lines)


def draw_figures(out: Path, result: dict[str, Any]) -> None:
    """Scores, top-1 rates, rank distribution and, where there is one, the correlation with CAS."""
    from cas_metric.report import figures
    from cas_metric.statistics.uncertainty import Interval

    order = sorted(result["scores"], key=lambda m: -result["scores"][m]["estimate"])
    scores = {name: Interval(**result["scores"][name]) for name in order}
    label = f"{result['model'].title().replace(' ', '-')} score"
    figures.save_figure(figures.forest(scores, label=label), out / "scores")
    rates = {name: Interval(**result["top1"][name]) for name in order}
    figures.save_figure(figures.top1(rates, chance=1 / len(order)), out / "top1")
    ranks = {name: result["ranks"][name] for name in order}
    figures.save_figure(figures.rank_distribution(ranks), out / "ranks")
    if "correlation" in result:
        from cas_metric.cli.correlate import note

        found = result["correlation"]
        # In the order of the other figures, so that a method keeps its colour.
        rows = zip(found["methods"], found["cas"], found["preference"], strict=True)
        names, values, heights = zip(*sorted(rows, key=lambda r: order.index(r[0])), strict=True)
        figure = figures.scatter(
            values,
            heights,
            names,
            x_label="mean CAS",
            y_label=label,
            note=note(found["coefficients"]),
        )
        figures.save_figure(figure, out / "cas_preference")
