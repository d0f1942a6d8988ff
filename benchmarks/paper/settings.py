"""How large a reproduction is, on which data, with which models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from cas_metric.domains import load_domain

#: Phantom domains stand in for the data sets of the paper of the same name.
PAPER_NAMES: Final = {
    "fitzpatrick17k": "Fitzpatrick17k",
    "chexpert": "CheXpert",
    "breakhis": "BreakHis",
    "origa": "ORIGA",
}


@dataclass(frozen=True)
class Scale:
    """Sizes and lengths; everything that decides how long a reproduction takes.

    Attributes:
        name: Also the name of its folder.
        train: Training images that are drawn; real data come as they are.
        test: Held-out images that are drawn.
        resolution: Side of an image in pixels.
        seeds: Generation seeds.
        inversion: Changes of the textual-inversion stage.
        lora: Changes of the LoRA stages.
        dpo: Changes of the DPO stage.
        craft: Changes of the CRAFT stages.
        pairs: Preference pairs.
        critic: Of the rewards.
        evaluators: Role to encoder: ``main`` scores the tables, ``out_of_family`` checks them.
        independent: Encoder of the nearest-neighbour analysis.
        rank: Of the LoRA.
        dtype: Of the frozen weights.
        guidance: Of training and evaluation.
        timestep_spacing: Of the sampler; ``trailing`` leaves the last step more to change.
        synthetic: Images of each method that classifiers are trained on, drawn from the training
            prompts of all classes alike; None draws one a training prompt.
        utility_model: Classifier of the downstream experiment.
        utility_seeds: Its seeds.
    """

    name: str
    train: int
    test: int
    resolution: int
    seeds: int
    inversion: dict[str, Any]
    lora: dict[str, Any]
    dpo: dict[str, Any]
    craft: dict[str, Any]
    pairs: int
    critic: str = "phantom-medsiglip"
    evaluators: dict[str, str] = field(
        default_factory=lambda: {
            "main": "phantom-siglip",
            "out_of_family": "phantom-metaclip",
            "critic": "phantom-medsiglip",
        }
    )
    independent: str = "phantom-dino"
    rank: int = 32
    dtype: str = "float32"
    guidance: float = 5.0
    timestep_spacing: str = "leading"
    synthetic: int | None = None
    utility_model: str = "small"
    utility_seeds: int = 5


#: The paper's own setting (§4.1.3); what it leaves open is as in the trainer's example.
PAPER: Final = Scale(
    name="paper",
    train=0,
    test=0,
    resolution=512,
    seeds=5,
    inversion={"steps": 3000},
    lora={"epochs": 10},
    dpo={"epochs": 10},
    craft={"epochs": 10},
    pairs=1024,
    critic="medsiglip",
    evaluators={"main": "siglip", "out_of_family": "metaclip2", "critic": "medsiglip"},
    independent="dinov2",
    dtype="bfloat16",
    utility_model="resnet18",
)

#: On phantoms: about four hours on two cores; `--plan` estimates it for the machine at hand.
PHANTOMS: Final = Scale(
    name="phantoms",
    train=200,
    test=40,
    resolution=64,
    seeds=5,
    inversion={"steps": 100, "learning_rate": 5e-3, "batch_size": 8},
    lora={"steps": 500, "learning_rate": 1e-3, "batch_size": 8, "warmup_steps": 20},
    dpo={"steps": 150, "learning_rate": 1e-4},
    craft={"steps": 100, "learning_rate": 3e-4, "warmup_steps": 20, "repeat_mode": "renoise"},
    pairs=96,
    guidance=3.0,
    timestep_spacing="trailing",
    synthetic=80,
)

#: The same path, much smaller: its numbers say that it runs, not how the methods compare.
QUICK: Final = replace(
    PHANTOMS,
    name="quick",
    train=60,
    test=10,
    seeds=2,
    inversion={**PHANTOMS.inversion, "steps": 10},
    lora={**PHANTOMS.lora, "steps": 20},
    dpo={**PHANTOMS.dpo, "steps": 10},
    craft={**PHANTOMS.craft, "steps": 5},
    pairs=4,
    synthetic=10,
    utility_seeds=2,
)


@dataclass(frozen=True)
class Settings:
    """One data set at one scale.

    Attributes:
        domain: Domain pack.
        data: Folder with ``train`` and ``test``; None draws phantoms.
        base: Diffusion model.
        scale: Sizes and lengths.
        folder: Run directory: data, adapters, images, scores, tables.
        mllm: Multimodal language model of the audit and of the automated preference.
        backbone: AlexNet weights of LPIPS as safetensors.
        rankings: Physicians' rankings, as ``cas study export`` writes them.
        generators: Title to a folder of images that another generator made of the test prompts.
    """

    domain: str
    data: Path | None
    base: str
    scale: Scale
    folder: Path
    mllm: str | None = None
    backbone: Path | None = None
    rankings: Path | None = None
    generators: Mapping[str, Path] = field(default_factory=dict)

    @property
    def fitting_scale(self) -> Scale:
        """The scale, where phantoms are drawn with a held-out image of every class at least."""
        if self.data is not None:
            return self.scale
        classes = len(load_domain(self.domain).classes)
        return replace(self.scale, test=max(self.scale.test, classes))

    @property
    def paper_name(self) -> str:
        """Name of the data set in the paper's tables."""
        return PAPER_NAMES.get(self.domain.removeprefix("phantom-"), self.domain)
