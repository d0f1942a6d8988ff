"""When the next call may begin: a rate limit, pauses that a server asks for, back-off."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

#: How far the wait of one call strays from that of another, so that they do not return together.
JITTER: Final = 0.5


class Stopped(Exception):
    """The run was stopped while a call was waiting."""


class Pacer:
    """Lets calls begin one after the other, evenly spaced; shared by all threads of a run.

    Args:
        per_minute: Most calls begun a minute; None for no limit.
        clock: Seconds that only ever rise.
    """

    def __init__(
        self, per_minute: float | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval = 60.0 / per_minute if per_minute else 0.0
        self._clock = clock
        self._next = 0.0
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def stop(self) -> None:
        """End every wait, now and later, with :class:`Stopped`."""
        self._stop.set()

    def take(self) -> None:
        """Wait until the next call may begin."""
        self.sleep(self.book())

    def book(self) -> float:
        """Seconds until the call that is hereby announced may begin."""
        with self._lock:
            now = self._clock()
            begin = max(now, self._next)
            self._next = begin + self._interval
        return begin - now

    def hold(self, seconds: float) -> None:
        """Let no call begin for ``seconds``: the server said so."""
        with self._lock:
            self._next = max(self._next, self._clock() + seconds)

    def sleep(self, seconds: float) -> None:
        """Wait, unless the run is stopped."""
        if self._stop.wait(seconds) if seconds > 0 else self._stop.is_set():
            raise Stopped


def backoff(
    attempt: int, base: float, longest: float, draw: Callable[[], float] = random.random
) -> float:
    """Seconds before repetition ``attempt`` (from 0): doubled each time, less up to half at random.

    Args:
        attempt: How many repetitions there were.
        base: Seconds before the first.
        longest: Bound.
        draw: A number in [0, 1).
    """
    whole = min(longest, base * 2.0 ** min(attempt, 60))
    return whole * (1.0 - JITTER * draw())


def retry_after(value: str | None, now: Callable[[], datetime] | None = None) -> float | None:
    """Seconds that a Retry-After header asks for: a number, or a date (RFC 9110, 10.2.3).

    None for a header that is missing or makes no sense.
    """
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except ValueError:
            return None
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        seconds = (date - (now() if now else datetime.now(UTC))).total_seconds()
    return max(0.0, seconds) if seconds == seconds and seconds != float("inf") else None
