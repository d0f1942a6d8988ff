"""DiffusionNFT: its loss against the definition, what it learns, and what it leaves alone."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from PIL import Image
from tests.craft_trainer.guards.test_heldout import journal
from tests.craft_trainer.training.test_trainer import ready
from tests.support.forwards import counted

from craft_trainer.artifact.curves import draw_curves
from craft_trainer.artifact.model_card import plain
from craft_trainer.bases.lora import with_weights
from craft_trainer.cost.estimate import cost_of
from craft_trainer.methods.nft import NftStage, relative
from craft_trainer.rewards.scores import Score
from craft_trainer.training import trainer

NFT = {"method": "nft", "steps": 1, "batch_size": 2, "group": 2, "draws": 2, "max_grad_norm": 1e9}


def scored(run: Any, score: Any) -> Any:
    """The method with a score of the test's own."""
    run.method.__dict__["score"] = Score(score)
    return run.method


def test_scores_are_relative_to_their_prompt() -> None:
    found = relative(torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0, 0.0]), group=3)
    # The mean of the first prompt is 1/3, and the deviation of all six 1/3: 2 and -1 of them, of 5.
    torch.testing.assert_close(found, torch.tensor([0.7, 0.5, 0.4, 0.5, 0.4, 0.5]))
    assert relative(torch.tensor([1.0] + [0.0] * 99), 100)[0] == 1.0  # ten deviations
    assert torch.equal(relative(torch.ones(6), 3), torch.full((6,), 0.5))
    # Two prompts that always score alike: their own mean says nothing, that of the batch does.
    alike = torch.tensor([1.0, 0.0, 1.0, 0.0])
    assert torch.equal(relative(alike, 2), torch.full((4,), 0.5))
    torch.testing.assert_close(relative(alike, None), 0.4 + 0.2 * alike)


@pytest.mark.parametrize("group", [2, None])
def test_scores_on_two_processes_are_relative_to_those_of_both(group: int | None) -> None:
    whole = torch.rand(
        2, 6, generator=torch.Generator().manual_seed(0)
    )  # six prompts in two images
    halves = whole[:, :3].flatten(), whole[:, 3:].flatten()
    said: list[list[torch.Tensor]] = []
    for half in halves:  # what each tells the other
        said.append([])
        relative(half, group, lambda value: (said[-1].append(value), value)[1])
    if group is None:  # deviations are from the mean of both, which is told first
        mean = (said[0][0] + said[1][0]) / 2
        said = [[mean, (half - mean).square().mean()] for half in halves]
    means = [sum(values) / 2 for values in zip(*said, strict=True)]
    for number, half in enumerate(halves):
        answers = iter(means)
        found = relative(half, group, lambda value, answers=answers: next(answers))
        own = relative(whole.flatten(), group).reshape(2, 6)[:, 3 * number :][:, :3]
        torch.testing.assert_close(found, own.flatten())


def test_the_loss_is_that_of_the_definition(settings: Any) -> None:
    run = ready(settings({**NFT, "beta": 0.7}))
    method = scored(run, lambda images, rows: images.mean(dim=(1, 2, 3)))
    with torch.no_grad():
        for parameter in run.parameters:
            parameter.add_(0.1)
    (positions,) = run._positions(0)
    batch = run.inputs.batch(positions)
    loss = method.loss(batch, 0).total
    conditions = batch.conditions.repeat(2)
    with with_weights(run.model, method.old):
        latents = method._drawn(batch, conditions)
        share = relative(run.model.decode(latents).mean(dim=(1, 2, 3)), 2).repeat(2)
    clean, every = latents.repeat(2, 1, 1, 1), conditions.repeat(2)
    noisy = method._noisy(batch, clean)
    with with_weights(run.model, method.old):
        old = run.model.denoise(noisy.noisy, noisy.timesteps, every)
    new = run.model.denoise(noisy.noisy, noisy.timesteps, every).detach()
    kept = method.forward.scheduler.alphas_cumprod[noisy.timesteps][:, None, None, None]
    total = torch.zeros(())
    for sign, weight in ((1, share), (-1, 1 - share)):
        noise = (1 - sign * 0.7) * old + sign * 0.7 * new
        error = (noisy.noisy - (1 - kept).sqrt() * noise) / kept.sqrt() - clean
        square, size = (error**2).mean(dim=(1, 2, 3)), error.abs().mean(dim=(1, 2, 3))
        total = total + (weight * square / size).mean()
    torch.testing.assert_close(loss, total * 5 / 0.7)


def test_what_scores_well_becomes_likelier_and_nothing_else_gets_a_gradient(settings: Any) -> None:
    run = ready(settings({**NFT, "steps": 12, "learning_rate": 3e-3, "group": 6, "batch_size": 1}))
    scored(run, lambda images, rows: images.mean(dim=(1, 2, 3)))
    logs = [run._step(step)["reward/score"] for step in range(12)]
    assert sum(logs[-4:]) > sum(logs[:4])
    for part in run.model.pipeline.components.values():
        if isinstance(part, torch.nn.Module) and part is not run.model.trunk:
            assert all(parameter.grad is None for parameter in part.parameters())


def test_the_older_copy_follows_closely_and_then_lags(settings: Any) -> None:
    run = ready(settings(NFT))
    method = run.method
    for step, kept in ((0, 0.0), (100, 0.1), (499, 0.499), (900, 0.5)):
        before = {name: value.clone() for name, value in method.old.items()}
        with torch.no_grad():
            for parameter in run.parameters:
                parameter.add_(0.1)
        method.after_step(step)
        for name, value in run.model.trainable.items():
            expected = kept * before[name] + (1 - kept) * value.detach()
            torch.testing.assert_close(method.old[name], expected)


@pytest.mark.parametrize("prefix", [None, {"solver": "dpmpp_2m", "steps": 2}])
def test_forwards_are_those_of_a_real_step(settings: Any, prefix: Any) -> None:
    config = settings({**NFT, "prefix": prefix, "guidance": 2.0, "kl_to_base": 0.1})
    expected = cost_of(config, config.stages[0], 6).forwards_per_step
    assert counted(ready(config)) == expected


def test_guards_card_and_curves_know_the_score(watched: Any) -> None:
    """A fall of held-out CAS is a sign only where what is rewarded is known to rise."""
    config = watched({**NFT, "score": "cas"})
    artifact = trainer.train_stages(config, cache="none")
    (row,) = journal(artifact.parent, "metrics.jsonl")
    assert [look["reward"] for look in journal(artifact.parent)] == [None, row["reward/score"]]
    assert (
        f"| critic (gives the rewards) | {plain(config.critic.encoder)} |"
        in (artifact / "README.md").read_text()
    )
    own = NftStage(**{**NFT, "score": "of another package"})
    assert own.judged_by(config) == "the score of another package"
    drawn = Image.open(io.BytesIO(draw_curves([row], [], None, None)))
    assert drawn.width == pytest.approx(2 * 3.4 * 160, abs=2)  # the loss, and the score
