"""An interrupted training ends where an uninterrupted one does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from benchmarks.phantoms import loop
from benchmarks.phantoms.loop import learning_rate, run
from torch import Tensor, nn


class _Interrupted(Exception):
    """The machine was wanted for something else."""


def train(folder: Path, *, stop: int | None = None) -> tuple[Tensor, Tensor]:
    """Fit a line on data that each step draws anew; stop before step ``stop``."""
    torch.manual_seed(0)
    model, average = nn.Linear(4, 2), nn.Linear(4, 2)
    average.load_state_dict(model.state_dict())
    average.requires_grad_(False)

    def loss(step: int) -> dict[str, Tensor]:
        if step == stop:
            raise _Interrupted
        inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        return {"total": (model(inputs) - inputs[:, :2]).pow(2).mean()}

    run(
        loss,
        dict(model.named_parameters()),
        folder,
        steps=9,
        rate=0.01,
        warmup=2,
        averaged=dict(average.named_parameters()),
        plain=("bias",),
    )
    return model.weight.detach(), average.weight.detach()


def test_resumed_training_is_the_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SECONDS", 0.0)
    whole = train(tmp_path / "whole")
    with pytest.raises(_Interrupted):
        train(tmp_path / "pieces", stop=5)
    pieces = train(tmp_path / "pieces")
    assert all(torch.equal(one, other) for one, other in zip(whole, pieces, strict=True))


def test_learning_rate_rises_stays_and_falls() -> None:
    rates = [learning_rate(step, 200, 20, 0.6) for step in range(200)]
    assert rates[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert set(rates[20:121]) == {1.0}
    assert rates[160] == pytest.approx(0.5)
    assert rates[120:] == sorted(rates[120:], reverse=True)
    assert rates[-1] < 1e-3
