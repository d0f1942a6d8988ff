"""What is mixed into a latent and what is asked back, against the formulas written out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.craft_trainer.training.test_trainer import LORA, ready
from tests.support.tiny_diffusion import build_stable_diffusion

from cas_metric.errors import InputError
from craft_trainer.diffusion.forward_process import Diffusion

BETAS = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_target_is_what_the_base_models_scheduler_says(kind: str) -> None:
    process = Diffusion.of({**BETAS, "prediction_type": kind}, torch.device("cpu"))
    clean, noise = torch.randn(2, 3, 4, 5, 5, generator=torch.Generator().manual_seed(1))
    seeds = [torch.Generator().manual_seed(seed) for seed in range(3)]
    corrupted = process.corrupt(clean, noise, seeds)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000).double() ** 2
    kept = torch.cumprod(1 - betas, 0)[corrupted.timesteps].reshape(3, 1, 1, 1)
    alpha, sigma = kept.sqrt().float(), (1 - kept).sqrt().float()
    torch.testing.assert_close(corrupted.noisy, alpha * clean + sigma * noise)
    velocity = alpha * noise - sigma * clean
    torch.testing.assert_close(corrupted.target, noise if kind == "epsilon" else velocity)


def test_a_model_that_predicts_something_else_is_refused() -> None:
    with pytest.raises(InputError, match="prediction_type 'sample'"):
        Diffusion.of({**BETAS, "prediction_type": "sample"}, torch.device("cpu"))


def test_the_loss_of_a_v_prediction_model_is_that_of_the_velocity(
    settings: Any, tmp_path: Path
) -> None:
    base = build_stable_diffusion(tmp_path / "v", prediction_type="v_prediction")
    run = ready(settings(LORA, base=str(base)))
    batch = run.inputs.batch(run._positions(0)[0])
    seen: list[tuple[torch.Tensor, ...]] = []
    run.model.trunk.register_forward_hook(lambda _, inputs, output: seen.append((*inputs, *output)))
    loss = run.method.loss(batch, 0).logs["loss/diffusion"]
    ((noisy, times, _, predicted),) = seen
    noise = torch.cat([torch.randn(1, 4, 8, 8, generator=g) for g in batch.generators("noise")])
    kept = run.model.pipeline.scheduler.alphas_cumprod[times].reshape(-1, 1, 1, 1)
    clean = (noisy - (1 - kept).sqrt() * noise) / kept.sqrt()
    velocity = kept.sqrt() * noise - (1 - kept).sqrt() * clean
    torch.testing.assert_close(loss, (predicted - velocity).square().mean(), atol=1e-4, rtol=1e-4)
    assert float((loss - (predicted - noise).square().mean()).detach().abs()) > 1e-2


def test_the_schedule_lives_where_the_latents_do() -> None:
    """A schedule on the CPU makes every step of a GPU wait for a copy."""
    device = torch.device("meta")
    process = Diffusion.of({**BETAS, "prediction_type": "epsilon"}, device)
    assert process.scheduler.alphas_cumprod.device == device
