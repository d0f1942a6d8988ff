"""The demo's run: adapt the embedded model to one phantom domain, judged by a held-out encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch

from cas_metric.images import load_image, to_tensor
from cas_metric.phantoms import canonical_domain
from craft_trainer.config.schema import Config, parse_config
from craft_trainer.data.examples import read_examples
from craft_trainer.generation import write_image
from craft_trainer.guards.hacking import Look
from craft_trainer.guards.heldout import spread, take
from craft_trainer.guards.samples import load_squares
from craft_trainer.guards.watch import HELD_OUT_FILE, SAMPLES
from craft_trainer.training.journal import Journal

EVALUATOR = "phantom-siglip"
CRITIC = "phantom-medsiglip"
#: Images on a sheet.
SHOWN = 6


class Size(NamedTuple):
    """How much the demo does.

    Attributes:
        train: Training images.
        prompts: Held-out prompts.
        inversion: Steps of textual inversion.
        lora: Steps of LoRA.
        craft: Steps of CRAFT.
    """

    train: int
    prompts: int
    inversion: int
    lora: int
    craft: int


def configuration(domain: str, folder: Path, size: Size, *, base: str = "phantom-sd") -> Config:
    """Textual inversion, LoRA and CRAFT on drawings in ``folder/data``."""
    stages: list[dict[str, Any]] = [
        {
            "method": "textual_inversion",
            "steps": size.inversion,
            "batch_size": 8,
            "learning_rate": 5e-3,
        },
        {
            "method": "lora",
            "steps": size.lora,
            "batch_size": 8,
            "learning_rate": 1e-3,
            "prompt": "{token}. {prompt}",
        },
        {
            "method": "craft",
            "steps": size.craft,
            "batch_size": 4,
            "learning_rate": 3e-4,
            "prompt": "{token}. {prompt}",
            "repeat_mode": "renoise",
        },
    ]
    return parse_config(
        {
            "output": str(folder / "run"),
            "base": base,
            "tracker": "none",
            "data": {
                "train": str(folder / "data" / "train"),
                "domain": canonical_domain(domain),
                "resolution": 64,
            },
            "lora": {"rank": 32, "alpha": 32},
            "sampling": {"steps": 20, "guidance": 3.0, "timestep_spacing": "trailing"},
            "critic": {"encoder": CRITIC},
            "validation": {
                "every": max(size.inversion, size.lora, size.craft),
                "encoder": EVALUATOR,
                "manifest": str(folder / "data" / "test"),
                "prompts": size.prompts,
                "images": SHOWN,
                "batch_size": 32,
            },
            "guards": {
                "divergence": {"reaction": "warn"},
                "memorization": {"encoder": "phantom-dino"},
            },
            "stages": stages,
        }
    )


def looks_of(config: Config) -> dict[str, Look]:
    """The base model as it was, and what each stage made of it."""
    found: dict[str, Look] = {}
    for number, stage in enumerate(config.stages, start=1):
        rows = Journal(config.output / f"{number}-{stage.method}" / HELD_OUT_FILE).rows()
        looks = [Look.from_json(row) for row in rows]
        if number == 2:  # its prompts are those of the last stage, and no adapter is trained yet
            found["before"] = looks[0]
        if number >= 2:
            found[f"after {stage.method}"] = looks[-1]
    return found


def write_comparison(config: Config, path: Path) -> tuple[str, ...]:
    """The same held-out prompts with the same noise, stage below stage.

    Returns:
        What each row shows, from above.
    """
    last = len(config.stages)
    folders = [config.output / f"{n}-{one.method}" for n, one in enumerate(config.stages, start=1)]
    sheets = {"before": sorted((folders[1] / SAMPLES).glob("heldout-*.png"))[0]}
    for number in range(2, last + 1):
        drawn = sorted((folders[number - 1] / SAMPLES).glob("heldout-*.png"))
        sheets[f"after {config.stages[number - 1].method}"] = drawn[-1]
    held_out = read_examples(Path(config.validation.manifest or ""), config.data.domain)
    shown = take(held_out, spread(held_out.labels, config.validation.prompts)[:SHOWN])
    real = torch.cat(list(load_squares(shown, config.data.resolution)), dim=2)
    rows = [to_tensor(load_image(sheet).pixels) for sheet in sheets.values()]
    write_image(torch.cat([real, *rows], dim=1), path)
    return ("real partners", *sheets)
