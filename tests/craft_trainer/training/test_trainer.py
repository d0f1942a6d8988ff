"""The loop: exact resume after a kill, clipping, gradients where they belong, atomic files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from tests.support.tiny_diffusion import build_stable_diffusion
from tests.support.warm import Warm

from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.errors import InputError
from craft_trainer.config.schema import Config, to_yaml
from craft_trainer.data import dataset as data
from craft_trainer.runtime import checkpoints
from craft_trainer.training import trainer

CRAFT = {"method": "craft", "steps": 4, "checkpoint_every": 1, "reward_gradients_every": 1}
LORA = {"method": "lora", "steps": 4, "checkpoint_every": 2}
INVERSION = {"method": "textual_inversion", "steps": 2}


def ready(config: Config) -> trainer.StageRun:
    """The first stage of a configuration, set up and not yet trained."""
    stage = config.stages[0]
    run = trainer.StageRun(
        config,
        stage,
        config.output / f"1-{stage.method}",
        None,
        data.read_examples(config.data.train, config.data.domain),
        Accelerator(),
        trainer.identity_of(config, 1),
    )
    with EmbeddingCache("none") as cache:
        run.setup(cache, trainer.silent)
    run.last_good = "the start"
    return run


def weights(artifact: Path) -> dict[str, torch.Tensor]:
    return load_file(artifact / "pytorch_lora_weights.safetensors")


def test_a_killed_run_ends_with_the_same_bits(settings: Any, warm: Warm, tmp_path: Path) -> None:
    whole = trainer.train_stages(settings(CRAFT, output=str(tmp_path / "whole")), cache="none")
    config = settings({**CRAFT, "checkpoint_every": 2}, output=str(tmp_path / "killed"))
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(config))
    warm.killed(file, 3)
    kept = checkpoints.checkpoints(tmp_path / "killed" / "1-craft" / "checkpoints")
    assert [path.name for path in kept] == ["step-0000002.safetensors"]
    resumed = trainer.train_stages(config, cache="none")
    ours, theirs = weights(resumed), weights(whole)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_first_step_reaches_every_trainable_tensor_and_nothing_else(settings: Any) -> None:
    run = ready(settings(CRAFT))
    with torch.no_grad():  # B of LoRA starts at zero, and then A has no gradient yet
        for name, parameter in run.model.trainable.items():
            if "lora_B" in name:
                parameter.add_(0.1)
    before = {name: p.detach().clone() for name, p in run.model.pipeline.unet.named_parameters()}
    run._step(0)
    for name, parameter in run.model.trainable.items():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
    for name, parameter in run.model.pipeline.unet.named_parameters():
        trained = f"unet.{name}" in run.model.trainable
        assert torch.equal(parameter, before[name]) != trained, name
    frozen = [*run.model.pipeline.vae.parameters(), *run.method.cam.critic.model.parameters()]
    assert all(parameter.grad is None for parameter in frozen)


def test_clipping_clips_what_the_optimizer_sees(settings: Any) -> None:
    run = ready(settings({**LORA, "max_grad_norm": 1e-3}))
    logs = run._step(0)
    norm = torch.stack([p.grad.norm() for p in run.parameters if p.grad is not None]).norm()
    assert logs["gradient/norm"] > 1e-2
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)


def test_accumulation_equals_a_larger_batch(settings: Any) -> None:
    gradients = []
    for shape in ({"batch_size": 4}, {"batch_size": 2, "accumulate": 2}):
        run = ready(settings({**CRAFT, "max_grad_norm": 1e9, **shape}))
        run._step(0)
        gradients.append([p.grad for p in run.parameters if p.grad is not None])
    for left, right in zip(*gradients, strict=True):
        torch.testing.assert_close(left, right, atol=1e-5, rtol=1e-4)


def test_two_processes_see_what_one_with_twice_the_batch_sees() -> None:
    one = data.positions_of(7, batch_size=4, accumulate=3)
    two = [data.positions_of(7, batch_size=2, accumulate=3, rank=r, world=2) for r in range(2)]
    assert one == [left + right for left, right in zip(*two, strict=True)]


def test_every_epoch_holds_every_example_once_in_another_order() -> None:
    rows = [data.row_at(position, 50, seed=1) for position in range(150)]
    epochs = [rows[start : start + 50] for start in (0, 50, 100)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert rows != [data.row_at(position, 50, seed=2) for position in range(150)]


def test_rewards_and_their_gradients_are_logged_per_dimension(settings: Any) -> None:
    logs = ready(settings(CRAFT))._step(0)
    for name in ("vdc", "ccs", "dd", "sfs"):
        assert math.isfinite(logs[f"reward/{name}"])
        assert logs[f"reward_gradient/norm_{name}"] > 0
    assert -1 <= logs["reward_gradient/cosine_vdc_sfs"] <= 1
    mean = sum(logs[f"reward/{name}"] for name in ("vdc", "ccs", "dd", "sfs")) / 4
    assert logs["reward/r_cam"] == pytest.approx(mean, rel=1e-5)
    expected = 0.2 * logs["loss/diffusion"] - 0.8 * logs["reward/r_cam"]
    assert logs["loss/total"] == pytest.approx(expected, rel=1e-5)


def test_a_reward_can_be_switched_off(settings: Any) -> None:
    logs = ready(settings({**CRAFT, "rewards": {"dd": 0}}))._step(0)
    assert "reward/dd" not in logs
    expected = 0.25 * (logs["reward/vdc"] + logs["reward/ccs"] + logs["reward/sfs"])
    assert logs["reward/r_cam"] == pytest.approx(expected, rel=1e-5)


def test_stages_are_chained_and_finished_ones_are_kept(settings: Any, images: Path) -> None:
    stages = (
        INVERSION,
        {**LORA, "prompt": "{token}. {prompt}"},
        {**CRAFT, "steps": 1, "prompt": "{token}. {prompt}"},
    )
    config = settings(*stages, validation={"every": 1, "images": 2})
    last = trainer.train_stages(config, cache="none")
    assert sorted(path.name for path in (last / "learned_embeds").iterdir()) == [
        "cardiomegaly.safetensors",
        "pleural-effusion.safetensors",
    ]
    assert (last.parent / "samples" / "step-0000001.png").is_file()
    first = last.parent.parent / "1-textual_inversion" / "artifact" / "stage.json"
    changed = first.stat().st_mtime_ns
    assert trainer.train_stages(config, cache="none") == last
    assert first.stat().st_mtime_ns == changed
    other = settings({**INVERSION, "learning_rate": 0.5}, *stages[1:])
    with pytest.raises(InputError, match=r"stages\.0\.learning_rate: 0\.01 then, 0\.5 now"):
        trainer.train_stages(other, cache="none")


def test_more_steps_of_lora_lower_the_loss_on_what_was_learned(settings: Any) -> None:
    run = ready(settings({**LORA, "steps": 40, "learning_rate": 2e-2}))
    losses = [run._step(0)["loss/diffusion"] for _ in range(40)]  # one batch, one noise
    assert losses[-1] < 0.98 * losses[0]


def test_a_run_starts_from_the_artefact_of_another(settings: Any, tmp_path: Path) -> None:
    chained = trainer.train_stages(
        settings(INVERSION, LORA, output=str(tmp_path / "one")), cache="none"
    )
    first = trainer.train_stages(settings(INVERSION, output=str(tmp_path / "two")), cache="none")
    started = settings(LORA, output=str(tmp_path / "three"), start=str(first))
    second = trainer.train_stages(started, cache="none")
    ours, theirs = weights(second), weights(chained)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    tokens = sorted(path.name for path in (second / "learned_embeds").iterdir())
    assert tokens == sorted(path.name for path in (chained / "learned_embeds").iterdir())
    with pytest.raises(InputError, match="artifact"):
        trainer.train_stages(settings(LORA, start=str(tmp_path / "nowhere")), cache="none")


def test_another_base_model_is_no_place_to_start_from(
    settings: Any, base: Path, tmp_path: Path
) -> None:
    first = trainer.train_stages(settings(INVERSION, output=str(tmp_path / "one")), cache="none")
    other = build_stable_diffusion(tmp_path / "other", sample_size=8, seed=7)
    with pytest.raises(InputError, match="trained on another base model") as caught:
        trainer.train_stages(settings(LORA, start=str(first), base=str(other)), cache="none")
    assert str(first) in caught.value.problem


def test_a_run_goes_on_with_as_many_processes_as_it_was_begun_with(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings({**LORA, "checkpoint_every": 1})
    run = ready(config)
    run._checkpoint(1)
    assert run._resume() == 1
    monkeypatch.setattr(Accelerator, "num_processes", 3)
    with pytest.raises(InputError, match="made by 1 process, and this run has 3") as caught:
        run._resume()
    assert "launch 1, or choose another `output`" in caught.value.fix
