"""A fast prefix arrives where the sampler does: judged by data whose optimal denoiser is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from craft_trainer.diffusion.conditions import Conditions
from craft_trainer.diffusion.prefix import FastPrefix, Solver
from craft_trainer.diffusion.sampling import Guidance, initial_noise, sampling_scheduler

CONFIG = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012}
CONFIG |= {"beta_schedule": "scaled_linear", "prediction_type": "epsilon"}
#: Standard deviation of the data.
SPREAD = 0.5
COUNT = 64


def _levels() -> Tensor:
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0)


def _optimal(latents: Tensor, timestep: Tensor, _: Conditions) -> Tensor:
    """E[ε | x_t] for independent normal data."""
    kept = float(_levels()[int(timestep)])
    return latents * math.sqrt(1 - kept) / (kept * SPREAD**2 + 1 - kept)


@pytest.mark.parametrize(("kind", "followed"), [("dpmpp_2m", True), ("dpmpp_2m_sde", False)])
def test_latents_have_the_variance_of_their_noise_level(kind: Solver, followed: bool) -> None:
    scheduler = sampling_scheduler(CONFIG, 20, "trailing", torch.device("cpu"))
    nothing = Conditions(torch.zeros(COUNT, 1, 1))
    generators = [torch.Generator().manual_seed(seed) for seed in range(COUNT)]
    noise = initial_noise((4, 8, 8), generators, like=nothing.embeddings)
    found = FastPrefix(CONFIG, 20, torch.device("cpu"), kind)(
        _optimal,
        noise,
        nothing,
        scheduler,
        generators,
        guidance=Guidance(1.0, Conditions(torch.zeros(1, 1, 1))),
        after=19,
    )
    kept = float(_levels()[int(scheduler.timesteps[19])])
    expected = math.sqrt(kept * SPREAD**2 + 1 - kept)
    assert found.std().item() == pytest.approx(expected, rel=0.03)
    # The ordinary equation scales the noise that it starts with; the stochastic one forgets it.
    likeness = torch.corrcoef(torch.stack([noise.flatten(), found.flatten()]))[0, 1].item()
    assert (likeness > 0.999) == followed
    assert followed or likeness < 0.2
