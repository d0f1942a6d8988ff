"""Optimizers and learning rates by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Final

import torch
from diffusers.optimization import get_scheduler
from torch import nn

from cas_metric.errors import InputError
from craft_trainer.config.stage import TrainedStage

#: Of optimizers that are not torch's.
_PACKAGES: Final = {"adamw8bit": "bitsandbytes", "prodigy": "prodigyopt"}


def make_optimizer(
    stage: TrainedStage, parameters: Sequence[nn.Parameter]
) -> torch.optim.Optimizer:
    """The optimizer that a stage names, by default AdamW.

    Raises:
        InputError: Its package is not installed, or it cannot train such parameters.
    """
    settings: dict[str, Any] = {"lr": stage.learning_rate, "weight_decay": stage.weight_decay}
    match stage.optimizer:
        case "adamw8bit":
            return require_optimizer(stage).optim.AdamW8bit(parameters, **settings)
        case "prodigy":
            return require_optimizer(stage).Prodigy(parameters, **settings)
        case "muon":
            if any(parameter.ndim != 2 for parameter in parameters):
                raise no_matrix("a parameter here is none")
            # Scaled so that learning rates are those of AdamW.
            return require_optimizer(stage).Muon(
                parameters, adjust_lr_fn="match_rms_adamw", **settings
            )
        case _:
            return torch.optim.AdamW(parameters, **settings)


def no_matrix(what: str) -> InputError:
    """Why Muon cannot train an adapter."""
    return InputError(
        f"optimizer: muon trains matrices alone, and {what}",
        fix="take another optimizer, leave lora.dora out, or adapt linear layers alone",
    )


def require_optimizer(stage: TrainedStage) -> Any:
    """The package of the optimizer that a stage names.

    Raises:
        InputError: It is not installed, or too old.
    """
    package = _PACKAGES.get(stage.optimizer or "adamw", "torch.optim")
    try:
        found = import_module(package)
    except ImportError as error:
        raise InputError(
            f"optimizer: {stage.optimizer} needs the package {package}, which is not installed",
            fix=f"pip install 'craft-trainer[{stage.optimizer}]'",
        ) from error
    if stage.optimizer == "muon" and not hasattr(found, "Muon"):
        raise InputError(
            f"optimizer: muon is not in torch {torch.__version__}",
            fix="pip install 'torch>=2.9', or take another optimizer",
        )
    return found


def schedule_of(stage: TrainedStage, total: int) -> Callable[[int], float]:
    """Factor of the learning rate in a step, counted from 0: nothing has to be resumed.

    It rises linearly over ``warmup_steps``, the first step included, and goes on as the schedule of
    that name in ``diffusers.optimization`` does.
    """
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))])
    name = stage.schedule or "constant"
    made: Any = get_scheduler(
        "constant_with_warmup" if name == "constant" else name,
        optimizer,
        num_warmup_steps=stage.warmup_steps,
        num_training_steps=total,
        num_cycles=stage.schedule_cycles or 1,
    )
    factor: Callable[[int], float] = made.lr_lambdas[0]
    return lambda step: float(factor(step + 1 if step < stage.warmup_steps else step))
