"""Optimizers by name resume bit for bit; rates follow the schedules that diffusers has."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from cas_metric.errors import InputError
from craft_trainer.methods.lora import LoraStage
from craft_trainer.runtime.checkpoints import checkpoints, step_of
from craft_trainer.runtime.journal import Journal
from craft_trainer.training import trainer
from craft_trainer.training.optimizers import schedule_of

CHOICES: dict[str, dict[str, Any]] = {
    "muon": {"stage": {"optimizer": "muon"}},
    "prodigy": {"stage": {"optimizer": "prodigy", "learning_rate": 1.0}},
    "dropout": {"lora": {"rank": 2, "alpha": 6, "dropout": 0.5}},
    "ema": {"stage": {"ema": 0.5}},
}


@pytest.mark.parametrize("name", CHOICES)
def test_a_resumed_run_has_the_same_bytes(settings: Any, tmp_path: Path, name: str) -> None:
    choice = dict(CHOICES[name])
    stage = {"method": "lora", "steps": 4, "checkpoint_every": 2, **choice.pop("stage", {})}

    def weights(folder: str, **changes: Any) -> bytes:
        config = settings({**stage, **changes}, output=str(tmp_path / folder), **choice)
        artifact = trainer.train_stages(config, cache="none")
        return (artifact / "pytorch_lora_weights.safetensors").read_bytes()

    whole = weights("whole")
    stage_folder = tmp_path / "whole" / "1-lora"
    for file in (stage_folder / "artifact").rglob("*"):
        file.unlink()
    (stage_folder / "artifact").rmdir()
    (stage_folder / "checkpoints" / "step-0000004.safetensors").unlink()
    assert weights("whole") == whole
    other = {
        "muon": {"optimizer": "adamw"},
        "prodigy": {"optimizer": "adamw"},
        "ema": {"ema": None},
    }.get(name, {})
    if other:
        assert weights("other", **other, learning_rate=1e-2) != whole


def test_a_missing_package_is_named(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    config = settings({"method": "lora", "steps": 1, "optimizer": "adamw8bit"})
    with pytest.raises(InputError, match="needs the package bitsandbytes") as caught:
        trainer.train_stages(config, cache="none")
    assert "craft-trainer[adamw8bit]" in caught.value.fix


def test_muon_refuses_what_is_no_matrix(settings: Any) -> None:
    config = settings(
        {"method": "lora", "steps": 1, "optimizer": "muon"},
        lora={"rank": 2, "alpha": 6, "dora": True},
    )
    with pytest.raises(InputError, match="muon trains matrices alone"):
        trainer.train_stages(config, cache="none")


def test_schedules_are_their_formulas(settings: Any) -> None:
    def factors(**changes: Any) -> list[float]:
        stage = LoraStage(method="lora", steps=10, **changes)
        return [schedule_of(stage, 10)(step) for step in range(10)]

    assert factors() == [1.0] * 10
    assert factors(warmup_steps=4) == [0.25, 0.5, 0.75] + [1.0] * 7
    assert factors(schedule="linear") == pytest.approx([1 - step / 10 for step in range(10)])
    cosine = [0.5 * (1 + math.cos(math.pi * step / 8)) for step in range(8)]
    assert factors(schedule="cosine", warmup_steps=2) == pytest.approx([0.5, 1.0, *cosine])
    restarts = factors(schedule="cosine_with_restarts", schedule_cycles=2)
    assert restarts[0] == restarts[5] == 1.0
    assert restarts[4] < 0.1
    with pytest.raises(ValueError, match="cosine_with_restarts"):
        factors(schedule="cosine", schedule_cycles=2)
    config = settings({"method": "lora", "steps": 3, "schedule": "cosine"})
    trainer.train_stages(config, cache="none")
    rows = Journal(config.output / "1-lora" / "metrics.jsonl").rows()
    rates = [0.5e-2 * (1 + math.cos(math.pi * step / 3)) for step in range(3)]
    assert [row["learning_rate"] for row in rows] == pytest.approx(rates)


def test_the_best_weights_are_an_average_too(
    settings: Any, tmp_path: Path, evaluator: Path, unseen: Path
) -> None:
    """Which is looked at where it stands in the place of the weights, and saved there."""
    validation = {"every": 1, "encoder": str(evaluator), "manifest": str(unseen), "prompts": 2}
    stage = {"method": "lora", "steps": 3, "learning_rate": 1e-2, "ema": 0.3, "checkpoint_every": 1}
    config = settings(stage, validation=validation, artifact="best", keep_checkpoints=9)
    artifact = trainer.train_stages(config, cache="none")
    folder = config.output / "1-lora"
    best = max(checkpoints(folder / "best"), key=step_of)
    kept = load_file(folder / "checkpoints" / best.name) if step_of(best) else {}
    for name, value in load_file(best).items():
        assert not name.startswith("state/")
        if kept and name.startswith("parameter/"):
            assert torch.equal(value, kept[name.replace("parameter/", "state/ema/")])
    sums = {value.sum().item() for name, value in load_file(best).items() if "parameter/" in name}
    shown = load_file(artifact / "pytorch_lora_weights.safetensors")
    assert {value.sum().item() for value in shown.values()} == sums


def test_the_artefact_holds_the_average_of_every_step(settings: Any, tmp_path: Path) -> None:
    stage = {"method": "lora", "steps": 4, "checkpoint_every": 1, "learning_rate": 1e-2}

    def run(name: str, **changes: Any) -> tuple[Path, list[dict[str, Tensor]]]:
        config = settings({**stage, **changes}, output=str(tmp_path / name), keep_checkpoints=9)
        artifact = trainer.train_stages(config, cache="none")
        found = checkpoints(tmp_path / name / "1-lora" / "checkpoints")
        return artifact, [load_file(path) for path in found]

    plain, before = run("plain")
    averaged, after = run("averaged", ema=0.3)
    names = [name for name in after[0] if name.startswith("parameter/")]
    for one, other in zip(before, after, strict=True):  # the steps are those without an average
        assert all(torch.equal(one[name], other[name]) for name in names)
    for name in names:
        mean = before[0][name]
        for step, one in enumerate(before[1:], start=1):
            share = min(0.3, (1 + step) / (10 + step))
            mean = share * mean + (1 - share) * one[name]
        kept = after[-1][name.replace("parameter/", "state/ema/")]
        torch.testing.assert_close(kept, mean)
    weights = [load_file(path / "pytorch_lora_weights.safetensors") for path in (plain, averaged)]
    kept = {value.sum().item() for name, value in after[-1].items() if "ema/" in name}
    assert {value.sum().item() for value in weights[1].values()} == kept
    assert {value.sum().item() for value in weights[0].values()} != kept
