"""The public face: quick to import, the same as the verbs, and its examples run."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.support.examples import documented, run_examples
from tests.support.warm import Warm

import craft_trainer
from cas_metric.phantoms.dataset import write_phantom_dataset
from craft_trainer.training.run import Trained

NAMES = documented("craft-trainer")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms") / "data"
    write_phantom_dataset("chexpert", folder, train=16, test=8)
    return folder


@pytest.fixture(scope="module")
def values(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A configuration as a notebook would write it."""
    return {
        "output": str(tmp_path_factory.mktemp("runs") / "run"),
        "base": "phantom-sd",
        "tracker": "none",
        "data": {"train": str(data / "train"), "resolution": 64},
        "lora": {"rank": 2, "alpha": 2},
        "sampling": {"steps": 2},
        "critic": {"encoder": "phantom-medsiglip"},
        "stages": [{"method": "lora", "steps": 2, "learning_rate": 1e-3}],
    }


@pytest.fixture(scope="module")
def trained(values: dict[str, Any]) -> Trained:
    return craft_trainer.train(values, cache="none")


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_shows_how_it_is_called(
    name: str, values: dict[str, Any], trained: Trained, data: Path, tmp_path: Path
) -> None:
    given = {
        "settings": values,
        "trained": trained,
        "train": data / "train",
        "prompts": data / "test",
        "tmp": tmp_path,
    }
    run_examples(name, given)


def test_the_reference_holds_the_public_face_and_nothing_twice() -> None:
    assert {f"craft_trainer.{name}" for name in craft_trainer.__all__} <= set(NAMES)
    assert len(set(NAMES)) == len(NAMES)


def test_the_import_is_light_and_names_are_there_before_they_are_loaded() -> None:
    code = (
        "import sys, craft_trainer, json\n"
        "heavy = [name for name in ('torch', 'diffusers', 'pandas') if name in sys.modules]\n"
        "print(json.dumps([heavy, sorted(set(craft_trainer.__all__) - set(dir(craft_trainer)))]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[], []]
    with pytest.raises(AttributeError, match="no attribute 'tarin'"):
        _ = craft_trainer.tarin


def test_training_from_python_and_from_the_command_line_gives_the_same_bytes(
    values: dict[str, Any], trained: Trained, warm: Warm, tmp_path: Path
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps(values))
    words = ["train", str(file), "--out", str(tmp_path / "cli"), "--cache", "none"]
    ended = warm.run("from craft_trainer.cli.main import main; main()", *words)
    assert ended.returncode == 0, ended.stderr
    name = "pytorch_lora_weights.safetensors"
    theirs = tmp_path / "cli" / "1-lora" / "artifact" / name
    assert (trained.artifact / name).read_bytes() == theirs.read_bytes()
    assert trained.stages == (trained.output / "1-lora",)
    assert list(trained.curves()["step"]) == [1, 2]


def test_overrides_reach_within(values: dict[str, Any], tmp_path: Path) -> None:
    before = json.dumps(values)
    run = craft_trainer.train(
        values, output=tmp_path / "run", cache="none", **{"stages.0.steps": 1, "lora.rank": 3}
    )
    assert len(run.curves()) == 1
    weights = load_file(run.artifact / "pytorch_lora_weights.safetensors")
    assert {min(value.shape) for value in weights.values()} == {3}
    assert json.dumps(values) == before  # what a caller holds is left alone


def test_a_loaded_pipeline_draws_what_was_trained(trained: Trained, values: dict[str, Any]) -> None:
    def draw(pipeline: Any) -> Any:
        seed = torch.Generator().manual_seed(1)
        return pipeline(
            "a chest radiograph", height=64, width=64, num_inference_steps=2, generator=seed,
            output_type="np",
        ).images  # fmt: skip

    ours = craft_trainer.load(trained)
    plain = craft_trainer.load(trained.output, stage="lora")
    plain.unload_lora_weights()
    assert abs(draw(ours) - draw(plain)).max() > 0
    assert abs(draw(ours) - draw(craft_trainer.load(trained.artifact))).max() == 0


def test_files_can_be_read_by_whom_the_umask_lets(trained: Trained) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in trained.artifact.iterdir()}
    assert len(set(modes.values())) == 1, modes


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("cam", "rewards.clinical_alignment"),
        ("models", "bases.loading"),
        ("trainer", "training.trainer"),
        ("sampling", "diffusion.sampling"),
        ("adapters", "bases.lora"),
    ],
)
def test_modules_are_found_under_their_old_names(old: str, new: str) -> None:
    sys.modules.pop(f"craft_trainer.{old}", None)
    with pytest.warns(DeprecationWarning, match=f"craft_trainer.{old} is now"):
        found = importlib.import_module(f"craft_trainer.{old}")
    assert found is importlib.import_module(f"craft_trainer.{new}")


def test_every_old_name_leads_somewhere() -> None:
    (names,) = (
        one.names for one in sys.meta_path if "craft_trainer.cam" in getattr(one, "names", {})
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for new in names.values():
            importlib.import_module(new)
