"""The demo's run: adapt the embedded model to one phantom domain, judged by a held-out encoder."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from cas_metric.errors import CasError
from cas_metric.images import load_image, to_tensor
from cas_metric.mllm.asking import Asking
from cas_metric.phantoms import canonical_domain
from cas_metric.phantoms.dataset import write_phantom_dataset
from cas_metric.statistics.uncertainty import Interval
from craft_trainer.artifact.model_card import CARD, change_of
from craft_trainer.config.schema import Config, parse_config
from craft_trainer.data.dataset import read_examples
from craft_trainer.enrichment.results import REJECTED
from craft_trainer.enrichment.verb import enrich
from craft_trainer.guards.heldout import spread, take
from craft_trainer.guards.reward_hacking import Look
from craft_trainer.guards.samples import load_squares
from craft_trainer.guards.watch import HELD_OUT_FILE, SAMPLES
from craft_trainer.inference import write_image
from craft_trainer.runtime import Progress, silent
from craft_trainer.runtime.journal import Journal
from craft_trainer.training.trainer import train_stages

EVALUATOR = "phantom-siglip"
CRITIC = "phantom-medsiglip"
LANGUAGE_MODEL = "phantom-llava"
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


#: Minutes on two processor cores.
DEFAULT = Size(train=120, prompts=32, inversion=40, lora=600, craft=30)


class Demo(NamedTuple):
    """What the demo came to.

    Attributes:
        looks: The held-out evaluation of the base model and of what each stage made of it.
        change: Of the mean CAS, paired by prompt.
        card: Model card of the last stage.
        samples: The same held-out prompts, stage below stage.
        rows: What each row of ``samples`` shows, from above.
        notes: What a person should know of the training images.
    """

    looks: dict[str, Look]
    change: Interval
    card: Path
    samples: Path
    rows: tuple[str, ...]
    notes: tuple[str, ...] = ()


def demo(
    out: str | Path,
    domain: str = "chexpert",
    size: Size = DEFAULT,
    *,
    base: str = "phantom-sd",
    enriched: bool = False,
    progress: Progress = silent,
) -> Demo:
    """Draw a training split, adapt the model to it in three stages, and score it before and after.

    Nothing is downloaded, and nothing is medical data. An interrupted demo continues.

    Args:
        out: Folder for everything.
        domain: ``chexpert``, ``fitzpatrick17k``, ``breakhis`` or ``origa``.
        size: How much is done.
        base: Another Stable Diffusion pipeline of 64 pixels.
        enriched: Whether the embedded language model looks at the training images and writes their
            prompts, Stage 1 of the paper; else they are those of the drawings.
        progress: Told what is being done.

    Raises:
        CasError: The language model wrote no prompt of use, or a stage cannot run.
    """
    folder = Path(out)
    write_phantom_dataset(domain, folder / "data", train=size.train, test=size.prompts)
    train = folder / "data" / "train"
    notes: tuple[str, ...] = ()
    if enriched:
        train, notes = enriched_images(train, folder, progress)
    config = configuration(domain, folder, size, base=base, train=train)
    artifact = train_stages(config, progress=progress, cache=folder / "cache")
    looks = looks_of(config)
    first, *_, last = looks.values()
    samples = folder / "samples.png"
    rows = write_comparison(config, samples)
    return Demo(looks, change_of(first, last), artifact / CARD, samples, rows, notes)


def enriched_images(
    train: Path, folder: Path, progress: Progress = silent
) -> tuple[Path, tuple[str, ...]]:
    """Have the embedded language model write the prompts of ``train``, in ``folder/enriched``.

    Returns:
        The manifest of the images whose prompts are of use, and a note on the others.

    Raises:
        CasError: There is no such image.
    """
    asking = Asking(LANGUAGE_MODEL, offline=True, cache=str(folder / "cache"))
    told = partial(progress, "training prompts")
    found = enrich(train, asking, folder / "enriched", progress=told)
    rejected = Path(found["out"]) / REJECTED
    total = found["accepted"] + found["rejected"]
    if not found["accepted"]:
        raise CasError(
            f"none of the {total} prompts that {LANGUAGE_MODEL} wrote is of use: see {rejected}",
            fix="leave --enrich out, or draw more images with --train",
        )
    if not found["rejected"]:
        return Path(found["out"]), ()
    note = (
        f"{found['rejected']} of {total} training images are left out: what {LANGUAGE_MODEL} wrote "
        f"of them is of no use, see {rejected}"
    )
    return Path(found["out"]), (note,)


def configuration(
    domain: str, folder: Path, size: Size, *, base: str = "phantom-sd", train: Path | None = None
) -> Config:
    """Textual inversion, LoRA and CRAFT on ``train``, or else on ``folder/data/train``."""
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
                "train": str(train or folder / "data" / "train"),
                "domain": canonical_domain(domain),
                "resolution": 64,
            },
            "lora": {"rank": 32, "alpha": 32},
            "sampling": {
                "steps": 20,
                "guidance": 3.0,
                "timestep_spacing": "trailing",
                "sampler": "dpmpp_2m_sde",
            },
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
