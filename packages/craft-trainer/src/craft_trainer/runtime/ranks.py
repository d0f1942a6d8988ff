"""The processes of a run, and work that one of them does for all."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, TypeVar

import torch
from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import InitProcessGroupKwargs, LoggerType, broadcast_object_list

from cas_metric.errors import CasError, InputError
from craft_trainer.config.schema import Config

T = TypeVar("T")
#: The others wait while the main process fetches models, or embeds and draws images: NCCL's ten
#: minutes are less. A process that has died ends the others through their launcher.
_PATIENCE: Final = timedelta(days=1)


def join(config: Config) -> Accelerator:
    """One process, or the group that a launcher made; precision is the configuration's alone.

    Raises:
        InputError: accelerate does not know the tracker, or it is not installed.
    """
    require_tracker(config.tracker)
    # accelerate joins a launcher's group of processors only where it is told that there is no more.
    processors = not torch.accelerator.is_available()
    return Accelerator(
        cpu=processors,
        log_with=config.tracker if config.tracker != "none" else None,
        project_dir=str(config.output),
        mixed_precision="no",
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)],
    )


def require_tracker(name: str) -> None:
    """Refuse a tracker that could not be begun.

    Raises:
        InputError: accelerate does not know it, or it is not installed.
    """
    fix = "tensorboard, none, or another tracker that accelerate knows and that is installed"
    if name not in ("none", "all", *LOGGER_TYPE_TO_CLASS):
        raise InputError(f"tracker {name!r} is none that accelerate knows", fix=fix)
    missing = {one.value for one in LoggerType} - {one.value for one in get_available_trackers()}
    if name in missing - {"all"}:
        raise InputError(f"tracker {name!r} is not installed", fix=fix)


def is_first() -> bool:
    """Whether this is the process that speaks for all, known before any group is joined."""
    return "WORLD_SIZE" not in os.environ or os.environ.get("RANK", "0") == "0"


def largest(accelerator: Accelerator, *values: int) -> list[int]:
    """The largest of each value over the processes."""
    if accelerator.num_processes == 1:
        return list(values)
    gathered: torch.Tensor = accelerator.gather(torch.tensor([values], device=accelerator.device))
    return [int(value) for value in gathered.amax(dim=0)]


def on_main(accelerator: Accelerator, work: Callable[[], T]) -> T:
    """What ``work`` returns on the main process, on every process.

    Raises:
        CasError: Where the work fails, on every process: none is left waiting for the main one.
    """
    if accelerator.num_processes == 1:
        return work()
    result: Any = None
    failure: CasError | None = None
    if accelerator.is_main_process:
        try:
            result = work()
        except CasError as error:
            failure = error
    told = None if failure is None else (failure.problem, failure.fix, failure.exit_code)
    result, told = broadcast_object_list([result, told])
    if failure is not None:
        raise failure
    if told is not None:
        problem, fix, exit_code = told
        elsewhere = CasError(problem, fix=fix)
        elsewhere.exit_code = exit_code
        raise elsewhere
    found: T = result
    return found
