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
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from cas_metric.errors import InputError
from cas_metric.files import (
    is_local,
    place,
    require_local,
    require_writable,
    title,
    to_json,
    write_together,
)
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
        told: What a later run must agree on: the verb, unless it is ``score``; absolute paths of
            the sets of images, empty for a frame; and what was chosen, such as a method.
        files: Every file that was read as a table, configuration or probe.
    """

    told: Mapping[str, str]
    files: tuple[Path, ...] = ()

    @classmethod
    def of(cls, generated: Any, real: Any, *, files: Iterable[Any] = (), **choice: Any) -> Origin:
        """The origin of a run over these arguments of :func:`cas_metric.score`."""
        sets = {"generated": generated, "real": real}
        return cls._of({}, sets, files, choice)

    @classmethod
    def of_verb(cls, verb: str, sets: Mapping[str, Any], **choice: Any) -> Origin:
        """The origin of the result of another verb.

        Args:
            verb: Its name.
            sets: Argument to the images, or list of them, that it was given; None leaves one out.
            choice: What else was asked for; None leaves it out.
        """
        return cls._of({"verb": verb}, sets, (), choice)

    @classmethod
    def _of(
        cls,
        head: Mapping[str, str],
        sets: Mapping[str, Any],
        files: Iterable[Any],
        choice: Mapping[str, Any],
    ) -> Origin:
        listed = {
            name: [_absolute(one) for one in (given if isinstance(given, list) else [given])]
            for name, given in sets.items()
            if given is not None
        }
        places = [one for many in listed.values() for one in many]
        read = (*places, *(_absolute(file) for file in files))
        told = {
            **head,
            **{name: ", ".join(many) for name, many in listed.items()},
            **{name: str(value) for name, value in choice.items() if value is not None},
        }
        return cls(told, tuple(Path(p) for p in read if p and Path(p).is_file()))

    def as_dict(self) -> dict[str, Any]:
        """For ``summary.json``."""
        return dict(self.told)


def own_folder(parent: Path, origin: Origin) -> Path:
    """A folder below ``parent`` called after the images; another name where another run has it."""
    generated = origin.told.get("generated")
    return free_folder(parent / (_name_of(Path(generated)) if generated else "run"), origin)


def free_folder(folder: Path, origin: Origin) -> Path:
    """The folder; another name, with a number, where another result has it."""
    number, free = 1, folder
    while _is_another(origin_of(free / SUMMARY), origin.told):
        number += 1
        free = folder.with_name(f"{folder.name}-{number}")
    return free


def require_own(
    marker: Path, origin: Mapping[str, str], files: Iterable[str] = (), verb: str = ""
) -> None:
    """Refuse to replace what another run or verb, or a person, put into a folder.

    Args:
        marker: The file that completes a result and says what it was made from.
        origin: What the new one is made from.
        files: Names of the other files that it would replace.
        verb: Whose result the marker is by its name alone, where it does not say.

    Raises:
        InputError: The folder holds another result, or one of the files without a marker.
    """
    folder = marker.parent
    earlier = origin_of(marker, verb)
    if earlier is not None and _is_another(earlier, origin):
        what = "result" if "verb" in earlier else "run"
        raise InputError(
            f"{folder} holds another {what} ({differences(earlier, origin)})",
            fix="choose another --out, or delete it first",
        )
    foreign = [name for name in files if earlier is None and (folder / name).exists()]
    if foreign:
        raise InputError(
            f"{folder} holds {', '.join(foreign)}, which no earlier result there vouches for",
            fix="choose another --out, or delete it first",
        )


def differences(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What two results were made from otherwise, with both values; of two verbs only these.

    Examples:
        >>> differences({"real": "/a", "seed": "1"}, {"real": "/b"})
        'real /a there, /b here; seed 1 there, none here'
    """
    differing = [name for name in {**earlier, **now} if earlier.get(name) != now.get(name)]
    if "verb" in differing:
        differing, earlier, now = ["verb"], {"verb": "score", **earlier}, {"verb": "score", **now}
    return "; ".join(
        f"{name} {_shown(earlier.get(name))} there, {_shown(now.get(name))} here"
        for name in differing
    )


def _shown(value: Any) -> str:
    return "none" if value is None or value == "" else str(value)


def result_folder(out: str | Path | None, default: Path, origin: Origin) -> Path:
    """Where the result of a verb goes, before anything is computed.

    Args:
        out: What was asked for.
        default: Where nothing was; it takes another name where another result lies there.
        origin: What the result is made from.

    Raises:
        InputError: As :func:`claim`.
    """
    place = Path(out) if out is not None else free_folder(default, origin)
    require_own(require_local(place) / SUMMARY, origin.told, (SUMMARY,))
    return claim(place, origin)


def claim(out: str | Path, origin: Origin) -> Path:
    """Make sure that the run can be written to ``out`` without loss, before anything is computed.

    A summary or report without the rows of a run is a person's, and stays.

    Raises:
        InputError: It cannot be written to, would replace another run, or one of its files was
            given as an input.
    """
    folder = require_local(Path(out))
    rows = (folder / f"{ROWS}.parquet").exists()
    require_own(folder / SUMMARY, origin.told, () if rows else (SUMMARY, REPORT))
    written = {(folder / name).resolve() for name in FILES if name != PROBE}
    for path in origin.files:
        if path.resolve() in written:
            raise InputError(
                f"{path} is an input, and the run would replace it", fix="choose another --out"
            )
    require_writable(folder, FILES)
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


def origin_of(marker: Path, verb: str = "") -> dict[str, Any] | None:
    """What a result was made from, by its JSON; None where there is none, or it does not say."""
    with suppress(OSError, ValueError):
        return made_from(json.loads(marker.read_text(encoding="utf-8")), verb)
    return None


def made_from(summary: Any, verb: str = "") -> dict[str, Any] | None:
    """What a summary says that it was made from.

    Args:
        summary: Of any verb.
        verb: Whose it is, where it does not say.
    """
    if isinstance(summary, list):  # of `cas correlate`
        summary = summary[0] if summary else None
    with suppress(KeyError, TypeError, ValueError):
        return dict(summary["origin"] if "origin" in summary else summary["provenance"]["origin"])
    verb = summary.get("kind", verb) if isinstance(summary, Mapping) else verb
    return {"verb": verb} if verb else None


def _is_another(earlier: Mapping[str, Any] | None, origin: Mapping[str, Any]) -> bool:
    if earlier is None or earlier == origin:
        return False
    return earlier != {"verb": origin.get("verb")}  # an older one of this verb tells no more


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
