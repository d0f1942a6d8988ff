"""Which device a name means on this machine, without importing torch where that is known.

``cpu`` is known at once. Anything else only torch can tell, so its answer is remembered for as long
as torch and the machine's devices are what they were.
"""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from cas_metric.encoders.memory import Memory, distribution_version
from cas_metric.errors import InputError

if TYPE_CHECKING:
    import torch

#: Variables that hide devices from a process, or order them otherwise.
_VARIABLES: Final = (
    *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES"),
    *("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),
)
_PROC: Final = Path("/proc/driver/nvidia")


class Device(NamedTuple):
    """A device of this machine.

    Attributes:
        name: As torch names it: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        description: For people: with the name of a GPU.
    """

    name: str
    description: str


def find_device(device: str) -> Device:
    """The device that a name means here, ``auto`` included.

    Raises:
        InputError: torch knows no such device, or this machine has none.
    """
    if device == "cpu":
        return Device("cpu", "cpu")
    memory = Memory("devices", {"device": device, **_machine()})
    with suppress(TypeError):
        return Device(**memory.recall())
    chosen = resolve_device(device)
    found = Device(str(chosen), _describe(chosen))
    memory.keep(found._asdict())
    return found


def resolve_device(device: str | torch.device) -> torch.device:
    """``auto`` to the best device of this machine; anything else as torch understands it.

    Raises:
        InputError: torch knows no such device, or this machine has none.
    """
    import torch

    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise InputError(
            f"unknown device {device!r}", fix="auto, cpu, cuda, cuda:1, mps, …"
        ) from error
    try:
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:  # the latter from a torch built without CUDA
        cause = str(error).split("\n")[0]
        raise InputError(
            f"the device {device} cannot be used here: {cause}",
            fix="--device auto takes what there is; `cas doctor` lists it",
        ) from error
    return chosen


def _describe(device: torch.device) -> str:
    import torch

    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)


def _machine() -> dict[str, str]:
    """What decides which devices torch finds; a home directory may serve many machines."""
    state = {name: os.environ.get(name, "") for name in _VARIABLES}
    state["host"] = f"{platform.node()} {platform.platform()}"
    state["torch"] = distribution_version("torch")
    state["nodes"] = " ".join(sorted(path.name for path in Path("/dev").glob("nvidia*")))
    for path in (_PROC / "version", *sorted(_PROC.glob("gpus/*/information"))):
        with suppress(OSError):
            state[str(path)] = path.read_text(encoding="utf-8", errors="replace")
    return state
