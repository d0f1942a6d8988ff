"""Tensors out of pickled checkpoints, in a process of its own that can reach nothing.

A pickle is a program. torch's ``weights_only`` reader runs only the part of it that makes tensors;
around it stand a network namespace where the system allows one, an audit hook that refuses sockets,
processes and files other than the output, and limits on memory, time and file size, so that a fault
in the reader stays in here. Run as ``python -m cas_metric.encoders.unpickling OUT SOURCE…``; the
report is one line of JSON on stdout.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from torch import Tensor

#: Exit status of a refusal; the report then says why.
REFUSED: Final = 3
#: Keys under which training scripts keep the weights of a model.
_NESTED: Final = ("state_dict", "model_state_dict", "model", "module", "teacher", "net", "weights")
#: Prefixes that wrappers put before every name.
_PREFIXES: Final = ("module.", "_orig_mod.")
#: Events of https://docs.python.org/3/library/audit_events.html that reading tensors never raises.
_FORBIDDEN: Final = (
    *("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn"),
    *("os.startfile", "os.putenv", "os.unsetenv", "os.remove", "os.rename", "os.rmdir", "os.link"),
    *("os.symlink", "os.chmod", "os.chown", "os.truncate", "os.mkdir", "os.kill", "shutil."),
    *("ctypes.", "webbrowser.", "urllib.", "ftplib.", "smtplib.", "http.", "pty.", "code."),
    *("pickle.find_class", "marshal.", "builtins.input"),
)
_NEW_USER_AND_NETWORK: Final = 0x10000000 | 0x40000000
_WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Refused(Exception):
    """The file wants more than tensors, or holds none."""


def leave_network() -> None:
    """Enter a network namespace without interfaces, where the system lets one do so."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).unshare(_NEW_USER_AND_NETWORK)


def close_in(output: Path, size: int) -> None:
    """Refuse, from now on, whatever reading ``size`` bytes of tensors does not need.

    Args:
        output: The only file that may be written.
        size: Of the files to be read, in bytes.
    """
    import resource

    import numpy  # noqa: F401 - what is imported now needs no permission later
    import safetensors.torch
    import torch

    torch.save({"a": torch.zeros(1)}, output)  # so is what reading and writing import lazily
    torch.load(output, map_location="cpu", weights_only=True)
    safetensors.torch.save_file({"a": torch.zeros(1)}, output)
    with suppress(OSError, ValueError):  # memory: what is mapped already, the tensors, copies
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + 4 * size + (1 << 30),) * 2)
    for limit, value in (
        (resource.RLIMIT_CPU, 120 + size // 10_000_000),
        (resource.RLIMIT_FSIZE, 2 * size + (1 << 26)),
        (resource.RLIMIT_CORE, 0),
    ):
        with suppress(OSError, ValueError):
            resource.setrlimit(limit, (value, value))
    sys.addaudithook(_guard(str(output)))


def _guard(output: str) -> Any:
    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(_FORBIDDEN):
            raise Refused(f"it tried {event}")
        if event == "open":
            path, mode, flags = (*arguments, None, None)[:3]
            writes = isinstance(flags, int) and bool(flags & _WRITING)
            writes = writes or (isinstance(mode, str) and bool(set(mode) & set("wax+")))
            if writes and str(path) not in (output, os.devnull):
                raise Refused(f"it tried to write {path}")

    return refuse


def read_tensors(source: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The named tensors of a checkpoint, and the names of what else stood among them.

    Raises:
        Refused: It wants more than tensors, is damaged, or holds no dictionary of tensors.
    """
    import torch

    try:
        content = torch.load(source, map_location="cpu", weights_only=True)
    except Refused:
        raise
    except Exception as error:  # whatever a hostile file makes the reader raise
        raise Refused(_reason(error)) from error
    if isinstance(content, torch.Tensor):
        raise Refused("it holds one tensor without a name")
    found = _named(content)
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in found):
            found = {name.removeprefix(prefix): value for name, value in found.items()}
    tensors = {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}
    return tensors, sorted(set(found) - set(tensors))


def _reason(error: Exception) -> str:
    """What torch's reader said of the file, before torch wrapped it in advice to read it anyway."""
    told = error.__context__ if isinstance(error.__context__, UnpicklingError) else error
    return f"{type(error).__name__}: {str(told).partition(chr(10))[0]}"[:300]


def _named(content: Any) -> dict[str, Any]:
    """The dictionary that names tensors: the whole, or the part that training scripts wrap."""
    import torch

    if not isinstance(content, Mapping):
        raise Refused(f"it holds a {type(content).__name__}, no dictionary of tensors")
    if any(isinstance(value, torch.Tensor) for value in content.values()):
        return {str(name): value for name, value in content.items()}
    inner = [content[key] for key in _NESTED if isinstance(content.get(key), Mapping)]
    inner = inner or [value for value in content.values() if isinstance(value, Mapping)]
    if not inner:
        raise Refused(f"none of its entries is a tensor: {', '.join(map(str, content))[:200]}")
    return _named(inner[0])


def main(arguments: Sequence[str]) -> int:
    """Read every source, write all tensors to one safetensors file; the exit status."""
    leave_network()
    output, *sources = map(Path, arguments)
    close_in(output, sum(path.stat().st_size for path in sources))
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    dropped: list[str] = []
    try:
        for source in sources:
            found, others = read_tensors(source)
            tensors |= found
            dropped += others
        if not tensors:
            raise Refused("it holds no tensors")
        whole = {name: value.clone().contiguous() for name, value in tensors.items()}
        save_file(whole, output, metadata={"format": "pt"})
    except (Refused, MemoryError, RecursionError, OSError, ValueError) as error:
        print(json.dumps({"refused": str(error) or type(error).__name__}))
        return REFUSED
    print(json.dumps({"tensors": len(tensors), "dropped": dropped}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
