"""Where a run goes, and what must not be lost there."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cas_metric.errors import InputError
from cas_metric.runs.folder import FILES, PROBE, SUMMARY


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
    folder = Path(out)
    earlier = _origin_of(folder)
    if earlier not in (None, origin.as_dict()):
        told = ", ".join(f"{name} {value}" for name, value in earlier.items())
        raise InputError(
            f"{folder} holds another run ({told})", fix="choose another --out, or delete it first"
        )
    written = {(folder / name).resolve() for name in FILES if name != PROBE}
    for path in origin.files:
        if path.resolve() in written:
            raise InputError(
                f"{path} is an input, and the run would replace it", fix="choose another --out"
            )
    nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written to: {error.strerror}", fix="give --out another directory"
        ) from error
    return folder


def _origin_of(folder: Path) -> dict[str, Any] | None:
    """What the run in a folder was made from; None where there is no run, or it does not say."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        return dict(summary["provenance"]["origin"])
    return None


def _absolute(source: Any) -> str:
    if not isinstance(source, str | os.PathLike):
        return ""
    # Not resolve(): a link keeps its own name. But with ".." left, runs/.. would be elsewhere.
    return os.path.normpath(Path(source).absolute())


def _name_of(generated: Path) -> str:
    """That of the folder, or of the table without its ending."""
    path = Path(_absolute(generated))
    return path.name if path.is_dir() or path.stem != "metadata" else path.parent.name
