"""``cas check``: recompute what a published results table lets one derive."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cas_metric.cli.common import emit_json
from cas_metric.cli.results import finish

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")

HELP = """
Recompute everything that a results table lets one derive, and judge what comes out.

TABLE is a .csv or .json file, or `paper` for the tables of the CRAFT paper.

A CSV has one row a method and any of the columns `dataset`, `method`, `n` (images of one seed),
`seeds`, `classes`, `vdc`, `ccs`, `dd`, `sfs`, `cas`, `cas_std`, `tau`, `low_rate` (percent), `p10`;
a method called Real is the reference. Any other metric says where better lies, `FID ↓` or `F1 ↑`;
its cells may hold `0.83 ± 0.02`, and `**0.83**` for what the table calls the best. Numbers are read
as printed: write `.310`, not `.31`; `<0.01`, `87.5%` and `7,424` are numbers too.

A JSON holds `{"title": …, "tables": [{"kind": …}, …]}` with the kinds `scores`, `spread`, `tail`,
`reductions`, `correlations`, `counts`, `differences`, `proportions`, `equalities`, `orderings`,
`metrics`, `derived`, `intervals` and `tests`; `cas check --schema` prints its JSON schema.

Each finding is one of:

- **holds**: comes out as printed
- **rounding**: does not, but numbers exist that round to those printed and satisfy it
- **weak**: the arithmetic holds, but it does not carry the conclusion: a difference smaller than
  its spread, an accuracy no better than guessing, a p-value that an exact test does not confirm
- **mismatch**: no numbers that round to those printed satisfy it under the stated reading
- **impossible**: no data of the stated size can give the printed number
"""


@app.command(help=HELP)
def check(
    table: Annotated[
        str | None, typer.Argument(metavar="TABLE", help="A file, or `paper`.")
    ] = None,
    show: Annotated[
        list[str] | None,
        typer.Option(help="Print only findings of this verdict; may be repeated."),
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of a table and stop.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Directory for check.json, check.md and findings.csv.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Results as JSON on stdout.")] = False,
) -> None:
    """Check a table; the help text is :data:`HELP`."""
    from cas_metric.verbs import check as verb

    if schema:
        emit_json(verb.schema())
        return
    if table is None:
        raise typer.BadParameter("give a file, or `paper`", param_hint="TABLE")
    finish(verb.check(table, show=show or ()), out, as_json=as_json)
