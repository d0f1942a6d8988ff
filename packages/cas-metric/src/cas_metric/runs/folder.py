"""A run on disk: rows, summary and report, written as a whole and checked when they are read.

======================================  =====================================================
``per_image.parquet``, ``.csv``         one row a generated image
``real_per_image.…``                    the real images against themselves
``floor_per_image.…``                   each real image against another one of its class
``calibrated.…``                        the columns of cas-v2, where it was asked for
``summary.json``                        every aggregate, and how the run was made
``probe.safetensors``                   the probe, where it was fitted on a training split
``report.html``                         all of it, for people
======================================  =====================================================
"""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from cas_metric.errors import InputError
from cas_metric.files import to_json, write_together
from cas_metric.protocol import PRIMITIVES
from cas_metric.runs.run import Run
from cas_metric.scoring.per_image import COLUMNS
from cas_metric.scoring.probe import Probe

if TYPE_CHECKING:
    from cas_metric.scoring.probe import Probe

ROWS: Final = "per_image"
REAL_ROWS: Final = "real_per_image"
FLOOR_ROWS: Final = "floor_per_image"
CALIBRATED: Final = "calibrated"
SUMMARY: Final = "summary.json"
PROBE: Final = "probe.safetensors"
REPORT: Final = "report.html"

#: Of the table of ``cas-v2``, in file order.
CALIBRATED_COLUMNS: Final = (
    *("id", "method", "seed", "label", "image"),
    *(f"rank_{name}" for name in PRIMITIVES),
    *("alignment", "deviation", "low"),
)

#: Every file of a run; the summary, which vouches for the others, first.
FILES: Final = (
    SUMMARY,
    *(
        f"{name}.{kind}"
        for name in (ROWS, REAL_ROWS, FLOOR_ROWS, CALIBRATED)
        for kind in ("parquet", "csv")
    ),
    *(PROBE, REPORT),
)

#: Keys without which a summary cannot be used.
_REQUIRED: Final = ("protocol", "encoder", "methods")


def write_run(
    directory: str | Path,
    rows: pd.DataFrame,
    summary: dict[str, Any],
    *,
    real: pd.DataFrame | None = None,
    floor: pd.DataFrame | None = None,
    probe: Probe | None = None,
    calibrated: pd.DataFrame | None = None,
    report: str | None = None,
    keep: Collection[Path] = (),
) -> Path:
    """Write a run; the summary last, so that a directory with one is complete.

    Files of an earlier run are removed once all of this one are on the disk, others are left
    alone. The same content gives the same bytes.

    Args:
        directory: Created where it does not exist.
        rows: The generated images.
        summary: Aggregates and provenance.
        real: The real images against themselves.
        floor: The real images against others of their class.
        probe: The probe, where it was fitted in this run.
        calibrated: The columns of ``cas-v2``.
        report: The page for people.
        keep: Files that this run was made from, which are not removed with an earlier run.

    Returns:
        The directory.

    Raises:
        CasError: The directory cannot be written to.
    """
    folder = Path(directory)
    contents: dict[str, bytes] = {}
    tables = {ROWS: rows, REAL_ROWS: real, FLOOR_ROWS: floor, CALIBRATED: calibrated}
    for name, table in tables.items():
        if table is not None:
            contents[f"{name}.parquet"] = _parquet(table)
            contents[f"{name}.csv"] = table.to_csv(index=False, lineterminator="\n").encode()
    if probe is not None:
        contents[PROBE] = probe.to_bytes()
    if report is not None:
        contents[REPORT] = report.encode()
    contents[SUMMARY] = to_json(summary).encode()
    kept = {path.resolve() for path in keep}
    earlier = (folder / name for name in FILES if name == SUMMARY or name not in contents)
    write_together(
        {folder / name: content for name, content in contents.items()},
        obsolete=[path for path in earlier if path.resolve() not in kept],
    )
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
    calibrated = _read_rows(folder / f"{CALIBRATED}.parquet", CALIBRATED_COLUMNS)
    return Run(rows, summary, real, floor, calibrated=calibrated, path=folder)


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


def _read_rows(path: Path, columns: Sequence[str] = COLUMNS) -> pd.DataFrame | None:
    if not path.is_file():
        return None
    try:
        rows = pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise InputError(f"{path}: not readable as Parquet: {error}", fix="score again") from error
    lacking = [name for name in columns if name not in rows]
    if lacking:
        raise InputError(f"{path}: lacks the columns {', '.join(lacking)}", fix="score again")
    return rows
