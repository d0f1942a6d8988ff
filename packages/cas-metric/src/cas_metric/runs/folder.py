"""A run on disk: where it goes, written as a whole without loss, and checked when it is read.

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
import os
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from cas_metric.errors import InputError
from cas_metric.files import is_local, place, require_local, title, to_json, write_together
from cas_metric.protocol import PRIMITIVES
from cas_metric.runs.run import Run
from cas_metric.scoring.per_image import COLUMNS

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


@dataclass(frozen=True)
class Origin:
    """What a run is made from, by which a later run is known as the same one.

    Attributes:
        generated: Absolute path of the generated images' folder or table; empty for a frame.
        real: The same of the real ones.
        choice: Method, seed and encoder that were asked for, where the arguments name any.
        files: Every file that was read as a table, configuration or probe.
    """

    generated: str
    real: str
    choice: Mapping[str, str]
    files: tuple[Path, ...] = ()

    @classmethod
    def of(cls, generated: Any, real: Any, *, files: Iterable[Any] = (), **choice: Any) -> Origin:
        """The origin of a run over these arguments of :func:`cas_metric.score`."""
        one, other = _absolute(generated), _absolute(real)
        given = (one, other, *(_absolute(file) for file in files))
        chosen = {name: str(value) for name, value in choice.items() if value is not None}
        return cls(one, other, chosen, tuple(Path(p) for p in given if p and Path(p).is_file()))

    def as_dict(self) -> dict[str, Any]:
        """For ``summary.json``."""
        return {"generated": self.generated, "real": self.real, **self.choice}


def own_folder(parent: Path, origin: Origin) -> Path:
    """A folder below ``parent`` called after the images; another name where another run has it."""
    name = _name_of(Path(origin.generated)) if origin.generated else "run"
    number, folder = 1, parent / name
    while _origin_of(folder) not in (None, origin.as_dict()):
        number += 1
        folder = parent / f"{name}-{number}"
    return folder


def claim(out: str | Path, origin: Origin) -> Path:
    """Make sure that the run can be written to ``out`` without loss, before anything is computed.

    Raises:
        InputError: It cannot be written to, would replace another run, or one of its files was
            given as an input.
    """
    folder = require_local(Path(out))
    earlier = _origin_of(folder)
    if earlier not in (None, origin.as_dict()):
        told = ", ".join(f"{name} {value}" for name, value in earlier.items())
        raise InputError(
            f"{folder} holds another {'result' if 'verb' in earlier else 'run'} ({told})",
            fix="choose another --out, or delete it first",
        )
    written = {(folder / name).resolve() for name in FILES if name != PROBE}
    for path in origin.files:
        if path.resolve() in written:
            raise InputError(
                f"{path} is an input, and the run would replace it", fix="choose another --out"
            )
    nearest = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written to: {error.strerror}", fix="give --out another directory"
        ) from error
    return folder


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


def _origin_of(folder: Path) -> dict[str, Any] | None:
    """What the result in a folder was made from; None where there is none, or it does not say."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        if "kind" in summary:  # of a verb that is no run
            return {"verb": summary["kind"]}
        return dict(summary["provenance"]["origin"])
    return None


def _absolute(source: Any) -> str:
    if not isinstance(source, str | os.PathLike):
        return ""
    found = place(source)
    if not is_local(found):
        return str(found)
    # Not resolve(): a link keeps its own name. But with ".." left, runs/.. would be elsewhere.
    return os.path.normpath(Path(source).absolute())


def _name_of(generated: Path) -> str:
    """That of the folder, or of the table without its ending."""
    path = place(_absolute(generated))
    return title(path if path.is_dir() or path.stem != "metadata" else path.parent)
