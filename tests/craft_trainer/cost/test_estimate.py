"""Costs against what a real step does: forwards counted by a hook, bytes counted by autograd.

And the sizes of two released models, which their configurations give.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from tests.support.tiny_families import build_flux, build_sd3, build_sdxl
from tests.support.tiny_models import build_dinov2
from typer.testing import CliRunner

from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.encoders import load_encoder
from cas_metric.errors import InputError
from craft_trainer.bases.weights import empty_part
from craft_trainer.cli import main as cli
from craft_trainer.config.schema import Config, to_yaml
from craft_trainer.cost import measurement
from craft_trainer.cost.estimate import cost_of
from craft_trainer.cost.memory import (
    Memory,
    Parts,
    encoder_bytes,
    has_unconditional_branch,
    memory_of,
    parts_of,
)
from craft_trainer.data import dataset as data
from craft_trainer.training import trainer

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


#: Configurations of released transformers, and their parameters.
RELEASED: dict[str, tuple[Callable[[Path], Path], dict[str, Any], float]] = {
    # Esser et al. (2024): "2B" in the name of stable-diffusion-3-medium, depth 24.
    "sd3-medium": (
        build_sd3,
        {
            "sample_size": 128,
            "in_channels": 16,
            "out_channels": 16,
            "num_layers": 24,
            "attention_head_dim": 64,
            "num_attention_heads": 24,
            "joint_attention_dim": 4096,
            "caption_projection_dim": 1536,
            "pooled_projection_dim": 2048,
            "pos_embed_max_size": 192,
        },
        2.03e9,
    ),
    # "12 billion parameter rectified flow transformer" (model card of FLUX.1-dev).
    "flux-dev": (
        build_flux,
        {
            "in_channels": 64,
            "num_layers": 19,
            "num_single_layers": 38,
            "attention_head_dim": 128,
            "num_attention_heads": 24,
            "joint_attention_dim": 4096,
            "pooled_projection_dim": 768,
            "axes_dims_rope": [16, 56, 56],
        },
        11.9e9,
    ),
}


@pytest.mark.parametrize("name", RELEASED)
def test_released_transformers_have_the_size_that_is_stated(tmp_path: Path, name: str) -> None:
    build, values, stated = RELEASED[name]
    folder = build(tmp_path)
    weights = load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors")
    tiny = empty_part(folder, "transformer")
    assert {name: value.shape for name, value in tiny.state_dict().items()} == {
        name: value.shape for name, value in weights.items()
    }
    file = folder / "transformer" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))
    released = empty_part(folder, "transformer")
    count = sum(value.numel() for value in released.parameters())
    assert count == pytest.approx(stated, rel=0.01)


def test_a_guidance_distilled_model_predicts_once(settings: Any, bases: Any) -> None:
    config = settings(CRAFT, base=str(bases("flux")))
    run = ready(config)
    forwards = 0.0

    def count(module: Any, inputs: Any, keywords: Any, output: Any) -> None:
        nonlocal forwards
        forwards += len(output[0]) * (3 if torch.is_grad_enabled() else 1)

    run.model.trunk.register_forward_hook(count, with_kwargs=True)
    run._step(0)
    guided = has_unconditional_branch(config)
    assert not guided
    assert forwards == cost_of(config, config.stages[0], 6, guided=guided).forwards_per_step


@pytest.mark.parametrize(
    "stage",
    [
        {"method": "lora", "steps": 1},
        {"method": "lora", "steps": 1, "kl_to_base": 0.5, "accumulate": 2},
        CRAFT,
        {**CRAFT, "repeats": 3, "repeat_mode": "renoise"},
        {**CRAFT, "gradient_steps": 2, "unconditional_gradient": "stop"},
        {**CRAFT, "lambda_diff": 0.0},
        {"method": "nft", "steps": 1, "guidance": 3.0},
    ],
)
def test_forwards_are_those_of_a_real_step(settings: Any, stage: dict[str, Any]) -> None:
    own = {"sampling": {"steps": 3, "guidance": 1.0}} if stage["method"] == "nft" else {}
    config = settings(stage, **own)
    run = ready(config)
    forwards = 0.0

    def count(module: Any, inputs: Any, output: Any) -> None:
        nonlocal forwards
        forwards += len(inputs[0]) * (3 if torch.is_grad_enabled() else 1)

    run.model.pipeline.unet.register_forward_hook(count)
    run._step(0)
    assert forwards == cost_of(config, config.stages[0], 6).forwards_per_step


@pytest.fixture(scope="module")
def bases(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    builders: dict[str, Callable[[Path], Path]] = {
        "sd": lambda folder: base,
        "sdxl": build_sdxl,
        "sd3": build_sd3,
        "sd3-without-t5": functools.partial(build_sd3, with_t5=False),
        "flux": build_flux,
    }
    return functools.cache(lambda name: builders[name](tmp_path_factory.mktemp(name)))


@pytest.fixture(scope="module")
def parts(make_settings: Any) -> Parts:
    """Of the base model that most tests have."""
    return parts_of(make_settings(CRAFT, output="run"))


def kept_by(run: trainer.StageRun) -> int:
    """Bytes that autograd keeps of a step's loss."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            storage = tensor.untyped_storage()
            kept[storage._cdata] = storage.nbytes()
        return tensor

    (positions,) = run._positions(0)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = run.method.loss(run.inputs.batch(positions), 1).total
    total = sum(kept.values())
    del loss
    return total


@pytest.mark.parametrize(
    "changes",
    [
        {"safeguards": {"trajectory_kl": 1.0}},
        {"lambda_diff": 0.0, "kl_to_base": 1.0},
        {"gradient_steps": 3, "safeguards": {"differentiate": "random"}},
        {"gradient_steps": 2, "safeguards": {"base_steps": 1}},
    ],
)
def test_memory_knows_what_else_has_a_graph(
    settings: Any, parts: Parts, changes: dict[str, Any]
) -> None:
    config = settings({**CRAFT, **changes})
    estimated = memory_of(config, config.stages[0], 2, parts).activations * 1e9
    assert estimated == pytest.approx(kept_by(ready(config)), rel=0.05)


def test_copies_of_the_adapter_and_every_encoder_are_held(
    settings: Any, parts: Parts, evaluator: Path, images: Path, tmp_path: Path
) -> None:
    def held(stage: dict[str, Any], **changes: Any) -> Memory:
        config = settings({"steps": 1, **stage}, **changes)
        return memory_of(config, config.stages[0], 2, parts)

    pairs = {"method": "dpo", "pairs": "pairs"}
    base = held({**pairs, "reference": "base"}).optimizer
    for stage in (pairs, {"method": "nft"}):
        assert (held(stage).optimizer - base) * 1e9 == pytest.approx(parts.trained)
    watched = {"every": 1, "encoder": str(evaluator), "manifest": str(images)}
    dino = build_dinov2(tmp_path / "dino")
    weights = [
        held(CRAFT, validation=watched, guards={"memorization": guard}).weights
        for guard in ({}, {"encoder": str(dino)}, {"encoder": str(dino), "reaction": "off"})
    ]
    size = sum(one.nbytes for one in load_encoder(dino, device="cpu").model.state_dict().values())
    assert weights[2] == weights[0]
    assert (weights[1] - weights[0]) * 1e9 == pytest.approx(size)
    assert encoder_bytes(str(dino)).kept > 0  # as a critic of dd and sfs


def test_a_replayed_prefix_is_measured_with_the_steps_that_use_it(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, steps, plain = [0.0], [], trainer.StageRun._step

    def step(self: Any, number: int) -> Any:
        def count(module: Any, inputs: Any, output: Any) -> None:
            clock[0] += len(inputs[0])

        before, hook = clock[0], self.model.trunk.register_forward_hook(count)
        logs = plain(self, number)
        hook.remove()
        steps.append(clock[0] - before)
        return logs

    monkeypatch.setattr(trainer.StageRun, "_step", step)
    monkeypatch.setattr(measurement.time, "perf_counter", lambda: clock[0])
    config = settings({**CRAFT, "prefix": {"replay": 2}}, sampling={"steps": 9, "guidance": 2.0})
    examples = data.read_examples(config.data.train, config.data.domain)
    seconds = measurement.measure(config, 1, examples).seconds
    assert len(steps) == 4
    assert steps[0] == steps[3] > steps[1] == steps[2]
    assert seconds == pytest.approx(sum(steps[1:]) / 3)


@pytest.mark.parametrize("unconditional", ["full", "stop"])
@pytest.mark.parametrize("name", ["sd", "sdxl", "sd3", "sd3-without-t5", "flux"])
def test_memory_is_what_the_models_hold_and_autograd_keeps(
    settings: Any, bases: Any, name: str, unconditional: str
) -> None:
    stage = {**CRAFT, "gradient_steps": 2, "unconditional_gradient": unconditional}
    config = settings(stage, base=str(bases(name)))
    run = ready(config)
    held = kept_by(run)
    parts = parts_of(config)
    estimated = memory_of(config, config.stages[0], 2, parts)
    assert estimated.activations * 1e9 == pytest.approx(held, rel=0.1)
    modules = [x for x in run.model.pipeline.components.values() if isinstance(x, torch.nn.Module)]
    loaded = [value for x in modules for value in (*x.parameters(), *x.buffers())]
    frozen = [value for value in loaded if not value.requires_grad]
    assert parts.weights == sum(value.numel() * value.element_size() for value in frozen)
    trained = sum(parameter.numel() for parameter in run.parameters)
    assert estimated.optimizer * 1e9 == 16 * trained
    assert estimated.checkpointed < estimated.activations


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "prodigy"])
def test_memory_of_the_optimizer_is_what_it_holds(settings: Any, optimizer: str) -> None:
    config = settings({"method": "lora", "steps": 1, "optimizer": optimizer})
    run = ready(config)
    with torch.no_grad():
        for parameter in run.parameters:
            parameter.add_(0.1)  # of zeros, where B starts, Prodigy keeps no copy
    run._step(0)
    state = (one for own in run.optimizer.state.values() for one in own.values())
    kept = [one for one in state if isinstance(one, torch.Tensor) and one.ndim > 0]
    held = [*run.parameters, *(one.grad for one in run.parameters), *kept]
    estimated = memory_of(config, config.stages[0], 2, parts_of(config))
    assert estimated.optimizer * 1e9 == sum(one.nbytes for one in held if one is not None)


def test_where_loading_takes_most_it_is_the_total(settings: Any, critic: Path) -> None:
    config = settings(CRAFT)
    run_parts = parts_of(config)._replace(texts=10**9, weights=10**9 + 10**6, decoder=(0, 0))
    own = encoder_bytes(str(critic))
    estimated = memory_of(config, config.stages[0], 2, run_parts)
    assert estimated.loading * 1e9 == run_parts.weights + own.weights
    assert estimated.weights * 1e9 == pytest.approx(10**6 + own.weights - own.texts)
    assert estimated.total * 1e9 == pytest.approx(estimated.loading * 1e9 + run_parts.trained)


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


@pytest.mark.parametrize("name", ["estimate.md", "estimate.json", "doctor.md"])
def test_a_file_of_a_person_is_not_replaced(settings: Any, tmp_path: Path, name: str) -> None:
    file, own = tmp_path / "config.yaml", tmp_path / "out" / name
    file.write_text(to_yaml(settings({"method": "lora", "steps": 3})))
    own.parent.mkdir()
    own.write_text("what a person wrote")
    words = [own.stem, str(file), "--out", str(own.parent)]
    result = CliRunner().invoke(cli.app, words)
    assert isinstance(result.exception, InputError)
    assert f"holds {name}, which no earlier result" in str(result.exception)
    assert own.read_text() == "what a person wrote"
    own.unlink()
    for _ in range(2):  # its own files are replaced
        assert CliRunner().invoke(cli.app, words).exit_code == 0
