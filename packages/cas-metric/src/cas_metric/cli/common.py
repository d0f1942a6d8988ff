"""What the verbs share: where results and progress go, and in which form."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from cas_metric.files import to_json

if TYPE_CHECKING:
    from rich.progress import TaskID

#: Where a bar cannot be drawn, a line is written this often.
_LINE_SECONDS: Final = 30.0


def console_err() -> Console:
    """Console on stderr: progress and warnings. Results alone go to stdout."""
    return _literal(stderr=True)


def tell(line: str) -> None:
    """A line for people, beside the results."""
    console_err().print(line, soft_wrap=True)


def console_out() -> Console:
    """Console on stdout: results for people."""
    return _literal()


def _literal(*, stderr: bool = False) -> Console:
    """A console that prints what it is given: ``[x]``, ``[/x]`` and ``:x:`` may be in a name."""
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def emit_json(value: Any) -> None:
    """Write ``value`` to stdout as JSON: sorted keys, NaN and infinities as null."""
    sys.stdout.write(to_json(value))


def names(listed: str | None) -> list[str]:
    """What a comma separates."""
    return [name.strip() for name in (listed or "").split(",") if name.strip()]


def progress() -> Progress:
    """A progress bar with count, elapsed and remaining time, on stderr, gone when done.

    Where a bar cannot be drawn, it leaves nothing, not even empty lines.
    """
    console = console_err()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_interactive,
    )


class CountProgress:
    """How many of how many are done, how fast, and how long it will take; a context manager.

    Draws a bar on a terminal. In a log file, where a bar cannot be drawn, it writes a line twice a
    minute.

    Args:
        what: What is counted, e.g. ``images``.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self._bar = progress()
        self._task: TaskID | None = None
        self._started = self._told = time.monotonic()
        self._first = self._last = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._bar.stop()

    def counting(self, what: str) -> None:
        """Count something else from here on, from its beginning."""
        if self._task is not None:
            self._bar.stop()
            self._bar, self._task = progress(), None
        self.what = what

    def __call__(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` are done."""
        now = time.monotonic()
        if done < self._last:
            self.counting(self.what)  # the same is counted again, of another set
        self._last = done
        if self._task is None:
            self._started = self._told = now
            self._bar.start()
            self._task = self._bar.add_task(self.what, total=total, completed=done, rate="")
            self._first = done
            return
        rate = (done - self._first) / max(now - self._started, 1e-6)
        self._bar.update(self._task, completed=done, total=total, rate=f"{rate:.1f} {self.what}/s")
        if not self._bar.console.is_interactive and now - self._told >= _LINE_SECONDS:
            self._told = now
            left = (total - done) / rate if rate else float("nan")
            line = f"{done} of {total} {self.what}, {rate:.1f}/s, {left:.0f} s left"
            self._bar.console.print(line)
