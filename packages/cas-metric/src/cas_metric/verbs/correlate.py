"""Method-level scores against another quantity."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cas_metric import protocol
from cas_metric.errors import InputError
from cas_metric.verbs.result import Result

if TYPE_CHECKING:
    import pandas as pd


def correlate(
    table: str | Path | pd.DataFrame,
    *,
    x: str = "cas",
    y: Sequence[str] | None = None,
    by: str | None = None,
    seed: int = protocol.BOOTSTRAP_SEED,
) -> Result:
    """Correlate method-level CAS with another quantity, such as downstream accuracy.

    Args:
        table: One row a method: ``method``, and the quantities.
        x: Column of the score.
        y: Columns to correlate with; by default all numeric ones that vary.
        by: Column whose groups (data sets) are correlated apart.
        seed: Of the permutations beyond 8 methods.

    Returns:
        A result named ``correlation``; its summary is a list, one entry a pair of columns of
        :func:`cas_metric.statistics.correlation_table.correlate_columns`.

    Raises:
        InputError: A missing column, several rows of a method, or nothing that can be correlated.

    Examples:
        >>> import pandas as pd
        >>> rows = {"method": ["a", "b", "c"], "cas": [0.3, 0.4, 0.5], "auc": [0.6, 0.8, 0.7]}
        >>> correlate(pd.DataFrame(rows)).summary[0]["coefficients"][1]["value"]["estimate"]
        0.5
    """
    from cas_metric.runs.folder import Origin
    from cas_metric.statistics.correlation_table import correlate_columns, correlation_markdown

    source = "the table" if _is_frame(table) else str(table)
    frame, targets = _read(table, x, y, by)
    _check_rows(source, frame, by)
    if x in targets:
        raise InputError(f"{x!r} cannot be correlated with itself", fix="choose another --y")
    if not targets:
        raise InputError(f"{source}: no numeric column to correlate {x!r} with")
    groups = {str(k): g for k, g in frame.groupby(by)} if by else {"": frame}
    pairs = [(name, group, target) for name, group in groups.items() for target in targets]
    # What nobody asked for by name is left out where it has no correlation.
    kept = pairs if y else [one for one in pairs if _varies(*one[1:], x)] or pairs
    left_out = sorted({one[2] for one in pairs} - {one[2] for one in kept})
    results: Any = [correlate_columns(group, name, x, one, seed) for name, group, one in kept]
    text = correlation_markdown(results, x)
    asked = ", ".join(y) if y else None
    origin = Origin.of_verb("correlation", {"table": table}, x=x, y=asked, by=by)
    return Result(
        *("correlation", results, text),
        writers=(partial(_draw, results, x),),
        notes=(f"left out, since they do not vary: {', '.join(left_out)}",) if left_out else (),
        origin=origin,
    )


def _varies(group: pd.DataFrame, target: str, x: str) -> bool:
    """Whether three methods or more have a value, and not all the same."""
    values = group[target][group[x].notna()].dropna()
    return len(values) > 2 and values.min() < values.max()


def _is_frame(table: object) -> bool:
    return hasattr(table, "columns")


def _read(
    table: str | Path | pd.DataFrame, x: str, y: Sequence[str] | None, by: str | None
) -> tuple[pd.DataFrame, list[str]]:
    """The table, and the columns that ``x`` is correlated with."""
    from cas_metric.tables import numeric_columns, read_frame

    needed = ["method", x, *(y or []), *([by] if by else [])]
    if _is_frame(table):
        frame: Any = table
        missing = [column for column in needed if column not in frame]
        if missing:
            raise InputError(f"the table has no column {', '.join(missing)}")
        numeric = [str(column) for column in frame.select_dtypes("number").columns]
    else:
        numeric = numeric_columns(read_frame(Path(str(table)), *needed))
    targets = list(y) if y else [c for c in numeric if c not in ("method", x, by)]
    if not _is_frame(table):
        frame = read_frame(Path(str(table)), *needed, numeric=[x, *targets])
    return frame, targets


def _check_rows(source: str, frame: pd.DataFrame, by: str | None) -> None:
    """Refuse a table whose rows are not one a method: its p-values would be far too small."""
    if by and (empty := int((frame[by].isna() | (frame[by].astype(str) == "")).sum())):
        raise InputError(f"{source}: {empty} rows have an empty {by!r}")
    repeated = frame.duplicated([by, "method"] if by else ["method"])
    if repeated.any():
        where = f" of one {by}" if by else ""
        raise InputError(
            f"{source}: {frame['method'][repeated].iloc[0]!r} has several rows{where}",
            fix="average the rows of a method first, or name with --by what sets them apart",
        )


def _draw(results: list[dict[str, Any]], x: str, out: Path) -> None:
    from cas_metric.report import figures
    from cas_metric.statistics.correlation_table import note

    for number, result in enumerate(results, start=1):
        figure = figures.scatter(
            result["x_values"],
            result["y_values"],
            result["methods"],
            x_label=x,
            y_label=result["y"],
            note=note(result["coefficients"]),
            title=result["group"],
        )
        figures.save_figure(figure, out / f"scatter_{number}")
