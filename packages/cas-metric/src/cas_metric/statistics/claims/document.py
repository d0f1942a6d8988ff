"""Documents of tables: their schema, those that ship, and reading them from files.

A document is JSON: ``{"title": …, "source": …, "tables": […]}``, each table with a ``kind`` of
:mod:`cas_metric.statistics.claims.schema`; or a CSV, see
:mod:`cas_metric.statistics.claims.csv_tables`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field, ValidationError

from cas_metric.errors import InputError
from cas_metric.statistics.claims.csv_tables import read_csv_tables
from cas_metric.statistics.claims.schema import (
    Correlations,
    Counts,
    Derived,
    Differences,
    Equalities,
    Intervals,
    Metrics,
    Orderings,
    Proportions,
    Reductions,
    Scores,
    Spread,
    Tail,
    Tests,
    _Model,
)

#: Problems of a document that a message lists.
_MOST_PROBLEMS: Final = 20

Table = Annotated[
    Scores
    | Spread
    | Tail
    | Correlations
    | Counts
    | Differences
    | Proportions
    | Reductions
    | Equalities
    | Orderings
    | Metrics
    | Derived
    | Intervals
    | Tests,
    Field(discriminator="kind"),
]


class Document(_Model):
    """A set of tables."""

    title: str
    source: str = ""
    license: str = ""
    tables: list[Table]


def read_document(content: Mapping[str, Any]) -> Document:
    """A document from plain values.

    Raises:
        InputError: It does not fit the schema; all problems are listed.
    """
    return _validated(dict(content), "document")


def load_paper() -> Document:
    """The tables of the CRAFT paper, which ship with the package (CC BY 4.0)."""
    text = resources.files("cas_metric").joinpath("data/paper_tables.json").read_text("utf-8")
    return _validated(json.loads(text), "paper_tables.json")


def load_document(path: str | Path) -> Document:
    """Read a results table.

    Args:
        path: ``.json`` of this module's schema, or ``.csv`` with :data:`CSV_COLUMNS`.

    Raises:
        InputError: No file, another format, or what does not fit the schema, with the place.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file", fix="`cas check paper` checks the paper's tables")
    if path.suffix == ".csv":
        return _validated(read_csv_tables(path), str(path))
    if path.suffix != ".json":
        raise InputError(f"{path}: neither .json nor .csv")
    try:
        content = json.loads(path.read_text("utf-8"), parse_float=str)
    except ValueError as error:
        raise InputError(f"{path}: not readable as JSON: {error}") from error
    return _validated(content, str(path))


def _validated(content: Any, name: str) -> Document:
    try:
        return Document.model_validate(content)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, one['loc'])) or 'document'}: "
            + one["msg"].removeprefix("Value error, ")
            for one in error.errors()
        ]
        shown = "; ".join(problems[:_MOST_PROBLEMS])
        more = (
            f"; and {len(problems) - _MOST_PROBLEMS} more" if len(problems) > _MOST_PROBLEMS else ""
        )
        raise InputError(
            f"{name}: {len(problems)} problems: {shown}{more}"
            if len(problems) > 1
            else f"{name}: {shown}",
            fix="see `cas check --help`, and `cas check --schema` for the schema",
        ) from error
