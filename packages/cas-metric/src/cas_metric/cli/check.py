"""``cas check``: recompute what a published results table lets one derive."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cas_metric.cli.common import emit_json
from cas_metric.cli.results import deliver
from cas_metric.errors import InputError

if TYPE_CHECKING:
    from cas_metric.statistics.claims import Document, Finding

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")

#: Name under which the tables that ship with the package are checked.
PAPER = "paper"

HELP = """
Recompute everything that a results table lets one derive, and judge what comes out.

TABLE is a .csv or .json file, or `paper` for the tables of the CRAFT paper.

A CSV has one row a method and any of the columns `dataset`, `method`, `n` (images of one seed),
`seeds`, `classes`, `vdc`, `ccs`, `dd`, `sfs`, `cas`, `cas_std`, `tau`, `low_rate` (percent), `p10`;
a method called Real is the reference. Numbers are read as printed: write `.310`, not `.31`.

A JSON holds `{"title": …, "tables": [{"kind": …}, …]}` with the kinds `scores`, `spread`, `tail`,
`reductions`, `correlations`, `counts`, `differences`, `proportions`, `equalities` and `orderings`;
`cas check paper --schema` prints its JSON schema.

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
    table: Annotated[str, typer.Argument(metavar="TABLE", help="A file, or `paper`.")],
    show: Annotated[
        list[str] | None,
        typer.Option(help="Print only findings of this verdict; may be repeated."),
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of a table and stop.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Directory for check.json and check.md.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Results as JSON on stdout.")] = False,
) -> None:
    """Check a table; the help text is :data:`HELP`."""
    from cas_metric.statistics.claims import (
        VERDICTS,
        Document,
        check_document,
        load_document,
        load_paper,
    )

    if schema:
        emit_json(Document.model_json_schema())
        return
    unknown = set(show or []) - set(VERDICTS)
    if unknown:
        raise InputError(f"no verdict is called {', '.join(sorted(unknown))}", fix=f"{VERDICTS}")
    document = load_paper() if table == PAPER else load_document(table)
    findings = check_document(document)
    shown = [f for f in findings if not show or f.verdict in show]
    result = {
        "title": document.title,
        "source": document.source,
        "license": document.license,
        "counts": {verdict: sum(f.verdict == verdict for f in findings) for verdict in VERDICTS},
        "findings": [finding._asdict() for finding in shown],
    }
    text = _markdown(document, findings, shown)
    deliver(result, text, out=out, name="check", as_json=as_json)


def _markdown(document: Document, findings: list[Finding], shown: list[Finding]) -> str:
    from cas_metric.statistics.claims import VERDICTS
    from cas_metric.statistics.tables import markdown_table

    tally = Counter(finding.verdict for finding in findings)
    counted = ", ".join(f"{tally[verdict]} {verdict}" for verdict in VERDICTS)
    credit = " ".join(part for part in (document.source, document.license) if part)
    parts = [f"# {document.title}", credit, f"{len(findings)} checks: {counted}."]
    headings = ["verdict", "item", "check", "stated", "recomputed", "note"]
    for name, group in groupby(shown, key=lambda finding: finding.table):
        lines = [[f.verdict, f.item, f.check, f.stated, f.recomputed, f.note] for f in group]
        parts.append(f"## {name}\n\n{markdown_table(headings, lines)}")
    return "\n\n".join(part for part in parts if part) + "\n"
