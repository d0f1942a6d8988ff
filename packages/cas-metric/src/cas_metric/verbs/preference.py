"""Scores and agreement from rankings."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from cas_metric import protocol
from cas_metric.errors import InputError
from cas_metric.verbs.result import Result, require_free

if TYPE_CHECKING:
    import pandas as pd


def preference(
    rankings: str | Path | pd.DataFrame,
    *,
    cas: str | Path | pd.DataFrame | Mapping[str, float] | None = None,
    model: str = "bradley-terry",
    ridge: float = 0.0,
    resamples: int = protocol.RESAMPLES,
    seed: int = protocol.BOOTSTRAP_SEED,
    out: str | Path | None = None,
) -> Result:
    """Turn rankings of images into preference scores with their uncertainty.

    Args:
        rankings: Table of ``case, rater, method, rank`` (and ``position``), or of ``case, rater``
            and one column a method.
        cas: Method to mean CAS, or a table of both, to correlate the scores with.
        model: ``bradley-terry`` (pairs), ``plackett-luce`` (whole rankings) or ``davidson`` (pairs
            with ties).
        ridge: Penalty on the scores; needed when a method always wins.
        resamples: Random exchanges of orders in the test for position bias.
        seed: Of the exchanges.
        out: Where it is to be saved: refused before anything is computed, if another result lies
            there.

    Returns:
        A result named ``preference``; its summary is that of
        :func:`cas_metric.statistics.preference_table.analyse`.

    Raises:
        InputError: The table is no table of rankings, or does not determine the scores.

    Examples:
        >>> import pandas as pd
        >>> ranks = {"case": range(4), "rater": "r", "A": [1, 1, 2, 1], "B": [2, 2, 1, 2]}
        >>> preference(pd.DataFrame(ranks)).summary["wins"]["A"]["B"]["rate"]["estimate"]
        0.75
    """
    from cas_metric.runs.folder import Origin
    from cas_metric.statistics.preference import parse_rankings
    from cas_metric.statistics.preference_table import (
        analyse,
        correlate_with,
        preference_markdown,
    )
    from cas_metric.tables import read_frame

    origin = Origin.of_verb("preference", {"rankings": rankings, "cas": cas}, model=model)
    require_free(out, "preference", origin)
    table = rankings if _is_frame(rankings) else read_frame(Path(rankings), numeric=["position"])
    summary = analyse(parse_rankings(table), model, ridge, {"resamples": resamples, "seed": seed})
    if cas is not None:
        named = "the means" if isinstance(cas, Mapping) or _is_frame(cas) else str(cas)
        summary["correlation"] = correlate_with(summary, mean_cas(cas, named), named)
    return Result(
        "preference",
        summary,
        preference_markdown(summary),
        writers=(partial(_draw, summary),),
        origin=origin,
    )


def _is_frame(source: object) -> TypeGuard[pd.DataFrame]:
    return hasattr(source, "columns")


def _draw(summary: dict[str, Any], out: Path) -> None:
    from cas_metric.report.preference import draw_figures

    draw_figures(out, summary)


def mean_cas(source: Any, named: str) -> dict[str, float]:
    """Method to mean CAS out of a mapping, or of a table with one row a method.

    Raises:
        InputError: The table cannot be read, lacks a column, or has several rows of one method.
    """
    from cas_metric.tables import read_frame

    if isinstance(source, Mapping):
        return {str(name): float(value) for name, value in source.items()}
    if _is_frame(source):
        table = source
        missing = [column for column in ("method", "cas") if column not in table]
        if missing:
            raise InputError(f"the table has no column {', '.join(missing)}")
    else:
        table = read_frame(Path(source), "method", "cas", numeric=["cas"])
    names = table["method"].astype(str)
    if names.duplicated().any():
        raise InputError(
            f"{named}: {names[names.duplicated()].iloc[0]!r} has several rows",
            fix="give a table with one row a method, of one data set",
        )
    return dict(zip(names, table["cas"].astype(float), strict=True))
