"""Modules that say in their first line what they are: found without importing them."""

from __future__ import annotations

import re
from pathlib import Path

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
