"""Detectors of reward hacking on synthetic curves: what they must see, and what they must not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from craft_trainer.config.validation import Guards
from craft_trainer.guards.reward_hacking import DRIFTS, Look, examine
from craft_trainer.guards.statistics import grid_peak, high_frequencies
from craft_trainer.runtime.journal import Journal

USUAL = {
    "diversity": 0.3, "edge_density": 0.05, "saturation": 0.2, "entropy": 4.0, "noise": 0.05,
    "grid": 1.0, "copies": 0.0,
}  # fmt: skip
PROMPTS = 24


def look(step: int, cas: float = 0.4, reward: float | None = 0.0, **statistics: float) -> Look:
    rng = np.random.default_rng(step)
    values = tuple(cas + 0.02 * rng.standard_normal(PROMPTS))
    scores = dict.fromkeys(("vdc", "ccs", "sfs", "cas", "dd_prob"), values)
    return Look(step, {**scores, "dd": (0.5,) * PROMPTS}, {**USUAL, **statistics}, reward)


REAL = look(0, cas=0.9)


def found(looks: list[Look], real: Look = REAL, **guards: Any) -> dict[str, str]:
    return {one.guard: one.reaction for one in examine(looks, real, Guards.model_validate(guards))}


def test_a_healthy_run_raises_nothing() -> None:
    looks = [look(10 * n, cas=0.4 + 0.02 * n, reward=-1 + 0.1 * n) for n in range(8)]
    assert all(not found(looks[: n + 1]) for n in range(8))


def test_held_out_cas_falls_while_the_reward_rises() -> None:
    curve = [0.40, 0.45, 0.47, 0.43, 0.40]
    looks = [look(10 * n, cas=cas, reward=-1 + 0.1 * n) for n, cas in enumerate(curve)]
    assert not found(looks[:4])  # one look is no proof: patience is 2
    assert found(looks) == {"divergence": "stop"}
    assert not found(looks, divergence={"patience": 3})
    assert not found(looks, divergence={"reaction": "off"})
    # A reward that falls as well is bad training, but nothing is being hacked.
    assert not found([look(10 * n, cas=cas, reward=-0.1 * n) for n, cas in enumerate(curve)])
    # A stage without a critic has no reward to hack.
    assert not found([look(10 * n, cas=cas, reward=None) for n, cas in enumerate(curve)])


def test_a_fall_within_the_noise_of_the_prompts_is_no_sign() -> None:
    rng = np.random.default_rng(0)
    looks = []
    for n in range(5):
        noisy = tuple(0.4 - 0.012 * n + 0.3 * rng.standard_normal(PROMPTS))
        looks.append(look(n, reward=float(n)))
        looks[-1] = Look(n, {**looks[-1].scores, "cas": noisy}, USUAL, float(n))
    assert "divergence" not in found(looks)


@pytest.mark.parametrize("name", DRIFTS)
def test_a_statistic_that_leaves_its_band(name: str) -> None:
    worse = USUAL[name] * (0.4 if name == "diversity" else 2.0)
    steady = [look(n) for n in range(3)]
    assert found([*steady, look(3, **{name: worse}), look(4, **{name: worse})]) == {name: "warn"}
    assert not found([*steady, look(3, **{name: worse}), look(4)])
    # Real images belong to the band: moving towards them is what training is for.
    real = Look(0, REAL.scores, {**USUAL, name: worse}, None)
    assert not found([*steady, look(3, **{name: worse}), look(4, **{name: worse})], real)


def test_more_diversity_and_less_noise_are_no_sign() -> None:
    better = {"diversity": 0.9, "noise": 0.0}
    assert not found([look(0), look(1), look(2, **better), look(3, **better)])


def test_a_grid_copies_and_scores_above_real_images() -> None:
    assert found([look(0), look(1), look(2, grid=9.0), look(3, grid=9.0)]) == {"grid": "warn"}
    assert found([look(0), look(1, copies=0.5)]) == {"memorization": "warn"}
    assert not found([look(0), look(1, copies=1 / PROMPTS)])  # what chance explains
    assert found([look(0, cas=0.5)], look(0, cas=0.3)) == {"exceeds_real": "warn"}


def test_the_spectrum_knows_noise_and_grids() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(4, 3, 64, 64, generator=generator)
    assert float(high_frequencies(noise)) == pytest.approx(1 - np.pi / 16, abs=0.03)
    ramp = torch.linspace(0, 1, 64).expand(4, 3, 64, 64)
    assert float(high_frequencies(ramp)) < 0.01
    smooth = torch.nn.functional.avg_pool2d(noise, 5, 1, 2)
    lines = (torch.arange(64) % 4 == 0).float() * 0.1
    for striped in (smooth + lines, smooth + lines[:, None]):
        assert float(grid_peak(striped, 16)) > float(grid_peak(smooth, 16)) + 6
    assert float(grid_peak(noise, 16)) < 3


def test_a_journal_forgets_what_came_after_a_step(tmp_path: Any) -> None:
    journal = Journal(tmp_path / "metrics.jsonl")
    assert journal.rewind(5) == []
    for step in range(1, 5):
        journal.append({"step": step, "loss": 0.1 * step})
    with journal.path.open("a") as file:
        file.write('{"step": 5, "lo')  # killed while writing
    whole = journal.path.read_bytes().splitlines(keepends=True)
    assert [row["step"] for row in journal.rewind(3)] == [1, 2, 3]
    assert journal.path.read_bytes() == b"".join(whole[:3])


def test_a_look_reads_back_as_itself() -> None:
    one = look(3, copies=0.25)
    assert Look.from_json(one.to_json()) == one
