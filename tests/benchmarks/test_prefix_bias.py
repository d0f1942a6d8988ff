"""The bias of a mean gradient against planted ones: intervals cover, and equal means are equal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.performance.prefix_bias import (
    EXACT,
    FINE,
    PLAIN,
    STALE,
    aged,
    compare,
    exact,
    table,
)

from craft_trainer.config.sections import Sampling
from craft_trainer.diffusion.conditions import Conditions
from craft_trainer.diffusion.sampling import Guidance, sampling_scheduler
from craft_trainer.methods.craft import CraftStage
from craft_trainer.methods.trajectories import Trajectories

#: Parameters, and the spread of a draw in each: two thirds of it in a fifth of them.
SIZE = 60
SPREAD = np.sqrt(1.3 * np.exp(-np.arange(SIZE) / 12) / np.exp(-np.arange(SIZE) / 12).sum())
MEAN = np.where(np.arange(SIZE) < 20, 1, 0) / np.sqrt(20)
ACROSS = np.where(np.arange(SIZE) >= 40, 1, 0) / np.sqrt(20)


@pytest.mark.parametrize(("along", "across", "shared"), [(0, 0, 0), (0.1, 0.2, 0), (0.1, 0.2, 0.8)])
def test_intervals_cover_planted_biases(along: float, across: float, shared: float) -> None:
    rng = np.random.default_rng(0)
    covered, flagged, count = np.zeros(2), 0, 400
    for _ in range(count):
        noise, own = rng.standard_normal((2, 100, SIZE))
        plain = MEAN + noise * SPREAD
        mixed = shared * noise + np.sqrt(1 - shared**2) * own
        found = compare(plain, (1 + along) * MEAN + across * ACROSS + mixed * SPREAD, 200)
        truth = along, np.hypot(along, across)
        for index, (_, low, high) in enumerate((found.along, found.apart)):
            covered[index] += low <= truth[index] <= high
        flagged += found.p <= 0.05
    assert (covered / count >= 0.89).all()
    assert flagged / count >= 0.9 if across else flagged / count <= 0.1


def test_the_table_is_held_against_what_is_asked_for(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).standard_normal((40, SIZE)) * SPREAD / 20
    other = np.random.default_rng(1).standard_normal((40, SIZE)) * SPREAD / 20
    for name, draws in {
        "plain": 1.25 * MEAN + noise,
        "dpmpp_6": MEAN + other,
        "exact": MEAN + noise,
    }.items():
        np.save(tmp_path / f"{name}-0000.npy", draws[:20])
        np.save(tmp_path / f"{name}-0020.npy", draws[20:])
    sides: Any = dict.fromkeys((PLAIN, "dpmpp 6", EXACT, "renoise 5"))

    def against(reference: str) -> dict[str, list[str]]:
        lines = table(tmp_path, sides, lambda _: 7, reference).splitlines()[2:]
        cells = [[one.strip() for one in line.strip("|").split("|")] for line in lines]
        return {name: rest for name, *rest in cells}

    found = against(EXACT)
    assert found[EXACT] == ["40", "", "", "", "", "1.00"]  # nobody would train with it
    assert found["renoise 5"][:2] == ["0", "7"]
    along = {name: float(found[name][2].split()[0]) for name in (PLAIN, "dpmpp 6")}
    assert along == {PLAIN: pytest.approx(0.25, abs=0.02), "dpmpp 6": pytest.approx(0, abs=0.02)}
    assert float(found[PLAIN][4]) < 0.01
    shorter = against(PLAIN)
    assert float(shorter[EXACT][2].split()[0]) == pytest.approx(-0.2, abs=0.02)
    assert shorter[PLAIN][2:5] == ["", "", ""]


def test_an_old_prefix_has_the_weights_of_so_many_steps_before() -> None:
    weight = torch.zeros(1)
    run: Any = SimpleNamespace(
        model=SimpleNamespace(trainable={"weight": weight}), _step=lambda _: weight.add_(1)
    )
    earlier = aged(run)
    assert {name: float(weight - one["weight"]) for name, one in earlier.items()} == STALE


@dataclass
class _Method:
    trajectories: Trajectories


def test_the_exact_prefix_arrives_at_the_noise_level_of_the_last_step() -> None:
    """Judged by independent normal data, whose optimal denoiser is known; five steps miss it."""
    config: dict[str, Any] = {"num_train_timesteps": 1000, "prediction_type": "epsilon"}
    config |= {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    spread, calls = 0.2, []

    def optimal(latents: torch.Tensor, timestep: torch.Tensor, _: Conditions) -> torch.Tensor:
        kept = float(scheduler.alphas_cumprod[int(timestep)])
        calls.append(int(timestep))
        return latents * math.sqrt(1 - kept) / (kept * spread**2 + 1 - kept)

    def sampler(sampling: Sampling, _: Any) -> Any:
        place = torch.device("cpu")
        return sampling_scheduler(config, sampling.steps, sampling.timestep_spacing, place)

    coarse = Sampling(steps=5, guidance=1.0)
    scheduler = sampler(coarse, None)
    nothing = Conditions(torch.zeros(64, 1, 1))
    method: Any = _Method(
        Trajectories(
            model=SimpleNamespace(denoise=optimal, sampler=sampler),  # type: ignore[arg-type]
            sampler=scheduler,
            guidance=Guidance(1.0, Conditions(torch.zeros(1, 1, 1))),
            stage=CraftStage.model_validate({"method": "craft", "steps": 1, "repeats": 1}),
        )
    )
    batch: Any = SimpleNamespace(latent_shape=(4, 8, 8))
    arrival = int(scheduler.timesteps[-1])
    kept = float(scheduler.alphas_cumprod[arrival])
    found = {}
    for name, side in {"plain": method, "exact": exact(method, coarse)}.items():
        generators = [torch.Generator().manual_seed(seed) for seed in range(64)]
        calls.clear()
        found[name] = side.trajectories._prefix(batch, nothing, generators).std().item()
        assert min(calls) > arrival  # the last step is the gradient's
        assert len(calls) == (4 if name == "plain" else FINE * 4 // 5)
    expected = math.sqrt(kept * spread**2 + 1 - kept)
    assert found["exact"] == pytest.approx(expected, rel=0.02)
    assert abs(found["plain"] - expected) > 0.03 * expected
