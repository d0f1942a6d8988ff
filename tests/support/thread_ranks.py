"""Ranks of one process: threads that meet as the processes of a launcher do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cas_metric.embedding.ranks import Ranks

T = TypeVar("T")


class _Meeting:
    """What the ranks of one group exchange."""

    def __init__(self, count: int) -> None:
        self.barrier = threading.Barrier(count, timeout=10)
        self.board: list[Any] = [None] * count

    def exchange(self, index: int, value: Any) -> list[Any]:
        self.board[index] = value
        self.barrier.wait()
        found = list(self.board)
        self.barrier.wait()
        return found


@dataclass(frozen=True)
class ThreadRanks(Ranks):
    """A rank that is a thread."""

    meeting: _Meeting = field(default_factory=lambda: _Meeting(1))

    def gather(self, items: list[Any]) -> list[Any]:
        return [one for part in self.meeting.exchange(self.index, items) for one in part]

    def from_main(self, value: T) -> T:
        return self.meeting.exchange(self.index, value)[0]

    def wait(self) -> None:
        self.meeting.barrier.wait()


def on_ranks(count: int, job: Callable[[Ranks], T]) -> list[T | BaseException]:
    """What ``job`` returns, or raises, on each of ``count`` ranks."""
    meeting = _Meeting(count)
    found: list[Any] = [None] * count

    def work(index: int) -> None:
        try:
            found[index] = job(ThreadRanks(index, count, meeting=meeting))
        except BaseException as error:
            found[index] = error
            if not isinstance(error, Exception):
                raise

    threads = [threading.Thread(target=work, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found
