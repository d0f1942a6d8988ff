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


def taking_turns(progress: Progress | None, *names: str) -> list[Progress | None]:
    """The same progress for stretches that come in any order, also repeatedly.

    Args:
        progress: As a verb was given it.
        names: What each stretch counts; told when its turn comes, not before.
    """
    if progress is None:
        return [None] * len(names)
    current = ""

    def stretch(name: str) -> Progress:
        def tell(done: int, total: int) -> None:
            nonlocal current
            if current != name:
                current = name
                counting(progress, name)
            progress(done, total)

        return tell

    return [stretch(name) for name in names]
