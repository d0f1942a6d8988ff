"""A base model of equal weights and other settings is another one; one saved anew is not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from tests.support.tiny_families import build_sdxl

from cas_metric.errors import InputError
from craft_trainer.artifact.folder import load_trained
from craft_trainer.bases.weights import base_hash, base_settings
from craft_trainer.generation import generate
from craft_trainer.runtime.checkpoints import BASE_SETTINGS
from craft_trainer.training import trainer

LORA = {"method": "lora", "steps": 2, "checkpoint_every": 1}
SCHEDULER = "scheduler/scheduler_config.json"
TOLD = r"base_settings\.scheduler\.prediction_type: epsilon then, v_prediction now"


@pytest.fixture
def own(base: Path, tmp_path: Path) -> Path:
    return shutil.copytree(base, tmp_path / "own")


def tell(own: Path, name: str = SCHEDULER, **changes: Any) -> None:
    file = own / name
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def forget(stage: Path) -> None:
    """As an earlier version wrote it."""
    file = stage / "stage.json"
    values = json.loads(file.read_text())
    del values[BASE_SETTINGS]
    file.write_text(json.dumps(values))


def test_a_finished_run_and_what_draws_with_it_refuse_other_settings(
    settings: Any, own: Path, images: Path, tmp_path: Path
) -> None:
    config = settings(LORA, base=str(own))
    artifact = trainer.train_stages(config, cache="none")
    generate(artifact, images, tmp_path / "drawn", seeds=1)
    weights = base_hash(str(own), None, offline=True)
    tell(own, prediction_type="v_prediction")
    assert base_hash(str(own), None, offline=True) == weights
    started = settings(LORA, base=str(own), start=str(artifact), output=str(tmp_path / "second"))
    for refused in (
        lambda: trainer.train_stages(config, cache="none"),
        lambda: trainer.train_stages(started, cache="none"),
        lambda: load_trained(artifact, config, torch.device("cpu")),
        lambda: generate(artifact, images, tmp_path / "drawn", seeds=2),
        lambda: generate(artifact, images, tmp_path / "drawn", seeds=2, zero_shot=True),
    ):
        with pytest.raises(InputError, match=TOLD):
            refused()
    forget(artifact)  # of an earlier version nothing is known, and it stays what it was
    trainer.train_stages(config, cache="none")
    trainer.train_stages(started, cache="none")
    generate(artifact, images, tmp_path / "other", seeds=1)


def test_a_run_goes_on_with_the_settings_of_its_checkpoint(settings: Any, own: Path) -> None:
    class Killed(BaseException):
        """As a lost machine."""

    def killed(what: str, done: int, total: int) -> None:
        if "steps" in what and done == 2:
            raise Killed

    config = settings({**LORA, "steps": 3}, base=str(own))
    with pytest.raises(Killed):
        trainer.train_stages(config, cache="none", progress=killed)
    tell(own, prediction_type="v_prediction")
    with pytest.raises(InputError, match=TOLD):
        trainer.train_stages(config, cache="none")
    tell(own, prediction_type="epsilon")
    trainer.train_stages(config, cache="none")


@pytest.mark.parametrize(
    ("part", "name", "changes"),
    [
        ("scheduler", SCHEDULER, {"beta_schedule": "squaredcos_cap_v2"}),
        ("scheduler", SCHEDULER, {"_class_name": "DDIMScheduler"}),
        ("unet", "unet/config.json", {"norm_eps": 0.5}),
        ("vae", "vae/config.json", {"scaling_factor": 0.5}),
    ],
)
def test_each_part_counts(own: Path, part: str, name: str, changes: dict[str, Any]) -> None:
    before = base_settings(str(own), None, offline=True)
    tell(own, name, **changes, _diffusers_version="0.0.1", _name_or_path="elsewhere")
    after = base_settings(str(own), None, offline=True)
    assert [one for one in before if before[one] != after[one]] == [part]


def test_settings_of_a_pipeline_count(tmp_path: Path) -> None:
    own = build_sdxl(tmp_path / "sdxl")
    tell(own, "model_index.json", force_zeros_for_empty_prompt=True)
    first = base_settings(str(own), None, offline=True)
    tell(own, "model_index.json", force_zeros_for_empty_prompt=False)
    assert base_settings(str(own), None, offline=True) != first


def test_defaults_that_are_spelt_out_change_nothing(own: Path, tmp_path: Path) -> None:
    for name, spare in ((SCHEDULER, "thresholding"), ("vae/config.json", "act_fn")):
        told = json.loads((own / name).read_text())
        del told[spare]
        (own / name).write_text(json.dumps(told))
    terse = base_settings(str(own), None, offline=True)
    DiffusionPipeline.from_pretrained(own, safety_checker=None).save_pretrained(tmp_path / "again")
    assert base_settings(str(tmp_path / "again"), None, offline=True) == terse
