"""The ranks of a run under a launcher (accelerate, torchrun, srun, mpirun); one rank without.

Every rank works on its share; rank 0 alone writes tables. Groups are formed by accelerate.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

from cas_metric.errors import CasError, RankStopped

T = TypeVar("T")

#: How long a rank waits for the others: shares are uneven, and a slow one is no dead one. A rank
#: that died is the launcher's to report.
_PATIENCE: Final = timedelta(days=2)

#: Rank within the host, as launchers name it where ``LOCAL_RANK`` is not set.
_LOCAL_RANKS: Final = (
    *("SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "PMIX_LOCAL_RANK"),
)


@dataclass(frozen=True)
class Ranks:
    """Where this process stands.

    Attributes:
        index: Rank of this process over all hosts.
        count: Number of processes.
        device: What the launcher assigned to this process; None without a launcher.
        host: Number of this host, from 0, which is that of rank 0.
    """

    index: int = 0
    count: int = 1
    device: str | None = None
    host: int = 0

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

    def main_first(self, step: Callable[[], T]) -> T:
        """Do a step on rank 0 and, if nothing is wrong, on the others.

        Raises:
            CasError: What the step raised, on rank 0.
            RankStopped: On the others, so that a message is printed once.
        """
        if self.count == 1:
            return step()
        problem: CasError | None = None
        if self.main:
            try:
                result = step()
            except CasError as error:
                problem = error
        code = self.from_main(problem.exit_code if problem else 0)
        if problem is not None:
            raise problem
        if code:
            raise RankStopped(code)
        return result if self.main else step()

    def wait(self) -> None:
        """Wait until every rank is here."""
        if self.count > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()


#: A run without a launcher.
ALONE: Final = Ranks()


def join(device: str = "auto") -> Ranks:
    """Join the group that a launcher describes in the environment.

    ``RANK``, ``WORLD_SIZE``, ``MASTER_ADDR`` and ``MASTER_PORT`` are needed. Which ranks share a
    host is asked of the hosts, not assumed.

    Args:
        device: As given on the command line; ``cpu`` keeps accelerators out of it.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return ALONE
    from accelerate import PartialState
    from accelerate.utils import gather_object

    os.environ.setdefault("LOCAL_RANK", _local_rank())
    state = PartialState(cpu=device == "cpu", timeout=_PATIENCE)
    everyone = list(dict.fromkeys(gather_object([_host()])))
    host = everyone.index(_host())
    return Ranks(state.process_index, state.num_processes, str(state.device), host)


def _local_rank() -> str:
    """Rank within the host: as a launcher names it, else ranks go round the accelerators."""
    for name in _LOCAL_RANKS:
        if name in os.environ:
            return os.environ[name]
    import torch

    return str(int(os.environ["RANK"]) % max(1, torch.cuda.device_count()))


def _host() -> str:
    """What tells hosts apart: the running kernel, which containers of one machine share."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return socket.gethostname()


def leave() -> None:
    """End the group, where there is one."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return
    import torch.distributed

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
