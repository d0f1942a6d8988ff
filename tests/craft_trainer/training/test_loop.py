"""The loop's switches: zero-shot, compile, scale, KL, prompts of one's own, trackers."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.craft_trainer.training.test_trainer import CRAFT, LORA, ready

from cas_metric.errors import InputError
from craft_trainer.artifact.folder import load_base, load_trained
from craft_trainer.artifact.identity import stage_of
from craft_trainer.bases import lora as adapters
from craft_trainer.inference import sample_images
from craft_trainer.methods.craft import CraftStage
from craft_trainer.training import trainer

LORA_FILE = "pytorch_lora_weights.safetensors"


def disturb(model: Any) -> None:
    with torch.no_grad():
        for parameter in model.trainable.values():
            parameter.add_(0.2)


def test_zero_shot_is_an_artefact_that_draws_the_base_model(settings: Any) -> None:
    config = settings({"method": "zero_shot"})
    artifact = trainer.train_stages(config, cache="none")
    assert not list(artifact.rglob("*.safetensors"))
    assert stage_of(artifact, config).method == "zero_shot"
    device = torch.device("cpu")
    drawn, base = (
        sample_images(model, ["chest"], [1], config.sampling, 16)
        for model in (
            load_trained(artifact, config, device),
            load_base(config, device),
        )
    )
    assert torch.equal(drawn, base)
    with pytest.raises(InputError, match="stands alone"):
        settings({"method": "zero_shot"}, LORA)


def test_compiling_changes_no_name_and_no_file(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[torch.nn.Module] = []
    plain = torch.nn.Module.compile

    def eager(module: torch.nn.Module) -> None:  # all of torch.compile but the code generator
        compiled.append(module)
        plain(module, backend="eager")

    monkeypatch.setattr(torch.nn.Module, "compile", eager)
    stage = {**LORA, "steps": 1}
    artifacts = [
        trainer.train_stages(
            settings(stage, output=str(tmp_path / str(on)), compile=on), cache="none"
        )
        for on in (False, True)
    ]
    assert len(compiled) == 1
    ours, theirs = (load_file(path / LORA_FILE) for path in artifacts)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], atol=1e-5, rtol=0)


def test_what_is_compiled_can_keep_its_graph(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda it: plain(it, backend="aot_eager"))
    # As at import: another test may have compiled before.
    monkeypatch.setattr(torch._functorch.config, "donated_buffer", True)
    model = load_base(settings(LORA, compile=True), torch.device("cpu"))
    conditions = model.encode_prompts(["a chest film"])
    latents = torch.randn(1, 4, 8, 8).requires_grad_()
    for kept in (False, True):  # the first backward is compiled for a graph that is let go
        told = model.denoise(latents, torch.tensor(1.0), conditions)
        torch.autograd.grad(told.sum(), latents, retain_graph=kept)


def test_scale_goes_from_the_base_model_to_the_trained_one(settings: Any) -> None:
    run = ready(settings(LORA))
    disturb(run.model)
    draw = functools.partial(sample_images, run.model, ["chest"], [1], run.config.sampling, 16)
    full = draw()
    with adapters.base_only(run.model):
        base = draw()
    adapters.scale_lora(run.model, 0.5)
    half = draw()
    adapters.scale_lora(run.model, 0.0)
    assert torch.equal(draw(), base)
    adapters.scale_lora(run.model, 1.0)
    assert torch.equal(draw(), full)
    assert float((full - base).abs().max()) > 1e-3
    assert not torch.equal(half, full)
    assert not torch.equal(half, base)


@pytest.mark.parametrize("stage", [LORA, {**CRAFT, "lambda_cam": 0.0}])
def test_distance_to_the_base_is_that_of_two_forwards(settings: Any, stage: Any) -> None:
    run = ready(settings({**stage, "kl_to_base": 3.0}))
    batch = run.inputs.batch(run._positions(0)[0])
    assert float(run.method.loss(batch, 0).logs["loss/kl_to_base"]) == 0.0
    disturb(run.model)
    seen: list[torch.Tensor] = []
    run.model.trunk.register_forward_hook(lambda *_: seen.append(_[2][0].detach()))
    loss = run.method.loss(batch, 0)
    base, adapted = seen
    expected = (adapted - base).square().mean()
    torch.testing.assert_close(loss.logs["loss/kl_to_base"], expected)
    weight = stage.get("lambda_diff", 0.2) if stage["method"] == "craft" else 1.0
    torch.testing.assert_close(
        loss.total.detach(), weight * loss.logs["loss/diffusion"] + 3.0 * expected
    )
    assert all(p.requires_grad for p in run.parameters)


def test_craft_trains_without_enriched_prompts(settings: Any) -> None:
    stage = {**CRAFT, "prompt": "a radiograph of {label}", "rewards": {"vdc": 0.0}}
    run = ready(settings(stage))
    assert isinstance(run.stage, CraftStage)
    assert set(run.texts) == {"a radiograph of Cardiomegaly", "a radiograph of Pleural Effusion"}
    assert run._step(0)["reward/ccs"]


def test_curves_go_to_the_tracker_and_an_unknown_one_is_named(settings: Any) -> None:
    config = settings({**LORA, "steps": 1}, tracker="tensorboard")
    trainer.train_stages(config, cache="none")
    assert list(config.output.rglob("events.out.tfevents*"))
    with pytest.raises(InputError, match="tracker 'no-such'"):
        trainer.train_stages(settings(LORA, tracker="no-such"), cache="none")
