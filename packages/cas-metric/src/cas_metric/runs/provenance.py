"""How a result came about: the call, the versions, and where the images lay."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cas_metric.files import told_words

if TYPE_CHECKING:
    from cas_metric.manifest import Manifest

#: What ``cas`` is started as: the script, or the package or module that it stands for.
_PROGRAMS = ("cas", "cas.exe", "__main__.py", "main.py")


def command_of(verb: str) -> list[str]:
    """The words of the command line; the name of the function where it was called from Python."""
    program = Path(sys.argv[0] if sys.argv else "")
    started = program.name in _PROGRAMS and (program.stem == "cas" or "cas_metric" in program.parts)
    return told_words(["cas", *sys.argv[1:]]) if started else [f"cas_metric.{verb}(…)"]


def provenance(
    verb: str, packages: Iterable[str], inputs: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The block ``provenance`` of a summary.

    Args:
        verb: That was asked for.
        packages: Distributions that decide the result.
        inputs: Name of each set of images to what :func:`described` says of it, or the like.
    """
    return {
        "command": command_of(verb),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
        "inputs": {name: dict(one) for name, one in inputs.items()},
    }


def described(manifest: Manifest) -> dict[str, Any]:
    """Where the images of a manifest lie, how many there are, and the window they are read by."""
    bounds = manifest.window.bounds if manifest.window else None
    return {"root": str(manifest.root), "images": len(manifest), "window": bounds}
