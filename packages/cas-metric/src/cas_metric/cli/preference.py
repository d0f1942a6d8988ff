"""``cas preference``: scores and agreement from rankings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cas_metric import protocol
from cas_metric.cli.results import finish

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")

HELP = """
Turn rankings of images into preference scores with their uncertainty.

Ranks are numbers, 1 best. Equal ranks are ties; a method without a rank was not shown.
Intervals hold all raters of a case together, because raters of the same images are not
independent. Scores are log-scores that sum to zero.

Also printed: who was preferred to whom; the differences of scores, with p-values of the exact test
over cases that `cas study plan` reckons with, before and after Holm;
how often each method came first, how its places are distributed, how far raters agree
(Krippendorff's alpha, Kendall's W), and, with a `position` column, whether the first choice
depended on where an image was shown.

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
        str,
        typer.Option(
            help="bradley-terry (pairs), plackett-luce (whole rankings) or davidson (pairs with "
            "ties).",
        ),
    ] = "bradley-terry",
    ridge: Annotated[
        float,
        typer.Option(min=0.0, help="Penalty on the scores; needed when a method always wins."),
    ] = 0.0,
    resamples: Annotated[
        int, typer.Option(min=100, help="Random exchanges in the test for position bias.")
    ] = protocol.RESAMPLES,
    seed: Annotated[int, typer.Option(help="Seed of the exchanges.")] = protocol.BOOTSTRAP_SEED,
    out: Annotated[
        Path | None, typer.Option(help="Directory for preference.json, preference.md and figures.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Results as JSON on stdout.")] = False,
) -> None:
    """Score rankings; the help text is :data:`HELP`."""
    from cas_metric.verbs import preference as verb

    result = verb.preference(
        rankings, cas=cas, model=model, ridge=ridge, resamples=resamples, seed=seed, out=out
    )
    finish(result, out, as_json=as_json)
