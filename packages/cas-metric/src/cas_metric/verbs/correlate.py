"""Method-level scores against another quantity."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cas_metric import protocol
from cas_metric.errors import InputError
from cas_metric.verbs.result import Result
from cas_metric.verbs.text import first_few, listed

if TYPE_CHECKING:
    import pandas as pd

    from cas_metric.tables import Table

_CONSTANT: Final = "one of the two does not vary"
#: What was meant to be a number, be it with a decimal comma or a unit.
_LIKE_A_NUMBER: Final = re.compile(r"[+\-−]?[.,]?[0-9]")


def correlate(
    table: str | Path | pd.DataFrame,
    *,
    x: str = "cas",
    y: str | Sequence[str] | None = None,
    by: str | None = None,
    seed: int = protocol.BOOTSTRAP_SEED,
) -> Result:
    """Correlate method-level CAS with another quantity, such as downstream accuracy.

    Args:
        table: One row a method: ``method``, and the quantities; a path, or a frame of pandas or
            polars.
        x: Column of the score.
        y: Columns to correlate with; by default all numeric ones that vary. Notes tell of what
            else looks like one.
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
    asked = listed(y or ())
    frame, targets, unread = _read(table, x, asked, by)
    _check_rows(source, frame, by)
    if x in targets:
        raise InputError(f"{x!r} cannot be correlated with itself", fix="choose another --y")
    if not targets:
        why = f" ({first_few(unread, '; ')})" if unread else ""
        raise InputError(
            f"{source}: no numeric column to correlate {x!r} with{why}",
            fix="write numbers with a decimal point; leave the cell empty where there is none",
        )
    groups = {str(k): g for k, g in frame.groupby(by)} if by else {"": frame}
    pairs = [(name, group, target) for name, group in groups.items() for target in targets]
    # What nobody asked for by name is left out where it has no correlation.
    kept = pairs if asked else [one for one in pairs if not _lack(*one[1:], x)] or pairs
    results: Any = [correlate_columns(group, name, x, one, seed) for name, group, one in kept]
    text = correlation_markdown(results, x)
    done = {(name, target) for name, _, target in kept}
    dropped = [one for one in pairs if (one[0], one[2]) not in done]
    origin = Origin.of_verb("correlation", {"table": table}, x=x, y=", ".join(asked) or None, by=by)
    return Result(
        *("correlation", results, text),
        writers=(partial(_draw, results, x),),
        notes=(*(f"left out: {one}" for one in unread), *_left_out(dropped, x, len(groups))),
        origin=origin,
    )


def _lack(group: pd.DataFrame, target: str, x: str) -> str:
    """Why two columns have no correlation in these rows; empty where they have one."""
    values = group[[x, target]].dropna()
    if len(values) < 3:
        return "fewer than 3 methods have both"
    return "" if (values.min() < values.max()).all() else _CONSTANT


def _left_out(dropped: list[tuple[str, pd.DataFrame, str]], x: str, groups: int) -> list[str]:
    """Notes of the columns without a correlation anywhere, then of those without it in a group."""
    why: dict[str, dict[str, str]] = {}
    for name, group, target in dropped:
        why.setdefault(target, {})[name] = _lack(group, target, x)
    nowhere = {target: {*found.values()} for target, found in why.items() if len(found) == groups}
    constant = sorted(target for target, reasons in nowhere.items() if reasons == {_CONSTANT})
    notes = [f"left out, since they do not vary: {', '.join(constant)}"] if constant else []
    for target, found in why.items():
        if target in nowhere and target not in constant:
            notes.append(f"left out: {x} with {target}: {' or '.join(sorted(nowhere[target]))}")
        elif target not in nowhere:
            places = found.items()
            notes += [f"left out: {x} with {target} in {name}: {one}" for name, one in places]
    return notes


def _is_frame(table: object) -> bool:
    return hasattr(table, "columns")


def _read(
    table: str | Path | pd.DataFrame, x: str, y: Sequence[str], by: str | None
) -> tuple[pd.DataFrame, list[str], list[str]]:
    """The table, the columns that ``x`` is correlated with, and why others are none of them."""
    from cas_metric.tables import numeric_columns, python_values, read_frame, read_table, table_of

    needed = ["method", x, *y, *([by] if by else [])]
    if _is_frame(table):
        frame = _of_pandas(table)
        missing = [column for column in needed if column not in frame]
        if missing:
            raise InputError(f"the table has no column {', '.join(missing)}")
        numeric = list(frame.select_dtypes("number").columns)
        cells = table_of({name: python_values(frame[name]) for name in frame}, "the table")
    else:
        path = Path(str(table))
        numeric = numeric_columns(read_frame(path, *needed))
        cells = read_table(path)
    targets = list(y) or [c for c in numeric if c not in ("method", x, by)]
    unread = [] if y else _unread(cells, {"method", x, by, *targets})
    if not _is_frame(table):
        frame = read_frame(path, *needed, numeric=[x, *targets])
    return frame, targets, unread


def _of_pandas(table: Any) -> pd.DataFrame:
    """A pandas or polars frame as one of pandas whose columns have names of text."""
    import pandas as pd

    if not isinstance(table, pd.DataFrame):
        table = pd.DataFrame(table.to_dict(as_series=False))
    names = [str(name) for name in table.columns]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"the table: two columns are named {name!r}", fix="keep one of them")
    return table.set_axis(names, axis=1)


def _unread(table: Table, known: set[str | None]) -> list[str]:
    """Of each column that holds a number and is none of numbers, the first cell that is none."""
    from cas_metric.tables import NUMBER

    found = []
    for name, column in table.columns.items():
        cells = list(map(str.strip, column))
        bad = next((k for k, one in enumerate(cells) if one and not NUMBER.fullmatch(one)), None)
        if name not in known and bad is not None and any(map(_LIKE_A_NUMBER.match, cells)):
            found.append(f"{name} is no number in {table.places[bad]}: {cells[bad]!r}")
    return found


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
