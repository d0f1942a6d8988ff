"""Holds a page of documentation that walks through a job against the job itself.

A page has a numbered list whose items name functions in backticks, such as
`` `training.trainer.train` ``: module and qualified name below the package. The job is run under a
profiler; every named function must be called, and for the first time in the order of the list.
"""

from __future__ import annotations

import importlib.util
import inspect
import itertools
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

_COMPREHENSIONS = ("<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>")
_ITEM = re.compile(r"^\s*\d+\. ")
_NAME = re.compile(r"`([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)`")


def named_steps(page: Path, heading: str) -> list[str]:
    """Backticked dotted names in the numbered list below ``heading``, in order, each once.

    Lines that continue an item belong to it; the list ends at the next heading.
    """
    _, _, below = page.read_text(encoding="utf-8").partition(f"\n{heading}\n")
    assert below, f"{page} has no heading {heading!r}"
    names: list[str] = []
    within = False
    for line in below.splitlines():
        if line.startswith("#"):
            break
        within = bool(_ITEM.match(line)) or (within and line.startswith(" "))
        if within:
            names += _NAME.findall(line)
    assert names, f"{page}: no numbered list with names below {heading!r}"
    return list(dict.fromkeys(names))


class Trace:
    """What of a package ran.

    Attributes:
        calls: ``module.qualified.name`` below the package, in the order of first calls.
        files: Files of the package that were executed, module bodies and templates included.
        called: Those of which a function was called: what a reader follows.
    """

    def __init__(self, package: str) -> None:
        self._root = _folder(package)
        self._seen: set[CodeType] = set()
        self.calls: dict[str, None] = {}
        self.files: set[str] = set()
        self.called: set[str] = set()

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """As ``sys.setprofile`` calls it."""
        code = frame.f_code
        if event != "call" or code in self._seen:
            return
        self._seen.add(code)
        if not code.co_filename.startswith(self._root):
            return
        file = code.co_filename.removeprefix(self._root)
        self.files.add(file)
        # A module's body, and a comprehension in it, run when it is imported; so does a class's.
        if code.co_flags & inspect.CO_OPTIMIZED and code.co_name not in _COMPREHENSIONS:
            self.called.add(file)
        module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        self.calls.setdefault(f"{module}.{code.co_qualname}")


def _folder(package: str) -> str:
    spec = importlib.util.find_spec(package)
    assert spec is not None, f"{package} is not installed"
    return str(Path(spec.origin or "").parent) + "/"


@contextmanager
def traced(package: str) -> Iterator[Trace]:
    """Trace a package, which need not be imported yet, in this thread and those started within."""
    trace = Trace(package)
    with watching(trace):
        yield trace


@contextmanager
def watching(*traces: Trace) -> Iterator[None]:
    """Let every trace see what runs in this thread, and in those started within."""

    def see(frame: FrameType, event: str, argument: Any) -> None:
        for trace in traces:
            trace(frame, event, argument)

    before = sys.getprofile()
    threading.setprofile(see)
    sys.setprofile(see)
    try:
        yield
    finally:
        sys.setprofile(before)
        threading.setprofile(None)


def check_walk(page: Path, heading: str, package: str, job: Callable[[], object]) -> None:
    """Run ``job``; fail where the page names a function that was not called, or out of order."""
    steps = named_steps(page, heading)
    with traced(package) as trace:
        job()
    problems = disorder(steps, list(trace.calls))
    assert not problems, f"{page}, {heading}: " + "; ".join(problems)


def disorder(steps: Sequence[str], calls: Sequence[str]) -> list[str]:
    """What is wrong with a walk: names that were not called, and names that come too early."""
    order = {name: position for position, name in enumerate(calls)}
    problems = [f"{name} is not called" for name in steps if name not in order]
    called = [name for name in steps if name in order]
    problems += [
        f"{after} is called before {before}"
        for before, after in itertools.pairwise(called)
        if order[after] < order[before]
    ]
    return problems
