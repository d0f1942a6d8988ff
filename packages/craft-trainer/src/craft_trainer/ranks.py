"""Work that one process does for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from cas_metric.errors import CasError

T = TypeVar("T")


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
    return result
