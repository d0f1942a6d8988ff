"""What asks a run to end: a scheduler that takes its machine away, or a user's Ctrl-C."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Final, Self

from cas_metric.errors import CasError

#: SLURM sends SIGTERM before it kills, and SIGUSR1 earlier where ``--signal`` says so.
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
    """Notes signals instead of dying of them; only a second SIGINT does what it always does.

    Whoever takes a machine away may well ask twice, the process and its group: that is no reason to
    lose the step. A context manager; without effect outside of the main thread, where no handler
    can be set.
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
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        again = ""
        if number == signal.SIGINT:
            signal.signal(number, self._before[number])
            again = "; once more ends at once"
        if self.received is None or again:
            name = signal.Signals(number).name
            _LOG.warning("%s: this step is finished and saved%s", name, again)
        self.received = self.received or number
