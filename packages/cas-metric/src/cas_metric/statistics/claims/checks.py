"""All checks of a document, in the order of its tables, then across tables."""

from __future__ import annotations

from collections.abc import Iterator

from cas_metric.statistics.claims import arithmetic, correlations, scores, tails
from cas_metric.statistics.claims.document import Document, Scores, Spread, Table, Tail
from cas_metric.statistics.claims.finding import Finding, Stated


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
    match table.kind:
        case "scores":
            return scores.check_scores(table)
        case "spread":
            return scores.check_spread(table)
        case "tail":
            return tails.check_tail(table, complete)
        case "reductions":
            return tails.check_reductions(table)
        case "correlations":
            return correlations.check_correlations(table)
        case "counts":
            return arithmetic.check_counts(table)
        case "differences":
            return arithmetic.check_differences(table)
        case "proportions":
            return arithmetic.check_proportions(table)
        case "equalities":
            return arithmetic.check_equalities(table)
        case "orderings":
            return arithmetic.check_orderings(table)


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
