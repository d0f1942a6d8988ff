"""The cheaper prefix and the safeguards of CRAFT: what each computes, and what it costs."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from tests.craft_trainer.methods.test_craft import CRAFT, step_of
from tests.craft_trainer.training.test_trainer import ready
from tests.support.forwards import counted
from torch.nn import functional as F

from cas_metric.errors import InputError
from craft_trainer.cost.estimate import cost_of
from craft_trainer.data.dataset import positions_of
from craft_trainer.methods import trajectories
from craft_trainer.methods.craft_settings import Safeguards
from craft_trainer.methods.trajectories import Replay, chosen_steps
from craft_trainer.rewards.safeguards import cropped, other_references

STAGE = {**CRAFT, "reward_gradients_every": 0}
SIZES = {"batch_size": 2, "accumulate": 3, "world": 2}
PREFIXES: list[dict[str, Any]] = [
    {"prefix": {"solver": "dpmpp_2m", "steps": 1}},
    {"prefix": {"solver": "dpmpp_2m_sde", "steps": 2}},
    {"prefix": {"unguided": 0.5}},
    {"prefix": {"own_steps": 2}, "repeat_mode": "renoise", "repeats": 3},
]


@pytest.mark.parametrize("changes", PREFIXES)
def test_forwards_of_a_prefix_are_those_of_a_real_step(settings: Any, changes: Any) -> None:
    config = settings({**STAGE, **changes}, sampling={"steps": 4, "guidance": 2.0})
    expected = cost_of(config, config.stages[0], 6).forwards_per_step
    assert counted(ready(config)) == expected


def test_a_trajectory_of_its_own_is_that_of_such_a_sampling(settings: Any) -> None:
    drawn, own = {"steps": 6, "guidance": 1.0}, {"steps": 3, "guidance": 2.0}
    given = settings({**STAGE, "trajectory": own}, sampling=drawn)
    plain = settings(STAGE, sampling=own)
    assert cost_of(given, given.stages[0], 6)[:5] == cost_of(plain, plain.stages[0], 6)[:5]
    assert counted(ready(given)) == counted(ready(plain))
    (logs, gradients), (expected, plainly) = step_of(given), step_of(plain)
    assert logs == expected
    assert all(map(torch.equal, gradients, plainly))
    assert given.sampling.steps == 6  # by which images are drawn
    assert step_of(settings(STAGE, sampling=drawn))[0]["reward/r_cam"] != logs["reward/r_cam"]


def test_a_solver_of_more_steps_than_there_are_timesteps_draws_no_nan(settings: Any) -> None:
    run = ready(settings({**STAGE, "prefix": {"solver": "dpmpp_2m", "steps": 1000}}))
    with pytest.raises(InputError, match=r"prefix\.steps 1000 is more than the"):
        run._step(0)


def test_a_replayed_prefix_costs_its_tail_alone_and_survives_a_resume(settings: Any) -> None:
    stage = {**STAGE, "steps": 4, "lambda_diff": 0.0, "prefix": {"replay": 1, "replay_age": 4}}
    config = settings(stage)
    run, again = ready(config), ready(config)
    calls: list[int] = []
    run.model.trunk.register_forward_hook(lambda *_: calls.append(1))
    counts = []
    for step in range(3):
        calls.clear()
        run._step(step)
        counts.append(len(calls))
    assert counts[1] == 2 < counts[0] == counts[2]
    again.method.restore(run.method.state())
    ours, theirs = (one.method.trajectories.replay.pick(3) for one in (run, again))
    assert torch.equal(ours.latents, theirs.latents)
    assert ours.rows == theirs.rows


def test_each_pass_of_a_step_has_a_prefix_of_its_own(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = {"replay": 1, "replay_age": 8}
    config = settings({**STAGE, "steps": 4, "accumulate": 2, "prefix": prefix})
    run, again = ready(config), ready(config)
    used: list[int] = []
    pick = Replay.pick

    def noted(replay: Replay, turn: int) -> Any:
        used.append(turn)
        return pick(replay, turn)

    monkeypatch.setattr(Replay, "pick", noted)
    for step in range(3):
        run._step(step)
        assert len(run.method.trajectories.replay.buffer) == step + 1  # the other pass reuses one
    assert used == [1, 3, 5]
    again.method.restore(run.method.state())
    for name, parameter in run.model.trainable.items():
        again.model.trainable[name].data.copy_(parameter.data)
    assert run._step(3) == again._step(3)
    replay = run.method.trajectories.replay
    chosen = {int(replay.pick(turn).latents.data_ptr()) for turn in range(6, 12)}
    assert len(chosen) > 1


def test_a_pass_has_one_number_on_every_process(settings: Any) -> None:
    inputs = ready(settings(STAGE)).inputs
    inputs.world = 2
    numbers = [
        [inputs.batch(some).turn for some in positions_of(5, rank=rank, **SIZES)] for rank in (0, 1)
    ]
    assert numbers == [[15, 16, 17]] * 2


def test_each_pass_of_a_step_chooses_its_own_steps(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = {**STAGE, "steps": 4, "accumulate": 8, "safeguards": {"differentiate": "random"}}
    run = ready(settings(stage))
    chosen: list[tuple[int, ...]] = []

    def noted(*arguments: Any) -> tuple[int, ...]:
        chosen.append(chosen_steps(*arguments))
        return chosen[-1]

    monkeypatch.setattr(trajectories, "chosen_steps", noted)
    run._step(0)
    assert len(chosen) == 8
    assert len(set(chosen)) > 1


def test_empty_sections_are_the_papers_step(settings: Any) -> None:
    _, plain = step_of(settings(STAGE))
    _, off = step_of(settings({**STAGE, "prefix": {}, "safeguards": {}}))
    for one, other in zip(plain, off, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    "switch",
    [
        {"sfs_against": "class_mean"},
        {"ccs_contrast": True},
        {"trajectory_kl": 0.5},
        {"differentiate": "random"},
        {"differentiate": "spread"},
        {"base_steps": 1},
        {"clip_at_real": True},
        {"augment": 0.2},
        {"grey": True},
        {"balance": True},
    ],
)
def test_each_switch_changes_the_gradient(settings: Any, switch: dict[str, Any]) -> None:
    _, plain = step_of(settings({**STAGE, "micro_batch": 2}))
    _, other = step_of(settings({**STAGE, "micro_batch": 2, "safeguards": switch}))
    ours, theirs = (torch.cat([one.flatten() for one in side]) for side in (other, plain))
    assert ours.isfinite().all()
    assert ours.abs().max() > 0
    assert not torch.allclose(ours, theirs, rtol=1e-3)


def test_other_references_are_never_the_own_image() -> None:
    own = F.normalize(torch.randn(5, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    labels = ["a", "b", "a", "a", "c"]
    other = other_references(own, labels, "other")
    for row in (0, 2, 3):
        assert any(torch.allclose(other[row], own[one]) for one in {0, 2, 3} - {row})
    mean = other_references(own, labels, "class_mean")
    torch.testing.assert_close(mean[0], F.normalize(own[2] + own[3], dim=0))
    torch.testing.assert_close(mean[4], own[4])  # alone in its class


def test_crops_keep_the_size_and_let_gradients_through() -> None:
    images = torch.rand(2, 3, 16, 16, requires_grad=True)
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    found = cropped(images, 0.5, generators)
    assert found.shape == images.shape
    found.sum().backward()
    assert images.grad is not None


def test_no_reward_pulls_at_colours_that_the_critic_does_not_see(settings: Any) -> None:
    pulls = []
    for switch in ({}, {"grey": True, "augment": 0.2}):
        run = ready(settings({**STAGE, "safeguards": switch}))
        judge = run.method.judge
        images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        images.requires_grad_()
        targets = [one.at(range(2)) for one in run.method.targets]
        generators = [torch.Generator().manual_seed(seed) for seed in range(2)]
        judge._rewards(images, targets, generators).r_cam.sum().backward()
        assert images.grad is not None
        pulls.append((images.grad - images.grad.mean(dim=1, keepdim=True)).abs().max().item())
    assert pulls[0] > 1e-6
    assert pulls[1] < 1e-3 * pulls[0]


def test_chosen_steps_are_those_that_are_named() -> None:
    rng = np.random.default_rng(0)
    assert chosen_steps("last", 2, 20, rng) == (18, 19)
    assert len(set(chosen_steps("random", 3, 20, rng))) == 3
    spread = chosen_steps("spread", 4, 20, rng)
    assert all(late - early == 5 for early, late in itertools.pairwise(spread))


def test_settings_that_contradict_each_other_are_refused(settings: Any) -> None:
    for changes in (
        {"safeguards": {"base_steps": 2}},
        {"safeguards": {"critics": ["phantom-siglip", "phantom-siglip"]}},
        {"safeguards": {"differentiate": "random"}, "prefix": {"unguided": 0.5}},
        {"prefix": {"solver": "dpmpp_2m"}, "repeat_mode": "renoise"},
        {"trajectory": {"steps": 1000}},
        {"trajectory": {"steps": 1}, "gradient_steps": 2},
        {"trajectory": {"guidance": 2}, "lambda_cam": 0},
    ):
        with pytest.raises(InputError):
            settings({**STAGE, **changes})
    assert not Safeguards().whole_trajectory


@pytest.mark.parametrize("size", [None, 2])
def test_balanced_rewards_have_the_value_of_the_plain_ones(settings: Any, size: int | None) -> None:
    # Clipped rewards have no gradient: divided by its norm, they were 1e12 times themselves.
    stage = {**STAGE, "micro_batch": size}
    plain, _ = step_of(settings({**stage, "safeguards": {"clip_at_real": True}}))
    both = {"clip_at_real": True, "balance": True}
    balanced, _ = step_of(settings({**stage, "safeguards": both}))
    assert balanced["reward/r_cam"] == pytest.approx(plain["reward/r_cam"], rel=1e-5)
