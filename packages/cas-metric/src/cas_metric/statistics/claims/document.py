"""The schema of a results table: methods by metrics, tails, counts and what was concluded.

A document is JSON: ``{"title": …, "source": …, "tables": […]}``, each table with a ``kind``.
Numbers are best written as text (``".310"``), so that trailing zeros count. A CSV holds scores,
spreads and tails of one or several data sets; its columns are those of :data:`CSV_COLUMNS`.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from cas_metric.errors import InputError
from cas_metric.statistics.claims.finding import Stated
from cas_metric.tables import read_frame

#: Columns of a CSV: two of names, sizes, and numbers as printed (``low_rate`` in percent).
CSV_COLUMNS: Final = (
    *("dataset", "method", "n", "seeds", "classes"),
    *("vdc", "ccs", "dd", "sfs", "cas", "cas_std", "tau", "low_rate", "p10"),
)


def _within(low: float, high: float, hint: str) -> AfterValidator:
    """A check that a printed number lies in ``[low, high]``."""

    def check(stated: Stated) -> Stated:
        if not low <= stated.value <= high:
            raise ValueError(f"{stated} is not between {low:g} and {high:g}: {hint}")
        return stated

    return AfterValidator(check)


def _not_zero(stated: Stated) -> Stated:
    if stated.value == 0:
        raise ValueError("nothing can be reduced from a rate of 0")
    return stated


Size = Annotated[int, Field(ge=1)]
Share = Annotated[Stated, _within(0, 1, "write a share, not a percentage")]
Percentage = Annotated[Stated, _within(0, 100, "write a percentage")]
Baseline = Annotated[Percentage, AfterValidator(_not_zero)]
Coefficient = Annotated[Stated, _within(-1, 1, "no correlation coefficient")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, frozen=True)


class ScoreRow(_Model):
    """Means of one method."""

    method: str
    vdc: Stated | None = None
    ccs: Stated | None = None
    dd: Share | None = None
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
    n: Size | None = None
    seeds: Size = 1
    classes: Annotated[dict[str, Size], Field(min_length=1)] | Size | None = None
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
    rate: Percentage
    p10: Stated | None = None


class Tail(_Model):
    """Low-alignment rates at a quantile of Real."""

    kind: Literal["tail"]
    name: str
    dataset: str
    n: Size | None = None
    tau: Stated | None = None
    quantile: Annotated[float, Field(gt=0, lt=1)] = 0.25
    rows: list[TailRow]


class CorrelationRow(_Model):
    """A coefficient with its p-value."""

    label: str
    statistic: Literal["pearson", "spearman"]
    value: Coefficient
    p: Share | None = None


class Correlations(_Model):
    """Correlations over ``n`` pairs."""

    kind: Literal["correlations"]
    name: str
    n: Annotated[int, Field(ge=3)]
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

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        unknown = [name for name in (*self.totals, *self.splits) if name not in self.columns]
        if unknown:
            raise ValueError(f"no column {unknown[0]!r}")
        for split in self.splits:
            lacking = [label for label in self.known if label not in self.columns[split]]
            if lacking:
                raise ValueError(f"column {split!r} lacks {lacking[0]!r}")
        return self


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
    n: Size
    left: Share
    right: Share


class Proportions(_Model):
    """Shares of counted cases, such as accuracies, of which one is said to be larger."""

    kind: Literal["proportions"]
    name: str
    rows: list[ProportionRow]


class RatePair(_Model):
    """Low-alignment rates in percent of a method, and of the baseline by either reading."""

    dataset: str
    n: Size
    method: Percentage
    lowest_tail: Baseline
    best_mean: Baseline


class Reductions(_Model):
    """Stated range of absolute reductions (points) and average relative reduction (percent)."""

    kind: Literal["reductions"]
    name: str
    rows: Annotated[list[RatePair], Field(min_length=1)]
    least: Stated
    most: Stated
    average_relative: Stated


class EqualityRow(_Model):
    """One quantity as printed in several places."""

    label: str
    values: Annotated[dict[str, Stated], Field(min_length=1)]
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

    @model_validator(mode="after")
    def _same_methods(self) -> Self:
        if set(self.first) != set(self.second):
            apart = sorted(set(self.first) ^ set(self.second))
            raise ValueError(f"{apart[0]!r} is under one measure only")
        return self


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
        problem = first["msg"].removeprefix("Value error, ")
        raise InputError(
            f"{name}: {place or 'document'}: {problem} ({error.error_count()} in all)",
            fix="see `cas check --help` for the schema",
        ) from error


def _from_csv(path: Path) -> dict[str, Any]:
    """Scores, spreads and tails of each data set in a CSV."""
    import pandas as pd

    frame = read_frame(path)
    unknown = [column for column in frame if column not in CSV_COLUMNS]
    if "method" not in frame or unknown:
        what = f"unknown columns {', '.join(unknown)}" if unknown else "no column 'method'"
        raise InputError(f"{path}: {what}", fix=f"use columns of {', '.join(CSV_COLUMNS)}")
    blank = frame["method"].str.strip() == ""
    if blank.any():
        raise InputError(f"{path}: row {int(blank.argmax()) + 1} names no method")
    tables: list[dict[str, Any]] = []
    datasets = frame["dataset"] if "dataset" in frame else pd.Series(path.stem, frame.index)
    for dataset, group in frame.groupby(datasets, sort=False):
        records = [{k: v for k, v in r.items() if v} for r in group.to_dict("records")]
        tables += _tables_of(str(dataset), records, path.name)
    return {"title": path.name, "tables": tables}


def _tables_of(dataset: str, records: list[dict[str, str]], name: str) -> list[dict[str, Any]]:
    # Real is scored once, so its row does not tell the number of seeds.
    made = [r for r in records if r["method"].lower() != "real"] or records
    sizes = _common(records, dataset, name, "n", "classes") | _common(made, dataset, name, "seeds")
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
        known = _common(records, dataset, name, "n", "tau")
        tables.append({**head, "kind": "tail", **known, "rows": tails})
    return tables


def _common(records: list[dict[str, str]], dataset: str, name: str, *keys: str) -> dict[str, str]:
    """Columns that say one thing of a whole data set, where any of its rows says it."""
    found = {}
    for key in keys:
        values = list(dict.fromkeys(r[key] for r in records if key in r))
        if len(values) > 1:
            raise InputError(
                f"{name}: the rows of {dataset} disagree on {key}: {', '.join(values)}",
                fix="give every data set one value, or each its own `dataset`",
            )
        if values:
            found[key] = values[0]
    return found
