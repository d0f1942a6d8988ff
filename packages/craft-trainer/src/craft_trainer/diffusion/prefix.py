"""Cheaper ways through the prefix of a trajectory, which has no gradient.

The paper takes every step of the prefix with the sampler itself, guided. What reaches the
differentiated steps is a draw from the model's distribution at their noise level; any sampler
that reaches that level draws from it, up to its own error. DPM-Solver++ 2M (Lu et al. 2022,
"DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models") does so in few
steps, and guidance matters little where nearly all is noise (Kynkäänniemi et al. 2024, "Applying
Guidance in a Limited Interval"). Whether a gradient is biased by it is measured, not assumed
(``benchmarks/performance/prefix_bias.py``): by six steps, and by half of the prefix without
guidance, it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler
from torch import Tensor

from cas_metric.errors import InputError
from craft_trainer.diffusion.conditions import Conditions
from craft_trainer.diffusion.multistep import solver_settings
from craft_trainer.diffusion.sampling import (
    Denoiser,
    Generators,
    Guidance,
    Scheduler,
    guided_at,
    predict,
)

#: diffusers declares no types of what it inherits.
_dpm: Any = DPMSolverMultistepScheduler

Solver = Literal["dpmpp_2m", "dpmpp_2m_sde"]


@dataclass(frozen=True)
class FastPrefix:
    """Few steps of second order in place of the sampler's own.

    Attributes:
        config: ``scheduler.config`` of the base model.
        steps: Steps from noise to the first differentiated one.
        device: Where the latents live.
        kind: ``dpmpp_2m`` solves the ordinary equation, ``dpmpp_2m_sde`` the stochastic one.
    """

    config: dict[str, Any]
    steps: int
    device: torch.device
    kind: Solver = "dpmpp_2m"

    @torch.no_grad()
    def __call__(
        self,
        denoiser: Denoiser,
        latents: Tensor,
        conditions: Conditions,
        scheduler: Scheduler,
        generators: Generators,
        *,
        guidance: Guidance,
        after: int,
        unguided: float = 0.0,
    ) -> Tensor:
        """Latents where ``scheduler`` stands after ``after`` steps.

        Args:
            denoiser: The model.
            latents: ``(B, C, h, w)`` noise.
            conditions: Of length ``B``.
            scheduler: Of the trajectory, its timesteps set.
            generators: One a trajectory, for the noise of ``dpmpp_2m_sde``.
            guidance: Classifier-free guidance.
            after: T − K, the steps that are replaced.
            unguided: Share of the steps, the noisiest ones, without guidance.

        Returns:
            ``(B, C, h, w)`` without a graph.
        """
        solver = self._solver(scheduler.timesteps, after)
        times = solver.timesteps[:-1]
        on_device = times.to(latents.device)
        for index, (timestep, told) in enumerate(zip(times, on_device, strict=True)):
            strength = guided_at(guidance, index, len(times), unguided)
            prediction = predict(denoiser, latents, told, conditions, strength)
            latents = solver.step(prediction, timestep, latents, list(generators)).prev_sample
        return latents

    def _solver(self, timesteps: Tensor, after: int) -> Any:
        """Its last timestep is where it ends: no step is taken from there."""
        own = solver_settings(self.kind)
        solver = _dpm.from_config(self.config, lower_order_final=False, **own)
        visited = solver_times(timesteps, after, self.steps)
        solver.set_timesteps(timesteps=visited, device="cpu")
        return solver


def solver_times(timesteps: Sequence[float] | Tensor, after: int, steps: int) -> list[int]:
    """Timesteps that a solver of ``steps`` steps visits before the first differentiated step.

    Args:
        timesteps: ``T`` of the trajectory.
        after: T − K, the steps that are replaced.
        steps: Of the solver.

    Returns:
        ``steps + 1`` falling timesteps; the last is that of the first differentiated step.

    Raises:
        InputError: There are not so many between noise and the first differentiated step.

    Examples:
        >>> solver_times([999, 749, 499, 249], after=3, steps=3)
        [999, 749, 499, 249]
    """
    first, last = float(timesteps[0]), float(timesteps[after])
    visited = np.linspace(first, last, steps + 1).round().astype(int).tolist()
    if len(set(visited)) <= steps:
        raise InputError(
            f"prefix.steps {steps} is more than the {first - last:.0f} timesteps before "
            "the first differentiated step",
            fix="take fewer steps" if after else "leave prefix.solver out: there is no prefix",
        )
    return list(visited)
