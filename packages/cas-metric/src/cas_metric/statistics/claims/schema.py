"""The kinds of tables that can be checked, as a schema.

Numbers are best written as text (``".310"``), so that trailing zeros count; ``"<0.01"``,
``"87.5%"`` and ``"7,424"`` are read as printed.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from cas_metric.statistics.claims.finding import Stated


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
Proportion = Annotated[
    Stated,
    BeforeValidator(lambda value: Stated(value).as_share()),
    _within(0, 1, "write a share, or a percentage with its sign"),
]
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
    """Low-alignment rates at a quantile of Real; ``n`` counts images of one seed."""

    kind: Literal["tail"]
    name: str
    dataset: str
    n: Size | None = None
    seeds: Size = 1
    tau: Stated | None = None
    quantile: Annotated[float, Field(gt=0, lt=1)] = 0.25
    rows: list[TailRow]


class CorrelationRow(_Model):
    """A coefficient with its p-value."""

    label: str
    statistic: Literal["pearson", "spearman", "kendall"]
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
    """Two shares, of ``n`` cases each or the right one of ``n_right``; shares or percentages."""

    label: str
    n: Size
    n_right: Size | None = None
    left: Proportion
    right: Proportion
    p: Share | None = None


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


class MetricRow(_Model):
    """Any numbers of one method, with spreads and sizes where they are printed."""

    method: str
    values: Annotated[dict[str, Stated], Field(min_length=1)]
    spreads: dict[str, Stated] = Field(default_factory=dict)
    real: bool = False


class Metrics(_Model):
    """Free metrics: ``directions`` says for each whether ``up`` or ``down`` is better.

    ``n`` counts what a spread is taken over (seeds, folds); ``best`` names the method that the text
    or the print (bold) calls the best.
    """

    kind: Literal["metrics"]
    name: str
    dataset: str = ""
    n: Size | None = None
    directions: Annotated[dict[str, Literal["up", "down"]], Field(min_length=1)]
    best: dict[str, str] = Field(default_factory=dict)
    rows: Annotated[list[MetricRow], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        methods = {row.method for row in self.rows}
        for column, method in self.best.items():
            if column not in self.directions or method not in methods:
                raise ValueError(f"best: no column {column!r} with a method {method!r}")
        for row in self.rows:
            if lacking := (set(row.values) | set(row.spreads)) - set(self.directions):
                raise ValueError(f"{row.method}: no direction for {sorted(lacking)[0]!r}")
        return self


class DerivedRow(_Model):
    """A number that follows from others of the same table."""

    label: str
    formula: Literal["f1", "balanced_accuracy", "diagnostic_odds", "percent", "mean", "sum"]
    inputs: Annotated[list[Stated], Field(min_length=2)]
    stated: Stated

    @model_validator(mode="after")
    def _two_inputs(self) -> Self:
        if self.formula not in ("mean", "sum") and len(self.inputs) != 2:
            raise ValueError(f"{self.formula} takes two inputs")
        if self.formula == "percent" and self.inputs[1].value == 0:
            raise ValueError("there is no percentage of a whole of 0")
        return self


class Derived(_Model):
    """Numbers by formula.

    ``f1`` of precision and recall; ``balanced_accuracy`` and ``diagnostic_odds`` of sensitivity and
    specificity; ``percent`` of a part and its whole; ``mean`` and ``sum``.
    """

    kind: Literal["derived"]
    name: str
    rows: list[DerivedRow]


class IntervalRow(_Model):
    """An estimate with its interval, and a p-value against ``null`` where one is printed."""

    label: str
    estimate: Stated
    low: Stated
    high: Stated
    p: Share | None = None
    null: float = 0.0


class Intervals(_Model):
    """Estimates with intervals of one level."""

    kind: Literal["intervals"]
    name: str
    level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    rows: list[IntervalRow]


class TestRow(_Model):
    """A test of a contingency table, or for ``binomial`` of hits and misses against ``null``.

    ``detection`` is Fisher's test of answer against truth where only the number of right answers is
    printed: ``[[right, real, synthetic]]``.
    """

    label: str
    test: Literal["chi-square", "chi-square-corrected", "fisher", "binomial", "detection"]
    counts: Annotated[list[list[Annotated[int, Field(ge=0)]]], Field(min_length=1)]
    statistic: Stated | None = None
    p: Share | None = None
    null: Annotated[float, Field(gt=0, lt=1)] = 0.5

    @model_validator(mode="after")
    def _rectangular(self) -> Self:
        width = {len(row) for row in self.counts}
        shape = (len(self.counts), *width)
        if len(width) != 1 or min(width) < 2 or (len(shape) == 2 and 0 in map(sum, self.counts)):
            raise ValueError("counts are rows of equal length, at least two columns, none empty")
        if self.test == "binomial" and shape != (1, 2):
            raise ValueError("binomial takes one row: [hits, misses]")
        if self.test == "detection" and (
            shape != (1, 3) or self.counts[0][0] > sum(self.counts[0][1:])
        ):
            raise ValueError("detection takes one row: [right, real, synthetic]")
        if self.test == "fisher" and shape != (2, 2):
            raise ValueError("fisher takes two rows of two counts")
        if self.test.startswith("chi") and (
            len(self.counts) < 2 or 0 in map(sum, zip(*self.counts, strict=True))
        ):
            raise ValueError("chi-square takes two rows or more, and no empty column")
        return self


class Tests(_Model):
    """Tests of counts that are printed with the result."""

    kind: Literal["tests"]
    name: str
    rows: list[TestRow]
