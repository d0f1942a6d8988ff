"""``cas compare``: compare runs of several methods: tables, tails, tests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cas_metric import protocol
from cas_metric.cli import options as option
from cas_metric.cli.common import names
from cas_metric.cli.results import finish
from cas_metric.statistics.comparison import PERMUTATIONS

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


HELP = """
Compare methods and seeds that were scored on one set of cases.

Prints the means of every primitive and of CAS with the best in bold, class-balanced means
beside them, the spread over generation seeds apart from case-level intervals, paired
differences with permutation p-values after Holm, win rates, and the low-alignment tail with
the uncertainty of its threshold. Warns where the threshold lies between the two modes of the
0/1 diagnosis, where the tail only restates 1 - DD, and where a method scores above Real
beyond chance.

Runs must share the encoder: scores of different checkpoints are never compared.

Example: `cas compare runs/lora runs/craft --real runs/craft --out comparison`
"""


@app.command(help=HELP)
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Directories written by `cas score`. NAME=DIRECTORY renames the method of a run.",
            metavar="RUN…",
        ),
    ],
    real: Annotated[
        Path | None,
        typer.Option(help="Run whose real images set the threshold; the first run by default."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="Method whose tail is held against all others; by default the best mean CAS."
        ),
    ] = None,
    by: option.By = None,
    quantile: Annotated[
        float, typer.Option(min=0.01, max=0.99, help="Quantile of Real that makes tau.")
    ] = protocol.TAIL_QUANTILE,
    resamples: Annotated[
        int, typer.Option(min=100, help="Random sign patterns of the permutation tests.")
    ] = PERMUTATIONS,
    seed: Annotated[int, typer.Option(help="Seed of the sign patterns.")] = protocol.BOOTSTRAP_SEED,
    out: Annotated[
        Path | None, typer.Option(help="Directory for tables (JSON, CSV, Markdown) and figures.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Results as JSON on stdout.")] = False,
    offline: option.Offline = False,
) -> None:
    """Compare runs; the help text is :data:`HELP`."""
    from cas_metric.verbs import compare as verb

    result = verb.compare(
        runs,
        real=real,
        method=method,
        by=names(by),
        quantile=quantile,
        resamples=resamples,
        seed=seed,
        offline=offline,
        out=out,
    )
    finish(result, out, as_json=as_json)
