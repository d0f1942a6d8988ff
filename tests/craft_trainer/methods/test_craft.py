"""CRAFT's reward in two stages: the same step as with one graph, and less that is kept for it."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from tests.craft_trainer.training.test_trainer import ready

from craft_trainer.config.schema import Config
from craft_trainer.cost.memory import memory_of, parts_of
from craft_trainer.rewards.clinical_alignment import Targets

CRAFT = {
    "method": "craft", "steps": 1, "batch_size": 3, "repeats": 2, "gradient_steps": 2,
    "reward_gradients_every": 1, "max_grad_norm": 1e9,
}  # fmt: skip


def step_of(config: Config) -> tuple[dict[str, float], list[torch.Tensor]]:
    """Logs and gradients of the first step, from an adapter that has an effect."""
    run = ready(config)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in run.parameters:
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    logs = run._step(0)
    return logs, [one.grad.clone() for one in run.parameters if one.grad is not None]


@pytest.mark.parametrize("size", [1, 4, 6, 9])
def test_parts_give_the_step_of_one_graph(settings: Any, size: int) -> None:
    whole, expected = step_of(settings(CRAFT))
    logs, gradients = step_of(settings({**CRAFT, "micro_batch": size}))
    assert logs.keys() == whole.keys()
    for name, value in whole.items():
        assert logs[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
    assert len(gradients) == len(expected)
    ours, theirs = (torch.cat([one.flatten() for one in side]) for side in (gradients, expected))
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-5


def peak_of(config: Config) -> int:
    """Most bytes that autograd keeps at a time in the reward of a step."""
    run = ready(config)
    alive: dict[int, int] = {}  # storage to how many saved tensors share it
    bytes_now = peak = 0

    class Saved:
        def __init__(self, tensor: torch.Tensor) -> None:
            self.tensor = tensor

    def release(key: int, size: int) -> None:
        nonlocal bytes_now
        alive[key] -= 1
        if alive[key] == 0:
            bytes_now -= size

    def keep(tensor: torch.Tensor) -> Any:
        nonlocal bytes_now, peak
        saved = Saved(tensor)
        if not isinstance(tensor, torch.nn.Parameter):
            storage = tensor.untyped_storage()
            key, size = storage._cdata, storage.nbytes()
            alive[key] = alive.get(key, 0) + 1
            if alive[key] == 1:
                bytes_now += size
                peak = max(peak, bytes_now)
            weakref.finalize(saved, release, key, size)
        return saved

    (positions,) = run._positions(0)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved.tensor):
        run.method.loss(run.inputs.batch(positions), 1).total.backward()
    return peak


def test_what_is_kept_is_the_graph_of_so_many_images(settings: Any) -> None:
    stage = {**CRAFT, "gradient_steps": 1, "reward_gradients_every": 0, "lambda_diff": 0.0}
    peaks = {}
    for size in (None, 1):
        config = settings({**stage, "micro_batch": size})
        peaks[size] = peak_of(config)
        estimated = memory_of(config, config.stages[0], 2, parts_of(config)).activations * 1e9
        assert estimated == pytest.approx(peaks[size], rel=0.15)
    assert peaks[1] < 0.8 * peaks[None]  # the denoiser of this tiny model keeps most


def test_what_all_images_are_judged_against_never_goes_to_the_device(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[int] = []
    whole = Targets.to

    def to(targets: Targets, device: torch.device) -> Targets:
        moved.append(len(targets.label))
        return whole(targets, device)

    monkeypatch.setattr(Targets, "to", to)
    run = ready(settings({**CRAFT, "batch_size": 2}))
    run._step(0)
    assert moved == [2]
    assert len(run.method.targets[0].label) > 2
