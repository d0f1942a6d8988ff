"""Weights of timesteps and prompts that are left empty, against formulas and counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler

from craft_trainer.bases import loading as models
from craft_trainer.config.schema import resolve
from craft_trainer.data.dataset import Batch
from craft_trainer.diffusion.conditions import Conditions
from craft_trainer.diffusion.flow_matching import FlowProcess
from craft_trainer.diffusion.forward_process import Diffusion
from craft_trainer.methods.denoising import Denoising
from craft_trainer.methods.lora import LoraStage


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "flow"])
def test_min_snr_weighs_the_error_of_the_clean_latent(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 6, 4, 8, 8, generator=generator)
    wrong = torch.randn(6, 4, 8, 8, generator=generator)
    if kind == "flow":
        process: Any = FlowProcess(shift=3.0)
    else:
        config = {"prediction_type": kind, "beta_schedule": "scaled_linear"}
        process = Diffusion.of(DDPMScheduler(**config).config, torch.device("cpu"))
    level = torch.tensor([0.05, 0.2, 0.4, 0.6, 0.8, 0.95])
    mixed = process.mix(clean, noise, level)
    guess = process.clean(mixed.noisy, mixed.timesteps, mixed.target + wrong)
    signal = rms(process.mix(clean, 0 * noise, level).noisy) / rms(clean)
    spread = rms(process.mix(0 * clean, noise, level).noisy) / rms(noise)
    expected = (signal / spread).square().clamp(max=5) * rms(guess - clean).square()
    found = process.min_snr(mixed.timesteps, 5.0) * rms(wrong).square()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def rms(values: torch.Tensor) -> torch.Tensor:
    return values.square().flatten(1).mean(dim=1).sqrt()


def batch_of(positions: range) -> Batch:
    count = len(positions)
    moments = torch.zeros(count, 8, 8, 8)
    return Batch((0,) * count, tuple(positions), 1, moments, ("a film",) * count, None)


def test_prompts_are_dropped_by_their_share_and_by_position(base: Path) -> None:
    model = models.load_model(str(base), device=torch.device("cpu"))
    stage = LoraStage(method="lora", steps=1, prompt_dropout=0.3)
    method = Denoising.of(stage, model, (4, 8, 8))
    assert method.empty is not None
    given = Conditions(torch.full((400, *method.empty.embeddings.shape[1:]), 7.0))
    found = method._dropped(batch_of(range(400)), given).embeddings
    empty = (found == method.empty.embeddings).flatten(1).all(dim=1)
    assert ((found == 7.0).flatten(1).all(dim=1) ^ empty).all()
    assert 90 <= empty.sum() <= 150  # 120, and three standard deviations
    later = method._dropped(batch_of(range(200, 400)), given[:200]).embeddings
    torch.testing.assert_close(later, found[200:])
    told: list[torch.Tensor] = []
    spied = replace(method, model=_Spy(model, told))
    spied.of_batch(batch_of(range(8)), model.encode_prompts(["a film"] * 8))
    assert len({tuple(row.flatten().tolist()) for row in told[0]}) == 2


class _Spy:
    """A model that writes down what its denoiser was told."""

    def __init__(self, model: Any, told: list[torch.Tensor]) -> None:
        self._model, self._told = model, told

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def denoise(self, latents: Any, timestep: Any, conditions: Conditions) -> torch.Tensor:
        self._told.append(conditions.embeddings.detach())
        return self._model.denoise(latents, timestep, conditions)


def test_a_token_is_not_taught_by_an_empty_prompt() -> None:
    stage = {"method": "textual_inversion", "steps": 1, "prompt_dropout": 0.1}
    values = {"output": "a", "base": "phantom-sd", "data": {"train": "b"}, "stages": [stage]}
    with pytest.raises(Exception, match="an empty prompt teaches a token nothing"):
        resolve(values)
