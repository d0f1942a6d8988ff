"""``cas correlate``: correlate method-level scores with another quantity."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cas_metric import protocol
from cas_metric.cli.results import deliver
from cas_metric.errors import InputError
from cas_metric.tables import numeric_columns, read_frame

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command()
def correlate(
    table: Annotated[
        Path, typer.Argument(help="CSV with one row a method: `method`, and the quantities.")
    ],
    x: Annotated[str, typer.Option(help="Column of the score.")] = "cas",
    y: Annotated[
        list[str] | None,
        typer.Option(
            help="Column to correlate with; may be repeated. All numeric ones by default."
        ),
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="Column whose groups (data sets) are correlated apart.")
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Seed of the permutations beyond 8 methods.")
    ] = protocol.BOOTSTRAP_SEED,
    out: Annotated[
        Path | None, typer.Option(help="Directory for correlation.json, .md and scatter figures.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Results as JSON on stdout.")] = False,
) -> None:
    """Correlate method-level CAS with another quantity, such as downstream accuracy.

    Pearson, Spearman and Kendall, each with the usual p-value and the permutation p-value (all
    orders up to 8 methods), an interval by its normalising transform, and the range it takes when
    each method is left out in turn. With five methods the usual p-value of a rank correlation is
    far too small: trust the permutation one.

    Example: `cas correlate methods.csv --x cas --y accuracy --y macro_f1 --by dataset`
    """
    needed = ["method", x, *(y or []), *([by] if by else [])]
    frame = read_frame(table, *needed)
    targets = y or [c for c in numeric_columns(frame) if c not in ("method", x, by)]
    frame = read_frame(table, *needed, numeric=[x, *targets])
    _check_rows(table, frame, by)
    groups = {str(k): g for k, g in frame.groupby(by)} if by else {"": frame}
    if x in targets:
        raise InputError(f"{x!r} cannot be correlated with itself", fix="choose another --y")
    if not targets:
        raise InputError(f"{table}: no numeric column to correlate {x!r} with")
    results = [
        correlate_columns(group, name, x, target, seed)
        for name, group in groups.items()
        for target in targets
    ]
    if out is not None:
        _draw(out, results, x)
    deliver(results, _markdown(results, x), out=out, name="correlation", as_json=as_json)


def _check_rows(table: Path, frame: pd.DataFrame, by: str | None) -> None:
    """Refuse a table whose rows are not one a method: its p-values would be far too small."""
    if by and (empty := int((frame[by] == "").sum())):
        raise InputError(f"{table}: {empty} rows have an empty {by!r}")
    repeated = frame.duplicated([by, "method"] if by else ["method"])
    if repeated.any():
        where = f" of one {by}" if by else ""
        raise InputError(
            f"{table}: {frame['method'][repeated].iloc[0]!r} has several rows{where}",
            fix="average the rows of a method first, or name with --by what sets them apart",
        )


def correlate_columns(
    frame: pd.DataFrame, group: str, x: str, target: str, seed: int
) -> dict[str, Any]:
    """All coefficients of two columns of a table with one row a method."""
    from cas_metric.statistics import correlation

    kept = frame[["method", x, target]].dropna()
    try:
        left, right = kept[x].astype(float), kept[target].astype(float)
        found = correlation.correlate(left, right, seed=seed)
    except (ValueError, InputError) as error:
        where = f" in {group}" if group else ""
        reason = error.problem if isinstance(error, InputError) else str(error)
        raise InputError(f"{x} with {target}{where}: {reason}") from error
    return {
        "group": group,
        "x": x,
        "y": target,
        "methods": kept["method"].astype(str).tolist(),
        "x_values": left.tolist(),
        "y_values": right.tolist(),
        "coefficients": [
            {**c._asdict(), "value": c.value._asdict(), "influence": c.influence} for c in found
        ],
    }


def coefficient_table(coefficients: list[dict[str, Any]]) -> str:
    """Coefficients with intervals, both p-values and the leave-one-out range, as Markdown."""
    from cas_metric.statistics.tables import markdown_table, number, p_value

    lines = []
    for entry in coefficients:
        value = entry["value"]
        without = [v for v in entry["leave_one_out"] if v == v]  # NaN is unequal to itself
        lines.append(
            [
                entry["statistic"] + (" (ties)" if entry["ties"] else ""),
                str(entry["n"]),
                f"{number(value['estimate'])} [{number(value['low'])}, {number(value['high'])}]",
                p_value(entry["p_asymptotic"]),
                p_value(entry["p_permutation"]) + (" (exact)" if entry["exact"] else ""),
                f"{number(min(without))} to {number(max(without))}" if without else "–",
            ]
        )
    headings = ["coefficient", "n", "value", "p (usual)", "p (permutation)", "leave one out"]
    return markdown_table(headings, lines)


def note(coefficients: list[dict[str, Any]]) -> str:
    """Pearson and Spearman with their permutation p-values, for the corner of a figure."""
    by_name = {entry["statistic"]: entry for entry in coefficients}
    lines = []
    for name, symbol in (("pearson", "r"), ("spearman", "ρ")):
        entry = by_name[name]
        value = entry["value"]["estimate"]
        lines.append(f"{symbol} = {value:.3f} (permutation p = {entry['p_permutation']:.3f})")
    return "\n".join(lines)


def _markdown(results: list[dict[str, Any]], x: str) -> str:
    parts = [f"# Correlation with {x}"]
    for result in results:
        where = f" ({result['group']})" if result["group"] else ""
        parts.append(f"## {x} with {result['y']}{where}")
        parts.append(coefficient_table(result["coefficients"]))
        pearson = result["coefficients"][0]
        pulls = pearson["influence"]
        finite = [k for k, pull in enumerate(pulls) if pull == pull]
        if finite:
            most = max(finite, key=lambda k: abs(pulls[k]))
            parts.append(
                f"Most influential on Pearson: {result['methods'][most]} (without it "
                f"{pearson['leave_one_out'][most]:.3f})."
            )
    return "\n\n".join(parts) + "\n"


def _draw(out: Path, results: list[dict[str, Any]], x: str) -> None:
    from cas_metric.report import figures

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
