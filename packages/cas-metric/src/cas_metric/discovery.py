"""How modules are found: by what their first line says they are, and under names that they had.

A folder of extensions is read without importing any. Old names last for one version.
"""

from __future__ import annotations

import importlib
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

_FIRST_LINE = re.compile(r'^"""``(?P<name>[^`]+)``: (?P<line>.+?)(?:""")?$')


def first_line(path: Path) -> tuple[str, str]:
    """Name in double backticks and what follows it in the first line; empty where there is none."""
    try:
        with path.open(encoding="utf-8") as file:
            found = _FIRST_LINE.match(file.readline().rstrip())
    except OSError:
        return "", ""
    return (found["name"], found["line"]) if found else ("", "")


def named_modules(folder: Path) -> dict[str, tuple[str, str]]:
    """What the modules of a folder call themselves: name to the module's own name and the line."""
    found = {}
    for path in sorted(folder.glob("*.py")):
        name, line = first_line(path)
        if name:
            found[name] = (path.stem, line)
    return found


class _Moved(MetaPathFinder, Loader):
    """Finds a module under its old name."""

    def __init__(self, package: str, names: Mapping[str, str]) -> None:
        self.names = {f"{package}.{old}": f"{package}.{new}" for old, new in names.items()}

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in self.names else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        new = self.names[spec.name]
        warnings.warn(f"{spec.name} is now {new}", DeprecationWarning, stacklevel=2)
        module = importlib.import_module(new)
        self._spec = module.__spec__  # the import system is about to replace it
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec


def alias(package: str, names: Mapping[str, str]) -> None:
    """Let modules of ``package`` be imported under their old names, with a DeprecationWarning.

    Args:
        package: E.g. ``cas_metric``.
        names: Old to new name within the package, e.g. ``{"cache": "embedding.cache"}``.
    """
    sys.meta_path.append(_Moved(package, names))
