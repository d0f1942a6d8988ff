"""A run on disk: rows and summary, written as a whole and checked when they are read.

======================================  =====================================================
``per_image.parquet``, ``.csv``         one row a generated image
``real_per_image.…``                    the real images against themselves
``floor_per_image.…``                   each real image against another one of its class
``summary.json``                        every aggregate, and how the run was made
``probe.safetensors``                   the probe, where it was fitted on a training split
======================================  =====================================================
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd

from cas_metric.errors import InputError
from cas_metric.files import to_json, write_bytes
from cas_metric.scoring.per_image import COLUMNS
from cas_metric.scoring.probe import Probe

ROWS: Final = "per_image"
REAL_ROWS: Final = "real_per_image"
FLOOR_ROWS: Final = "floor_per_image"
SUMMARY: Final = "summary.json"
PROBE: Final = "probe.safetensors"

#: Keys without which a summary cannot be used.
_REQUIRED: Final = ("protocol", "encoder", "methods")


@dataclass(frozen=True, eq=False)
class Run:
    """A run that was read back.

    Attributes:
        path: Its directory.
        rows: The generated images.
        summary: Content of ``summary.json``.
        real: The real images against themselves; None where the run has none.
        floor: The real images against others of their class; None where the run has none.
    """

    path: Path
    rows: pd.DataFrame
    summary: dict[str, Any]
    real: pd.DataFrame | None = None
    floor: pd.DataFrame | None = None


def write_run(
    directory: str | Path,
    rows: pd.DataFrame,
    summary: dict[str, Any],
    *,
    real: pd.DataFrame | None = None,
    floor: pd.DataFrame | None = None,
    probe: Probe | None = None,
) -> Path:
    """Write a run; the summary last, so that a directory with one is complete.

    Files of an earlier run are removed first, others are left alone. Every file appears as a
    whole, and the same content gives the same bytes.

    Args:
        directory: Created where it does not exist.
        rows: The generated images.
        summary: Aggregates and provenance.
        real: The real images against themselves.
        floor: The real images against others of their class.
        probe: The probe, where it was fitted in this run.

    Returns:
        The directory.

    Raises:
        CasError: The directory cannot be written to.
    """
    folder = Path(directory)
    _clear(folder)
    for name, table in ((ROWS, rows), (REAL_ROWS, real), (FLOOR_ROWS, floor)):
        if table is not None:
            write_bytes(folder / f"{name}.parquet", _parquet(table))
            csv = table.to_csv(index=False, lineterminator="\n")
            write_bytes(folder / f"{name}.csv", csv.encode())
    if probe is not None:
        probe.save(folder / PROBE)
    write_bytes(folder / SUMMARY, to_json(summary).encode())
    return folder


def read_run(directory: str | Path) -> Run:
    """Read a run and check that it is complete.

    Raises:
        InputError: No run, an interrupted one, or files that do not hold what they should.
    """
    folder = Path(directory)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such directory", fix="give the --out of a `cas score` run")
    summary = _read_summary(folder / SUMMARY)
    rows = _read_rows(folder / f"{ROWS}.parquet")
    if rows is None:
        raise InputError(f"{folder}: {ROWS}.parquet is missing", fix="score the images again")
    real, floor = (_read_rows(folder / f"{name}.parquet") for name in (REAL_ROWS, FLOOR_ROWS))
    return Run(folder, rows, summary, real, floor)


def _clear(folder: Path) -> None:
    """Remove the files of an earlier run, the summary, which vouches for them, first."""
    tables = [f"{n}.{kind}" for n in (ROWS, REAL_ROWS, FLOOR_ROWS) for kind in ("parquet", "csv")]
    try:
        for name in (SUMMARY, *tables, PROBE):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written to: {error.strerror}", fix="give --out another directory"
        ) from error


def _parquet(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _read_summary(path: Path) -> dict[str, Any]:
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            f"{path.parent}: no {SUMMARY}, so this is no finished run",
            fix="run the same `cas score` again: it continues where it was interrupted",
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as JSON: {error}", fix="score again") from error
    lacking = [key for key in _REQUIRED if not isinstance(summary, dict) or key not in summary]
    if lacking:
        raise InputError(
            f"{path}: lacks {', '.join(lacking)}", fix="was it written by `cas score`? score again"
        )
    return summary


def _read_rows(path: Path) -> pd.DataFrame | None:
    if not path.is_file():
        return None
    try:
        rows = pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise InputError(f"{path}: not readable as Parquet: {error}", fix="score again") from error
    lacking = [name for name in COLUMNS if name not in rows]
    if lacking:
        raise InputError(f"{path}: lacks the columns {', '.join(lacking)}", fix="score again")
    return rows
