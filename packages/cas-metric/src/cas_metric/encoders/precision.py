"""Arithmetic of an encoder's own precision, whatever its surroundings have switched on.

A training loop that scores on the way often runs under autocast, and with TF32 allowed for its own
matrix products. torch has three generations of switches for the latter
(https://docs.pytorch.org/docs/stable/notes/cuda.html#tf32-on-ampere); here each is set to exact
float32 and set back as it was found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Final

import torch

#: The newer switches, each inheriting from the ones before it where it says ``none``.
_PARENTS: Final = (("generic", "all"), ("cuda", "all"), ("mkldnn", "all"))
_LEAVES: Final = tuple((b, op) for b in ("cuda", "mkldnn") for op in ("matmul", "conv", "rnn"))


@contextmanager
def own_precision(device: str, dtype: torch.dtype) -> Iterator[None]:
    """Compute on ``device`` in ``dtype``: no autocast, no TF32 for float32, deterministic cuDNN.

    All switches stand afterwards as they stood before.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.autocast(torch.device(device).type, enabled=False))
        _set(stack, torch.backends.cudnn, "deterministic", True)
        _set(stack, torch.backends.cudnn, "benchmark", False)
        if dtype == torch.float32:
            stack.enter_context(_exact_float32())
        yield


@contextmanager
def _exact_float32() -> Iterator[None]:
    """Every switch of every generation to exact float32."""
    with ExitStack() as stack:
        found = _newer_switches()
        for (backend, op), value in reversed(found.items()):  # restored from the root down
            stack.callback(torch._C._set_fp32_precision_setter, backend, op, value)
        matmul = (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision)
        _switch(stack, *matmul, "highest")
        cudnn = (torch._C._get_cudnn_allow_tf32, torch._C._set_cudnn_allow_tf32)
        _switch(stack, *cudnn, False)
        for backend, op in _LEAVES if found else ():
            torch._C._set_fp32_precision_setter(backend, op, "ieee")
        yield


def _newer_switches() -> dict[tuple[str, str], str]:
    """The newer switches' own values, not what they inherit; empty where torch has none."""
    if not hasattr(torch._C, "_get_fp32_precision_getter"):
        return {}
    found = {}
    for backend, op in _PARENTS + _LEAVES:
        found[backend, op] = torch._C._get_fp32_precision_getter(backend, op)
        if (backend, op) in _PARENTS:
            torch._C._set_fp32_precision_setter(backend, op, "none")
    for backend, op in _PARENTS:
        torch._C._set_fp32_precision_setter(backend, op, found[backend, op])
    return found


def _switch(
    stack: ExitStack, read: Callable[[], Any], write: Callable[[Any], Any], value: Any
) -> None:
    """Set one of the older switches until the stack is left.

    torch refuses to read it where a newer one contradicts it; the newer ones then decide alone.
    """
    with suppress(RuntimeError):
        before = read()
        stack.callback(write, before)
        write(value)


def _set(stack: ExitStack, owner: Any, name: str, value: Any) -> None:
    stack.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, value)
