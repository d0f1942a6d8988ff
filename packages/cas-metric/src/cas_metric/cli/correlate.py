"""``cas correlate``: method-level scores against another quantity."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cas_metric import protocol
from cas_metric.cli.results import finish

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command()
def correlate(
    table: Annotated[
        Path, typer.Argument(help="CSV with one row a method: `method`, and the quantities.")
    ],
    x: Annotated[str, typer.Option(help="Column of the score.")] = "cas",
    y: Annotated[
        list[str] | None,
        typer.Option(
            help="Column to correlate with; may be repeated. By default all numeric ones that vary."
        ),
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="Column whose groups (data sets) are correlated apart.")
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Seed of the permutations beyond 8 methods.")
    ] = protocol.BOOTSTRAP_SEED,
    out: Annotated[
        Path | None, typer.Option(help="Directory for correlation.json, .md and scatter figures.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Results as JSON on stdout.")] = False,
) -> None:
    """Correlate method-level CAS with another quantity, such as downstream accuracy.

    Pearson, Spearman and Kendall, each with the usual p-value and the permutation p-value (all
    orders up to 8 methods), an interval by its normalising transform, and the range it takes when
    each method is left out in turn. With five methods the usual p-value of a rank correlation is
    far too small: trust the permutation one.

    Example: `cas correlate methods.csv --x cas --y accuracy --y macro_f1 --by dataset`
    """
    from cas_metric.verbs import correlate as verb

    finish(verb.correlate(table, x=x, y=y, by=by, seed=seed), out, as_json=as_json)
