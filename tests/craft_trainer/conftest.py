"""One tiny base model, critic and training folder for the tests of the trainer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tests.support.tiny_diffusion import DOWNSAMPLING, build_stable_diffusion
from tests.support.tiny_models import build_siglip

from cas_metric.manifest import FolderConfig, write_folder_config, write_manifest
from craft_trainer.config.schema import Config, parse_config

LATENT = 8
RESOLUTION = LATENT * DOWNSAMPLING
LABELS = ("Cardiomegaly", "Pleural Effusion")
#: A stage that is short and looked at.
WATCHED = {"method": "craft", "steps": 4, "checkpoint_every": 2, "reward_gradients_every": 0}


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_stable_diffusion(tmp_path_factory.mktemp("base") / "sd", sample_size=LATENT)


@pytest.fixture(scope="session")
def critic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_siglip(tmp_path_factory.mktemp("critic") / "siglip")


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images of two classes with prompts, and the domain in their cas.yaml."""
    folder = tmp_path_factory.mktemp("train")
    rng = np.random.default_rng(5)
    rows = []
    for number in range(6):
        grey = rng.integers(0, 256, (20, 24, 3)) // 2 + 100 * (number % 2)
        Image.fromarray(grey.astype(np.uint8)).save(folder / f"{number}.png")
        label = LABELS[number % 2]
        rows.append(
            {
                "id": f"p{number}",
                "image": f"{number}.png",
                "label": label,
                "prompt": f"Frontal chest radiograph number {number}, {label}.",
                "patient": f"patient{number}",
            }
        )
    write_manifest(pd.DataFrame(rows), folder)
    write_folder_config(folder, FolderConfig(domain="phantom-chexpert"))
    return folder


@pytest.fixture(scope="session")
def make_settings(base: Path, critic: Path, images: Path) -> Any:
    """Builds a configuration of one or more stages; keyword arguments replace top-level keys."""

    def build(*stages: dict[str, Any], output: str, **changes: Any) -> Config:
        values = {
            "output": output,
            "base": str(base),
            "tracker": "none",
            "data": {"train": str(images), "resolution": RESOLUTION},
            "lora": {"rank": 2, "alpha": 6},
            "sampling": {"steps": 3, "guidance": 2.0},
            "critic": {"encoder": str(critic)},
            "stages": [
                stage
                if stage["method"] == "zero_shot"
                else {"batch_size": 2, "learning_rate": 1e-2, **stage}
                for stage in stages
            ],
        }
        return parse_config({**values, **changes})

    return build


@pytest.fixture
def settings(make_settings: Any, tmp_path: Path) -> Any:
    """As ``make_settings``, with an output folder of the test's own."""

    def build(*stages: dict[str, Any], **changes: Any) -> Config:
        return make_settings(*stages, **{"output": str(tmp_path / "run"), **changes})

    return build


@pytest.fixture(scope="session")
def evaluator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_siglip(tmp_path_factory.mktemp("evaluator") / "siglip", seed=3)


@pytest.fixture(scope="session")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five held-out images of the two classes of the training images."""
    folder = tmp_path_factory.mktemp("unseen")
    rng = np.random.default_rng(9)
    rows = []
    for number in range(5):
        label = ("Pleural Effusion", "Cardiomegaly")[number % 2]
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(
            folder / f"{number}.png"
        )
        prompt = f"Held-out radiograph {number}, {label}."
        row = {"id": f"u{number}", "image": f"{number}.png", "label": label, "prompt": prompt}
        rows.append(row)
    write_manifest(pd.DataFrame(rows), folder)
    write_folder_config(folder, FolderConfig(domain="phantom-chexpert"))
    return folder


@pytest.fixture
def watched(settings: Callable[..., Config], evaluator: Path, unseen: Path) -> Any:
    """A configuration with a held-out evaluation at every step."""

    def build(stage: dict[str, Any] = WATCHED, **changes: Any) -> Config:
        validation = {
            "every": 1, "encoder": str(evaluator), "manifest": str(unseen), "prompts": 3,
            "images": 2, "batch_size": 2, **changes.pop("validation", {}),
        }  # fmt: skip
        guards = {"divergence": {"reaction": "warn"}}
        return settings(stage, **{"validation": validation, "guards": guards, **changes})

    return build
