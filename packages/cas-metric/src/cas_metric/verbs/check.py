"""What a published results table lets one recompute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cas_metric.errors import InputError
from cas_metric.verbs.result import Result
from cas_metric.verbs.text import listed

if TYPE_CHECKING:
    from cas_metric.statistics.claims import Document, Finding

#: Name under which the tables that ship with the package are checked.
PAPER: Final = "paper"


def check(table: str | Path | Mapping[str, Any], *, show: str | Sequence[str] = ()) -> Result:
    """Recompute everything that a results table lets one derive, and judge what comes out.

    Args:
        table: A ``.json`` or ``.csv`` file, ``paper`` for the tables of the CRAFT paper, or a
            document as plain values.
        show: Verdicts to keep; all without any.

    Returns:
        ``summary`` with the counts of each verdict and the findings, ``tables["findings"]``.

    Raises:
        InputError: No such file, all problems of one that does not fit the schema, or an unknown
            verdict.

    Examples:
        >>> row = {"label": "ours", "n": 200, "left": "81%", "right": "79%"}
        >>> table = {"kind": "proportions", "name": "Table 2", "rows": [row]}
        >>> check({"title": "A paper", "tables": [table]}).summary["counts"]["weak"]
        1
    """
    import pandas as pd

    from cas_metric.runs.folder import Origin
    from cas_metric.statistics.claims import (
        VERDICTS,
        Finding,
        check_document,
        load_document,
        load_paper,
        read_document,
    )

    show = listed(show)
    if unknown := sorted(set(show) - set(VERDICTS)):
        raise InputError(
            f"no verdict is called {', '.join(unknown)}", fix=f"take of {', '.join(VERDICTS)}"
        )
    if isinstance(table, Mapping):
        document = read_document(table)
    else:
        document = load_paper() if str(table) == PAPER else load_document(table)
    findings = check_document(document)
    shown = [f for f in findings if not show or f.verdict in show]
    summary = {
        "title": document.title,
        "source": document.source,
        "license": document.license,
        "counts": {verdict: sum(f.verdict == verdict for f in findings) for verdict in VERDICTS},
        "findings": [finding._asdict() for finding in shown],
    }
    rows = pd.DataFrame([finding._asdict() for finding in shown], columns=Finding._fields)
    text = _markdown(document, findings, shown)
    ours = isinstance(table, str) and table == PAPER  # no file of that name
    origin = Origin.of_verb("check", {"table": None if ours else table}, paper=ours or None)
    return Result("check", summary, text, {"findings": rows}, origin=origin)


def schema() -> dict[str, Any]:
    """The JSON schema of a document."""
    from cas_metric.statistics.claims import Document

    return Document.model_json_schema()


def _markdown(document: Document, findings: list[Finding], shown: list[Finding]) -> str:
    from cas_metric.statistics.claims import VERDICTS
    from cas_metric.statistics.tables import markdown_table

    tally = Counter(finding.verdict for finding in findings)
    counted = ", ".join(f"{tally[verdict]} {verdict}" for verdict in VERDICTS)
    credit = " ".join(part for part in (document.source, document.license) if part)
    parts = [f"# {document.title}", credit, f"{len(findings)} checks: {counted}."]
    if not findings:
        parts.append("Nothing in it can be recomputed from anything else in it.")
    headings = ["verdict", "item", "check", "stated", "recomputed", "note"]
    for name, group in groupby(shown, key=lambda finding: finding.table):
        lines = [[f.verdict, f.item, f.check, f.stated, f.recomputed, f.note] for f in group]
        parts.append(f"## {name}\n\n{markdown_table(headings, lines)}")
    return "\n\n".join(part for part in parts if part) + "\n"
