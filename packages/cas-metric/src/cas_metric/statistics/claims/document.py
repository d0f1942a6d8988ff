"""The schema of a results table: methods by metrics, tails, counts and what was concluded.

A document is JSON: ``{"title": …, "source": …, "tables": […]}``, each table with a ``kind``.
Numbers are best written as text (``".310"``), so that trailing zeros count. A CSV holds scores,
spreads and tails of one or several data sets; its columns are those of :data:`CSV_COLUMNS`.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cas_metric.errors import InputError
from cas_metric.statistics.claims.finding import Stated

#: Columns of a CSV: two of names, sizes, and numbers as printed (``low_rate`` in percent).
CSV_COLUMNS: Final = (
    *("dataset", "method", "n", "seeds", "classes"),
    *("vdc", "ccs", "dd", "sfs", "cas", "cas_std", "tau", "low_rate", "p10"),
)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, frozen=True)


class ScoreRow(_Model):
    """Means of one method."""

    method: str
    vdc: Stated | None = None
    ccs: Stated | None = None
    dd: Stated | None = None
    sfs: Stated | None = None
    cas: Stated | None = None
    real: bool = False


class Scores(_Model):
    """Means of the primitives and of CAS.

    ``n`` counts images of one seed; ``classes`` maps each class to its test images, or is their
    number.
    """

    kind: Literal["scores"]
    name: str
    dataset: str
    n: int | None = None
    seeds: int = 1
    classes: dict[str, int] | int | None = None
    rows: list[ScoreRow]


class SpreadRow(_Model):
    """Mean and standard deviation over seeds."""

    method: str
    mean: Stated
    std: Stated


class Spread(_Model):
    """Means and standard deviations of CAS over generation seeds."""

    kind: Literal["spread"]
    name: str
    dataset: str
    rows: list[SpreadRow]


class TailRow(_Model):
    """Tail of one method; the rate in percent."""

    method: str
    mean: Stated | None = None
    rate: Stated
    p10: Stated | None = None


class Tail(_Model):
    """Low-alignment rates at a quantile of Real."""

    kind: Literal["tail"]
    name: str
    dataset: str
    n: int | None = None
    tau: Stated | None = None
    quantile: float = 0.25
    rows: list[TailRow]


class CorrelationRow(_Model):
    """A coefficient with its p-value."""

    label: str
    statistic: Literal["pearson", "spearman"]
    value: Stated
    p: Stated | None = None


class Correlations(_Model):
    """Correlations over ``n`` pairs."""

    kind: Literal["correlations"]
    name: str
    n: int
    rows: list[CorrelationRow]


class Counts(_Model):
    """Label counts: column to label to count, with stated totals.

    ``known`` maps labels to the size of the public data set over all ``splits``.
    """

    kind: Literal["counts"]
    name: str
    columns: dict[str, dict[str, int]]
    totals: dict[str, int]
    splits: tuple[str, ...] = ()
    known: dict[str, int] = Field(default_factory=dict)
    known_source: str = ""


class DifferenceRow(_Model):
    """Left minus right; ``spread`` is a standard deviation to hold the difference against."""

    label: str
    left: Stated
    right: Stated
    stated: Stated | None = None
    spread: Stated | None = None


class Differences(_Model):
    """Stated differences, or differences held against a spread."""

    kind: Literal["differences"]
    name: str
    rows: list[DifferenceRow]


class ProportionRow(_Model):
    """Two shares of ``n`` cases each."""

    label: str
    n: int
    left: Stated
    right: Stated


class Proportions(_Model):
    """Shares of counted cases, such as accuracies, of which one is said to be larger."""

    kind: Literal["proportions"]
    name: str
    rows: list[ProportionRow]


class RatePair(_Model):
    """Low-alignment rates in percent of a method, and of the baseline by either reading."""

    dataset: str
    n: int
    method: Stated
    lowest_tail: Stated
    best_mean: Stated


class Reductions(_Model):
    """Stated range of absolute reductions (points) and average relative reduction (percent)."""

    kind: Literal["reductions"]
    name: str
    rows: list[RatePair]
    least: Stated
    most: Stated
    average_relative: Stated


class EqualityRow(_Model):
    """One quantity as printed in several places."""

    label: str
    values: dict[str, Stated]
    note: str = ""


class Equalities(_Model):
    """Numbers that should be equal."""

    kind: Literal["equalities"]
    name: str
    rows: list[EqualityRow]


class OrderingRow(_Model):
    """Methods under two measures that are said to order them alike."""

    label: str
    first: dict[str, Stated]
    second: dict[str, Stated]


class Orderings(_Model):
    """Orders that are said to agree."""

    kind: Literal["orderings"]
    name: str
    rows: list[OrderingRow]


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
    | Orderings,
    Field(discriminator="kind"),
]


class Document(_Model):
    """A set of tables."""

    title: str
    source: str = ""
    license: str = ""
    tables: list[Table]


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
        return _validated(_from_csv(path), str(path))
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
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{name}: {place or 'document'}: {first['msg']} ({error.error_count()} in all)",
            fix="see `cas check --help` for the schema",
        ) from error


def _from_csv(path: Path) -> dict[str, Any]:
    """Scores, spreads and tails of each data set in a CSV."""
    import pandas as pd

    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except ValueError as error:  # pandas' parser errors are ValueErrors
        raise InputError(f"{path}: not readable as CSV: {error}") from error
    unknown = [column for column in frame if column not in CSV_COLUMNS]
    if "method" not in frame or unknown:
        what = f"unknown columns {', '.join(unknown)}" if unknown else "no column 'method'"
        raise InputError(f"{path}: {what}", fix=f"use columns of {', '.join(CSV_COLUMNS)}")
    tables: list[dict[str, Any]] = []
    datasets = frame["dataset"] if "dataset" in frame else pd.Series(path.stem, frame.index)
    for dataset, group in frame.groupby(datasets, sort=False):
        records = [{k: v for k, v in r.items() if v} for r in group.to_dict("records")]
        tables += _tables_of(str(dataset), records, path.name)
    return {"title": path.name, "tables": tables}


def _tables_of(dataset: str, records: list[dict[str, str]], name: str) -> list[dict[str, Any]]:
    sizes: dict[str, str] = {
        key: r[key] for r in records for key in ("n", "seeds", "classes") if key in r
    }
    head: dict[str, Any] = {"name": name, "dataset": dataset}
    keep = ("method", "vdc", "ccs", "dd", "sfs", "cas")
    scores: list[dict[str, Any]] = [
        {**{k: r[k] for k in keep if k in r}, "real": r["method"].lower() == "real"}
        for r in records
    ]
    tables: list[dict[str, Any]] = [{**head, "kind": "scores", **sizes, "rows": scores}]
    spreads = [
        {"method": r["method"], "mean": r["cas"], "std": r["cas_std"]}
        for r in records
        if "cas_std" in r and "cas" in r
    ]
    if spreads:
        tables.append({**head, "kind": "spread", "rows": spreads})
    tails = [
        {"method": r["method"], "rate": r["low_rate"], "p10": r.get("p10")}
        for r in records
        if "low_rate" in r
    ]
    if tails:
        known: dict[str, str] = {key: r[key] for r in records for key in ("n", "tau") if key in r}
        tables.append({**head, "kind": "tail", **known, "rows": tails})
    return tables
