"""Clinical reward-aligned finetuning (CRAFT) of diffusers models.

Everything a user calls is here by name, and is imported on use: ``import craft_trainer`` does not
load torch.

Examples:
    >>> import craft_trainer
    >>> sorted(craft_trainer.__all__)[:3]
    ['ClinicalAlignmentModule', 'doctor', 'estimate']
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from cas_metric.discovery import alias

if TYPE_CHECKING:
    from craft_trainer.artifact.folder import load
    from craft_trainer.cost.doctor import doctor
    from craft_trainer.cost.estimate import estimate
    from craft_trainer.generation import generate
    from craft_trainer.preference.pairs import make_pairs
    from craft_trainer.rewards.clinical_alignment import ClinicalAlignmentModule
    from craft_trainer.training.run import train

__version__ = "0.1.0"

#: Public name to the module that defines it.
_HOMES: Final = {
    "ClinicalAlignmentModule": "rewards.clinical_alignment",
    "doctor": "cost.doctor",
    "estimate": "cost.estimate",
    "generate": "generation",
    "load": "artifact.folder",
    "make_pairs": "preference.pairs",
    "train": "training.run",
}

__all__ = [
    "ClinicalAlignmentModule",
    "doctor",
    "estimate",
    "generate",
    "load",
    "make_pairs",
    "train",
]

alias(
    __name__,
    {
        "adapters": "bases.lora",
        "artifacts": "artifact.folder",
        "cam": "rewards.clinical_alignment",
        "card": "artifact.model_card",
        "checkpoints": "runtime.checkpoints",
        "checkup": "cost.doctor",
        "conditions": "diffusion.conditions",
        "copies": "guards.memorization",
        "curves": "artifact.curves",
        "flow": "diffusion.flow_matching",
        "hacking": "guards.reward_hacking",
        "heldout": "guards.heldout",
        "judges": "preference.judges",
        "memory": "cost.memory",
        "metrics": "runtime.journal",
        "models": "bases.loading",
        "monitoring": "guards.statistics",
        "pairs": "preference.pairs",
        "processes": "diffusion.forward_process",
        "provenance": "bases.weights",
        "ranks": "runtime.ranks",
        "rows": "data.rows",
        "samples": "guards.samples",
        "sampling": "diffusion.sampling",
        "section": "config.stage",
        "spectrum": "guards.statistics",
        "stages": "config.stage",
        "targets": "rewards.targets",
        "tokens": "bases.tokens",
        "trainer": "training.trainer",
        "demo": "training.demo",
        "measuring": "cost.measurement",
        "usage": "artifact.usage",
        "validation_config": "config.validation",
        "watch": "guards.watch",
    },
)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
