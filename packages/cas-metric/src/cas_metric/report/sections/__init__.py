"""Sections of the report beyond the fixed ones: one module each, found by being in this folder.

The first line of a section's module is its anchor in double backticks, a colon and what it shows;
``section(run, methods)`` hands back the :class:`Section`, or None where there is nothing to show.
Where the line goes on with "of" and a block of ``summary.json`` in double backticks, a run without
that block does not import the module.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cas_metric.discovery import named_modules

if TYPE_CHECKING:
    from cas_metric.report.content import Entry
    from cas_metric.report.tables import Table
    from cas_metric.runs.run import Run

_BLOCK: Final = re.compile(r"of ``(?P<name>\w+)``")


@dataclass(frozen=True)
class Section:
    """Part of a report; its text is escaped.

    Attributes:
        title: In the navigation.
        heading: Above the section.
        text: A paragraph below it.
        tables: What it shows.
        name: Anchor; set by :func:`sections_of`.
    """

    title: str
    heading: str
    text: str
    tables: Sequence[Table] = field(default=())
    name: str = ""


def sections_of(run: Run, methods: Sequence[Entry]) -> list[Section]:
    """Every section of this folder that has something to show of a run, by name.

    Args:
        run: What the report is of.
        methods: Its methods, as :func:`cas_metric.report.content.entries` makes them.
    """
    found = []
    for name, (module, line) in named_modules(Path(__file__).parent).items():
        block = _BLOCK.match(line)
        if block and not run.summary.get(block["name"]):
            continue
        made = importlib.import_module(f"{__name__}.{module}").section(run, methods)
        if made is not None:
            found.append(Section(made.title, made.heading, made.text, made.tables, name))
    return found
