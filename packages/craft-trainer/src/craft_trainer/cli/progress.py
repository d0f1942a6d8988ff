"""Progress bars of the verbs, on stderr."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Self

from cas_metric.cli.common import CountProgress


class Bars:
    """One bar after another, as told; a context manager."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._what = ""
        self._bar: CountProgress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` of ``what`` are done."""
        if self._bar is None or what != self._what:
            self._stack.close()
            self._bar, self._what = self._stack.enter_context(CountProgress(what)), what
        self._bar(done, total)
