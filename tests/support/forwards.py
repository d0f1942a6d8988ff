"""How many forwards of the denoiser a step takes, counted where they happen."""

from __future__ import annotations

from typing import Any

import torch


def counted(run: Any) -> float:
    """Forwards of one step of a stage; one with a graph counts its backward pass as two more."""
    forwards = 0.0

    def count(module: Any, inputs: Any, output: Any) -> None:
        nonlocal forwards
        forwards += len(inputs[0]) * (3 if torch.is_grad_enabled() else 1)

    hook = run.model.trunk.register_forward_hook(count)
    run._step(0)
    hook.remove()
    return forwards
