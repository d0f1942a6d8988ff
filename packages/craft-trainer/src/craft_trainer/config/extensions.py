"""Extensions of one file: found by name in a folder of this package, or by an entry point."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from importlib.util import find_spec
from types import ModuleType
from typing import Any

#: Finds what an extension's file offers under a name; None where it offers nothing.
Pick = Callable[[ModuleType, str], Any]


def extension(group: str, name: str, pick: Pick) -> Any:
    """What is called ``name`` in a group; None where nothing is.

    Args:
        group: A package whose files are extensions, and the group of entry points beside them.
        name: Of the file, or of the entry point; nothing else is imported.
        pick: Takes the extension out of its file.
    """
    if name.isidentifier() and find_spec(f"{group}.{name}") is not None:
        found = pick(importlib.import_module(f"{group}.{name}"), name)
        if found is not None:
            return found
    for one in entry_points(group=group, name=name):
        return one.load()
    return None


def extension_names(group: str, pick: Pick) -> Iterator[str]:
    """Names of all that a group offers, in alphabetical order; its files are imported for this."""
    package = importlib.import_module(group)
    files = [file.name for file in pkgutil.iter_modules(package.__path__)]
    own = {name for name in files if pick(importlib.import_module(f"{group}.{name}"), name)}
    yield from sorted(own | {one.name for one in entry_points(group=group)})
