"""The ranks of a run under ``accelerate launch`` or ``torchrun``; one rank without either.

Every rank works on its share; rank 0 alone writes tables. Groups are formed by accelerate.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """Where this process stands.

    Attributes:
        index: Rank of this process over all hosts.
        count: Number of processes.
        device: What the launcher assigned to this process; None without a launcher.
        host: Number of this host, from 0.
        hosts: Whether the ranks are on more than one host, and so may not share a disk.
    """

    index: int = 0
    count: int = 1
    device: str | None = None
    host: int = 0
    hosts: bool = False

    @property
    def main(self) -> bool:
        """Whether this process writes the results."""
        return self.index == 0

    def shard(self, items: Sequence[T]) -> list[T]:
        """The share of this rank; the shares of all ranks are disjoint and cover ``items``."""
        return list(items[self.index :: self.count])

    def gather(self, items: list[Any]) -> list[Any]:
        """The lists of all ranks, joined in the order of ranks, on every rank."""
        if self.count == 1:
            return items
        from accelerate.utils import gather_object

        return gather_object(items)

    def from_main(self, value: T) -> T:
        """What rank 0 holds as ``value``, on every rank."""
        if self.count == 1:
            return value
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]

    def wait(self) -> None:
        """Wait until every rank is here."""
        if self.count > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()


#: A run without a launcher.
ALONE: Final = Ranks()


def join(device: str = "auto") -> Ranks:
    """Join the group that a launcher describes in the environment.

    Args:
        device: As given on the command line; ``cpu`` keeps accelerators out of it.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count < 2:
        return ALONE
    from accelerate import PartialState

    state = PartialState(cpu=device == "cpu")
    host = int(os.environ.get("GROUP_RANK", "0"))
    hosts = int(os.environ.get("LOCAL_WORLD_SIZE", count)) < count
    return Ranks(state.process_index, state.num_processes, str(state.device), host, hosts)


def leave() -> None:
    """End the group, where there is one."""
    import torch.distributed

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
