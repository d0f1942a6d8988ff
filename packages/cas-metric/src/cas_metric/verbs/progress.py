"""How a verb tells how far it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

#: Told with (done, total) while a verb works.
Progress: TypeAlias = Callable[[int, int], None]


def counting(progress: Progress | None, what: str) -> Progress | None:
    """The same progress for a verb's next stretch, which counts something else.

    Args:
        progress: As a verb was given it. Where it has a method ``counting``, as the bar of the
            command line has, that is told what comes next.
        what: What is counted from here on, e.g. ``pairs``.
    """
    told = getattr(progress, "counting", None)
    if told is not None:
        told(what)
    return progress
