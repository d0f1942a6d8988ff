"""Costs against what a real step does: forwards counted by a hook, bytes counted by autograd."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from typer.testing import CliRunner

from cas_metric.cache import EmbeddingCache
from craft_trainer import data, trainer
from craft_trainer.cli import main as cli
from craft_trainer.config import Config, to_yaml
from craft_trainer.estimate import cost_of
from craft_trainer.memory import memory_of, parts_of

CRAFT = {"method": "craft", "steps": 1, "reward_gradients_every": 0}


def ready(config: Config) -> trainer.StageRun:
    examples = data.read_examples(config.data.train, config.data.domain)
    run = trainer.StageRun(
        config, config.stages[0], config.output, None, examples, Accelerator(), {}
    )
    run.last_good = "the start"
    with EmbeddingCache("none") as cache:
        run.setup(cache, trainer.silent)
    return run


@pytest.mark.parametrize(
    "stage",
    [
        {"method": "lora", "steps": 1},
        {"method": "lora", "steps": 1, "kl_to_base": 0.5, "accumulate": 2},
        CRAFT,
        {**CRAFT, "repeats": 3, "repeat_mode": "renoise"},
        {**CRAFT, "gradient_steps": 2, "unconditional_gradient": "stop"},
        {**CRAFT, "lambda_diff": 0.0},
    ],
)
def test_forwards_are_those_of_a_real_step(settings: Any, stage: dict[str, Any]) -> None:
    config = settings(stage)
    run = ready(config)
    forwards = 0.0

    def count(module: Any, inputs: Any, output: Any) -> None:
        nonlocal forwards
        forwards += len(inputs[0]) * (3 if torch.is_grad_enabled() else 1)

    run.model.pipeline.unet.register_forward_hook(count)
    run._step(0)
    assert forwards == cost_of(config, config.stages[0], 6).forwards_per_step


def test_activations_are_those_that_autograd_keeps(settings: Any) -> None:
    config = settings({**CRAFT, "gradient_steps": 2})
    run = ready(config)
    kept: dict[int, int] = {}
    held = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            storage = tensor.untyped_storage()
            kept[storage._cdata] = storage.nbytes()
        return tensor

    (positions,) = run._positions(0)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        held.append(run.method.loss(run._batch(positions), 1).total)
    estimated = memory_of(config, config.stages[0], 2, parts_of(config))
    assert estimated.activations * 1e9 == pytest.approx(sum(kept.values()), rel=0.1)
    trained = sum(parameter.numel() for parameter in run.parameters)
    assert estimated.optimizer * 1e9 == 16 * trained
    assert estimated.checkpointed < estimated.activations


def test_looks_are_counted(settings: Any, critic: Path, images: Path) -> None:
    validation = {"every": 4, "encoder": "phantom-siglip", "manifest": str(images), "prompts": 5}
    config = settings({**CRAFT, "steps": 10}, validation=validation)
    cost = cost_of(config, config.stages[0], 6)
    assert cost.looks == 4  # before the first step, after 4, 8 and 10
    assert cost.look_forwards == 4 * 5 * 2 * config.sampling.steps


def test_measured_steps_and_memory_reach_the_command_line(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(settings({"method": "lora", "steps": 3, "prompt": "{token} {prompt}"})))
    words = ["estimate", str(file), "--measure", "--json", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["craft-trainer", *words])
    result = CliRunner().invoke(cli.app, words)
    assert result.exit_code == 0, result.output
    (stage,) = json.loads(result.stdout)
    assert stage["measured"]["seconds"] > 0
    assert stage["memory"]["total"] > stage["memory"]["weights"] > 0
    assert "s / step" in (tmp_path / "out" / "estimate.md").read_text()
