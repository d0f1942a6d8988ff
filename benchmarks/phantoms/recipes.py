"""What is trained on phantoms, by name: methods, their settings, and how long on which domain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

BASE: Final = "phantom-sd"
CRITIC: Final = "phantom-medsiglip"
#: Neither of them gives a reward.
EVALUATORS: Final = ("phantom-siglip", "phantom-metaclip")
SEEDS: Final = 5
#: Method to its title; the first is the base model, the others are stages of the trainer.
METHODS: Final = {
    "zero_shot": "phantom-sd, zero-shot",
    "ti_lora": "TI + LoRA",
    "control": "TI + LoRA, as many further steps without a reward",
    "craft": "TI + LoRA + CRAFT",
}
#: With ``--also``: CRAFT with a prefix of fewer forwards, with the safeguards that
#: ``benchmarks.phantoms.switches`` found to be of use, with both; and with the paper's prefix used
#: four times. Those called longer take twice as many steps, and so does the one without guidance,
#: whose forwards are half as many.
FURTHER: Final = {
    "prefix": "TI + LoRA + CRAFT, cheaper prefix",
    "guarded": "TI + LoRA + CRAFT, guarded",
    "cheaper": "TI + LoRA + CRAFT, guarded, cheaper prefix",
    "replayed": "TI + LoRA + CRAFT, each prefix used four times",
    "longer": "TI + LoRA + CRAFT, each prefix used four times, twice the steps",
    "longer_prefix": "TI + LoRA + CRAFT, cheaper prefix, twice the steps",
    "unguided": "TI + LoRA + CRAFT, without guidance, twice the steps",
    "gentle": "TI + LoRA + CRAFT, with half the guidance",
    "ten": "TI + LoRA + CRAFT, trajectories of 10 steps",
    "six": "TI + LoRA + CRAFT, trajectories of 6 steps",
    "halved": "TI + LoRA + CRAFT, half the steps",
    "ten_halved": "TI + LoRA + CRAFT, trajectories of 10 steps, half the steps",
    "ten_unguided": "TI + LoRA + CRAFT, trajectories of 10 steps without guidance, twice the steps",
}
TWICE: Final = ("longer", "longer_prefix", "unguided", "ten_unguided")
SAFEGUARDS: Final = {"ccs_contrast": True, "trajectory_kl": 1.0}
CHEAPER: Final = {
    "repeat_mode": "resample",
    "prefix": {"solver": "dpmpp_2m", "steps": 6, "replay": 1},
}
REPLAYED: Final = {"prefix": {"replay": 3, "replay_age": 4}}
#: What each changes of the stage.
CHANGES: Final[dict[str, dict[str, Any]]] = {
    "prefix": CHEAPER,
    "guarded": {"safeguards": SAFEGUARDS},
    "cheaper": {"safeguards": SAFEGUARDS, **CHEAPER},
    "replayed": REPLAYED,
    "longer": REPLAYED,
    "longer_prefix": CHEAPER,
    "ten": {"trajectory": {"steps": 10}},
    "six": {"trajectory": {"steps": 6}},
    "halved": {"steps": 100},
    "ten_halved": {"trajectory": {"steps": 10}, "steps": 100},
    "ten_unguided": {"trajectory": {"steps": 10}},
}
#: And of how images are drawn, in training and afterwards.
OVERRIDES: Final = {
    "unguided": ("sampling.guidance=1",),
    "gentle": ("sampling.guidance=1.5",),
    "ten_unguided": ("sampling.guidance=1",),
}
PROMPT: Final = "{token}. {prompt}"
SAMPLING: Final = {
    "steps": 20,
    "guidance": 3.0,
    "timestep_spacing": "trailing",
    "sampler": "dpmpp_2m_sde",
}


@dataclass(frozen=True)
class Domain:
    """What is trained on one domain, and for how long.

    Attributes:
        train: Training images.
        test: Held-out prompts; each is generated with every seed.
        inversion: Steps of textual inversion.
        lora: Steps of LoRA.
        craft: Steps of CRAFT, and of the control.
        lora_rate: Learning rate of LoRA and of the control.
        craft_rate: Learning rate of CRAFT.
    """

    train: int = 240
    test: int = 60
    inversion: int = 100
    lora: int = 2400
    craft: int = 200
    lora_rate: float = 1e-3
    craft_rate: float = 3e-4


SETTINGS: Final = {
    "phantom-chexpert": Domain(),
    "phantom-fitzpatrick17k": Domain(train=400, test=40, lora=4800),
    "phantom-breakhis": Domain(test=40),
    "phantom-origa": Domain(),
}
