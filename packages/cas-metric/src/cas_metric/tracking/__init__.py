"""Runs in experiment trackers, and their metadata for archives.

A tracker is one file here, whose first line names it and which defines ``log``; it uses the
tracker's own settings (environment variables) for where things go.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cas_metric.discovery import named_modules
from cas_metric.errors import CasError, InputError, MissingDependency
from cas_metric.manifest.rows import ABSOLUTE

if TYPE_CHECKING:
    import pandas as pd

    from cas_metric.runs.run import Run

#: Pictures of the generated images with the lowest scores that a tracker gets.
PICTURES: Final = 16
_SIDE: Final = 256
#: Columns that stay at home: who it was, and the real images.
PRIVATE: Final = ("patient", "reference")
#: An absolute path, but for its last name; blanks may be in it.
_FOLDERS: Final = re.compile(r"(?<![\w.\\/])(?:[A-Za-z][\w+.-]*:)?[\\/](?:[^\\/:\n]*[\\/])*")


@dataclass(frozen=True, eq=False)
class Entry:
    """What of a run is tracked.

    Real images never leave, nor does the report that shows them, nor the columns ``patient``,
    ``reference`` and those by which patients are grouped, nor where anything lies on this machine.

    Attributes:
        name: Of the run.
        settings: How it was made, flat.
        metrics: ``method/cas`` and the like to a finite number; those of the real images under
            ``real/``.
        rows: One row a generated image; of its file the name alone.
        pictures: ``(caption, (H, W, 3) uint8)`` of the generated images with the lowest scores.
        folder: Of the run.
    """

    name: str
    settings: dict[str, str | int | float | bool]
    metrics: dict[str, float]
    rows: pd.DataFrame
    pictures: tuple[tuple[str, np.ndarray], ...]
    folder: Path

    @classmethod
    def of(cls, run: Run) -> Entry:
        """Of a run that lies in a folder."""
        assert run.path is not None
        summary = run.summary
        made = {
            **{key: summary[key] for key in ("protocol", "domain")},
            **{f"encoder.{key}": value for key, value in summary["encoder"].items()},
            "probe": summary["probe"]["kind"],
            "command": command_of(run),
        }
        settings = {
            key: without_folders(value) if isinstance(value, str) and key != "command" else value
            for key, value in made.items()
            if value not in (None, "")
        }
        rows = _shown(run)
        return cls(run.path.name, settings, _metrics(summary), rows, _pictures(run), run.path)


def command_of(run: Run) -> str:
    """The command line of a run; of paths only the last name, which tells nobody's folders."""
    words = run.summary["provenance"]["command"]
    return " ".join(re.sub(r"[^=]*[\\/](?=[^\\/])", "", str(word)) for word in words)


def without_folders(text: str) -> str:
    """Text in which absolute paths are their last names.

    Examples:
        >>> without_folders("/home/me/ward 3/gen/a.png: no image; as google/siglip says")
        'a.png: no image; as google/siglip says'
    """
    return _FOLDERS.sub("", text)


def _shown(run: Run) -> pd.DataFrame:
    """The rows with the columns that may leave, without folders of this machine."""
    from cas_metric.runs.run import roots
    from cas_metric.scoring.per_image import COLUMNS, OPTIONAL_COLUMNS

    allowed = (*COLUMNS, *OPTIONAL_COLUMNS)
    rows = run.rows[[name for name in run.rows if name in allowed and name not in PRIVATE]]
    folders = [str(folder) for folder in roots(run.summary) if folder is not None]

    def told(text: str) -> str:
        for folder in folders:  # whatever their names are made of
            text = text.replace(f"{folder.rstrip('/')}/", "")
        return without_folders(text)

    names = [_last(image) for image in rows["image"]]
    errors = [
        told(error.replace(image, name)) if error else ""
        for error, image, name in zip(rows["error"], rows["image"], names, strict=True)
    ]
    return rows.assign(image=names, error=errors, id=rows["id"].map(_plain_id))


def _plain_id(name: str) -> str:
    """An id that is an absolute path by its last name."""
    return _last(name) if ABSOLUTE.match(name) else name


def _last(path: str) -> str:
    return re.split(r"[\\/]", path)[-1]


def require(names: Iterable[str]) -> tuple[str, ...]:
    """The names of trackers, if there are such and their libraries are installed.

    Raises:
        InputError: No such tracker.
        MissingDependency: Its library is not installed.
    """
    known = named_modules(Path(__file__).parent)
    names = tuple(names)
    for name in names:
        if name not in known:
            raise InputError(f"{name!r} is no tracker", fix=f"choose one of {', '.join(known)}")
        if find_spec(name) is None:
            raise MissingDependency(name, extra=name, purpose=f"--track {name}")
    return names


def track(run: Run, names: Iterable[str]) -> None:
    """Log a saved run.

    Args:
        run: With its folder.
        names: ``tensorboard``, ``mlflow``, ``wandb``, ``trackio``.

    Raises:
        InputError: No such tracker.
        MissingDependency: Its library is not installed.
        CasError: What the tracker said; the run itself is saved.
    """
    names = require(names)
    modules = named_modules(Path(__file__).parent)
    entry = Entry.of(run)
    for name in names:
        try:
            importlib.import_module(f"{__name__}.{modules[name][0]}").log(entry)
        except Exception as error:
            raise CasError(
                f"the run is saved in {run.path}, but {name} did not take it: {error}",
                fix=f"correct {name}'s settings and give the same command again: nothing is "
                "embedded twice",
            ) from error


def _metrics(summary: dict[str, Any]) -> dict[str, float]:
    found: dict[str, float | None] = {}
    for method in summary["methods"]:
        found |= {f"{method['method']}/{key}": value for key, value in method["mean"].items()}
        if method["tail"]:
            found[f"{method['method']}/below_tau"] = method["tail"]["rate"]
        found[f"{method['method']}/failed"] = method["n_failed"]
    found |= {f"real/{key}": value for key, value in summary["real"]["mean"].items()}
    found["tau"] = summary["tau"]
    return {
        re.sub(r"[^\w./ -]", "_", name): float(value)
        for name, value in found.items()
        if value is not None and np.isfinite(value)
    }


def _pictures(run: Run) -> tuple[tuple[str, np.ndarray], ...]:
    from PIL import Image

    from cas_metric.images import load_image, to_uint8
    from cas_metric.runs.run import locate, roots, windows

    found = []
    root, window = roots(run.summary)[0], windows(run.summary)[0]
    for row in run.worst(PICTURES).to_dict("records"):
        path = locate(root, row, "image")
        try:
            pixels = to_uint8(load_image(path, window=window).pixels) if path else None
        except CasError:
            continue
        if pixels is not None:
            picture = Image.fromarray(np.asarray(pixels))
            picture.thumbnail((_SIDE, _SIDE))
            name = _plain_id(row["id"])
            found.append((f"{row['method']} {name}, CAS {row['cas']}", np.asarray(picture)))
    return tuple(found)
