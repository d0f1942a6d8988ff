"""What asks a run to end: a scheduler that takes its machine away, or a user's Ctrl-C."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Final, Self

from cas_metric.errors import CasError

#: SLURM sends SIGTERM before it kills, and SIGUSR1 earlier where ``--signal=USR1@120`` says so.
_NAMES: Final = ("SIGINT", "SIGTERM", "SIGUSR1")
_LOG = logging.getLogger(__name__)


class Interrupted(CasError):
    """A signal ended a run after a step, whose checkpoint was written. Exit code 128 + signal."""

    def __init__(self, number: int, step: int, checkpoint: str) -> None:
        super().__init__(
            f"ended by {signal.Signals(number).name} after step {step}",
            fix=f"the same command continues from {checkpoint}",
        )
        self.exit_code = 128 + number


class Signals:
    """Notes the first signal instead of dying of it; a second one does what it always does.

    A context manager; without effect outside of the main thread, where no handler can be set.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            known = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
            self._before = {one: signal.signal(one, self._note) for one in known}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self._restore()
        _LOG.warning(
            "%s: this step is finished and saved; once more ends at once",
            signal.Signals(number).name,
        )
