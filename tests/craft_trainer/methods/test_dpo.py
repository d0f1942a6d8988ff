"""Diffusion-DPO against a written-out loss, its known limits, and the table that it reads."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from tests.support.preferences import write_pairs_of

from cas_metric.errors import InputError, PreflightError
from craft_trainer.data import dataset as data
from craft_trainer.data.pairs import TABLE, read_pairs
from craft_trainer.methods.dpo import Dpo, dpo_loss
from craft_trainer.preference import pairs


def ready(settings: Any, folder: Path, **stage: Any) -> Any:
    from tests.craft_trainer.training.test_trainer import ready as set_up

    own = {"method": "dpo", "steps": 1, "pairs": str(folder), "beta": 40.0, **stage}
    run = set_up(settings(own))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():  # B of LoRA starts at zero, and model and reference would be equal
        for parameter in run.model.trainable.values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return run


@pytest.fixture(scope="module")
def folder(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs_of(images, tmp_path_factory.mktemp("dpo") / "pairs")


@pytest.mark.parametrize("reference", ["start", "base"])
def test_loss_equals_the_one_written_out(settings: Any, folder: Path, reference: str) -> None:
    run = ready(settings, folder, reference=reference)
    batch = run.inputs.batch(run._positions(0)[0])
    unet, scheduler = run.model.pipeline.unet, run.model.pipeline.scheduler
    latents = {}
    for side, purpose, moments in (
        ("w", "latent", batch.moments),
        ("l", "rejected", batch.rejected),
    ):
        mean, log_variance = moments.chunk(2, dim=1)
        drawn = [torch.randn(1, *mean.shape[1:], generator=g) for g in batch.generators(purpose)]
        latents[side] = (mean + (log_variance / 2).exp() * torch.cat(drawn)) * 0.18215
    noise = torch.cat(
        [torch.randn(1, *mean.shape[1:], generator=g) for g in batch.generators("noise")]
    )
    times = torch.cat(
        [torch.randint(1000, (1,), generator=g) for g in batch.generators("timestep")]
    )

    def error(side: str) -> torch.Tensor:
        alpha = scheduler.alphas_cumprod[times].reshape(-1, 1, 1, 1)
        noisy = alpha.sqrt() * latents[side] + (1 - alpha).sqrt() * noise
        texts = batch.conditions.embeddings
        predicted = unet(noisy, times, texts, return_dict=False)[0]
        return ((noise - predicted) ** 2).mean(dim=(1, 2, 3))

    model = {side: error(side) for side in "wl"}
    unet.disable_adapters()  # here the reference starts without effect in either case
    with torch.no_grad():
        plain = {side: error(side) for side in "wl"}
    unet.enable_adapters()
    inside = (model["w"] - plain["w"]) - (model["l"] - plain["l"])
    expected = -torch.log(1 / (1 + torch.exp(0.5 * 40.0 * inside))).mean()
    got = run.method.loss(batch, 0)
    torch.testing.assert_close(got.total, expected, atol=1e-5, rtol=1e-4)
    parameters = list(run.model.trainable.values())
    ours = torch.autograd.grad(got.total, parameters)
    theirs = torch.autograd.grad(expected, parameters)
    for left, right in zip(ours, theirs, strict=True):
        torch.testing.assert_close(left, right, atol=1e-5, rtol=1e-3)
    assert float(torch.cat([one.flatten() for one in ours]).norm()) > 1e-6


def test_without_a_preference_the_loss_is_log_two() -> None:
    assert float(dpo_loss(torch.zeros(3), 5000.0)) == pytest.approx(math.log(2))


def test_a_pair_of_equal_images_teaches_nothing(settings: Any, folder: Path) -> None:
    run = ready(settings, folder)
    batch = run.inputs.batch(run._positions(0)[0])
    same = torch.cat([batch.moments[:, :4], torch.full_like(batch.moments[:, 4:], -60.0)], dim=1)
    equal = data.Batch(
        batch.rows, batch.positions, 1, same, batch.prompts, batch.conditions, same.clone()
    )
    loss = run.method.loss(equal, 0).total
    assert loss.item() == pytest.approx(math.log(2), abs=1e-4)
    gradients = torch.autograd.grad(loss, list(run.model.trainable.values()))
    assert max(float(one.abs().max()) for one in gradients) < 1e-4


def test_gradient_lowers_the_error_of_the_chosen_and_raises_that_of_the_rejected() -> None:
    chosen, rejected = torch.tensor([0.3], requires_grad=True), torch.tensor([0.2])
    rejected.requires_grad_(True)
    dpo_loss(chosen - rejected, 10.0).backward()
    assert chosen.grad is not None
    assert rejected.grad is not None
    assert float(chosen.grad) > 0 > float(rejected.grad)
    slope = 0.5 * 10.0 * torch.sigmoid(torch.tensor(0.5 * 10.0 * 0.1))
    torch.testing.assert_close(chosen.grad[0], slope)


def test_steps_on_one_batch_learn_the_preference(settings: Any, folder: Path) -> None:
    run = ready(settings, folder, learning_rate=2e-3)
    losses = [run._step(0) for _ in range(25)]
    assert losses[-1]["loss/dpo"] < 0.9 * losses[0]["loss/dpo"]
    assert losses[-1]["dpo/accuracy"] == 1.0


def test_the_reference_does_not_move_with_the_model(settings: Any, folder: Path) -> None:
    run = ready(settings, folder)
    assert isinstance(run.method, Dpo)
    assert run.method.reference is not None
    before = {name: value.clone() for name, value in run.method.reference.items()}
    run._step(0)
    assert all(torch.equal(before[name], run.method.reference[name]) for name in before)
    assert any(not torch.equal(before[n], p) for n, p in run.model.trainable.items())


def test_tables_that_cannot_be_used_are_named(images: Path, tmp_path: Path) -> None:
    examples = data.read_examples(images, None)
    folder = write_pairs_of(images, tmp_path / "pairs")
    table = pd.read_csv(folder / TABLE)
    chosen, rejected = read_pairs(folder, examples)
    assert len(chosen) == len(rejected) == 6
    assert chosen.paths != rejected.paths
    assert chosen.prompts == examples.prompts
    table.assign(rejected=["../secret.png", "none.png", *table["rejected"][2:]]).to_csv(
        folder / TABLE
    )
    with pytest.raises(PreflightError) as caught:
        read_pairs(folder, examples)
    assert "secret.png" in str(caught.value)
    assert "none.png: does not exist" in str(caught.value)
    table.drop(columns="rejected").to_csv(folder / TABLE)
    with pytest.raises(InputError, match="lacks the columns rejected"):
        read_pairs(folder / TABLE, examples)


def test_a_prompt_that_comes_again_gets_new_samples() -> None:
    planned = pairs.plan(10, 4, seed=1)
    assert sorted(pair.row for pair in planned[:4]) == [0, 1, 2, 3]
    assert [pair.row for pair in planned[:4]] == [pair.row for pair in planned[4:8]]
    assert len({name for pair in planned for name in pair.images}) == 20
