"""All checks of a document, in the order of its tables, then across tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from cas_metric.statistics.claims import arithmetic, correlations, free, scores, tails
from cas_metric.statistics.claims.document import Document, Table
from cas_metric.statistics.claims.finding import Finding, Stated
from cas_metric.statistics.claims.schema import Scores, Spread, Tail


def check_document(document: Document) -> list[Finding]:
    """Recompute what the tables of a document allow.

    Returns:
        Findings of each table in turn, then of the numbers that several tables print.
    """
    complete = {
        table.dataset: table
        for table in document.tables
        if isinstance(table, Scores) and any(row.dd is not None for row in table.rows)
    }
    findings = [f for table in document.tables for f in _check_table(table, complete)]
    return findings + list(_across(document))


def _check_table(table: Table, complete: dict[str, Scores]) -> Iterator[Finding]:
    if isinstance(table, Tail):
        return tails.check_tail(table, complete)
    return _CHECKS[table.kind](table)


#: Kind of a table to what checks it.
_CHECKS: Final[dict[str, Callable[[Any], Iterator[Finding]]]] = {
    "scores": scores.check_scores,
    "spread": scores.check_spread,
    "reductions": tails.check_reductions,
    "correlations": correlations.check_correlations,
    "counts": arithmetic.check_counts,
    "differences": arithmetic.check_differences,
    "proportions": arithmetic.check_proportions,
    "equalities": arithmetic.check_equalities,
    "orderings": arithmetic.check_orderings,
    "metrics": free.check_metrics,
    "derived": free.check_derived,
    "intervals": free.check_intervals,
    "tests": free.check_tests,
}


def _across(document: Document) -> Iterator[Finding]:
    """The mean CAS of a method, wherever it is printed."""
    printed: dict[tuple[str, str], dict[str, Stated]] = {}
    for table in document.tables:
        if not isinstance(table, (Scores, Spread, Tail)):
            continue
        for row in table.rows:
            value = row.cas if hasattr(row, "cas") else row.mean
            if value is not None:
                printed.setdefault((table.dataset, row.method), {})[table.name] = value
    for (dataset, method), values in printed.items():
        if len(values) > 1:
            yield arithmetic.equality("across tables", f"{dataset}: {method}, CAS", values)
