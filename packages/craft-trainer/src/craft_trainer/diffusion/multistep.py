"""DPM-Solver++ 2M as the sampler of a trajectory: of the ordinary equation, or with noise.

Lu et al. 2022, "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models",
Eqs. 9 and 13 (algorithm 2), and for the stochastic equation their appendix. Timesteps and noise
levels are those of diffusers' ``DPMSolverMultistepScheduler``, whose trajectories these are; its
steps keep what they saw in the scheduler, which a prefix that branches, is replayed or is
differentiated in parts cannot share. Here the trajectory hands it on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import torch
from diffusers import DPMSolverMultistepScheduler
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

#: Samplers, by what diffusers calls their algorithm.
ALGORITHMS: Final[dict[str, str]] = {
    "dpmpp_2m": "dpmsolver++",
    "dpmpp_2m_sde": "sde-dpmsolver++",
}
#: The timesteps are those that are asked for, whatever spaces the noise levels of the base model.
_LEVELS: Final = ("karras_sigmas", "exponential_sigmas", "beta_sigmas", "lu_lambdas", "flow_sigmas")
#: diffusers declares no types of what it inherits.
_dpm: Any = DPMSolverMultistepScheduler


def solver_settings(kind: str) -> dict[str, Any]:
    """What a sampler is in diffusers' terms, whatever the base model's own scheduler is told.

    Examples:
        >>> solver_settings("dpmpp_2m")["solver_order"]
        2
    """
    return {
        "algorithm_type": ALGORITHMS[kind],
        "solver_order": 2,
        "solver_type": "midpoint",
        "final_sigmas_type": "zero",
        "thresholding": False,
        **{f"use_{one}": False for one in _LEVELS},
    }


class SolverStep(NamedTuple):
    """What a step gives, named as diffusers names it, and the clean latent that it predicted."""

    prev_sample: Tensor
    clean: Tensor


class MultistepSampler:
    """Second-order steps: differentiable, and without a state of their own.

    The first step of a trajectory and the last, which leaves no noise, are of first order; so is
    one that is not told of the step before it. A step x_s to x_t with h = λ_t − λ_s,
    h' = λ_s − λ_r of the step before, and predicted clean latents D_s and D_r::

        x_t = (σ_t / σ_s) e x_s + α_t d (D_s + (h / 2h') (D_s − D_r)) + σ_t sqrt(n) ε

    with e = 1, d = 1 − exp(−h), n = 0 for the ordinary equation, and e = exp(−h),
    d = n = 1 − exp(−2h) for the stochastic one.

    Args:
        config: ``scheduler.config`` of the base model: betas, prediction type, offset.
        steps: T.
        spacing: ``leading``, ``trailing`` or ``linspace``: which timesteps are visited.
        kind: ``dpmpp_2m``, or ``dpmpp_2m_sde``, whose steps draw noise.
    """

    def __init__(self, config: dict[str, Any], steps: int, spacing: str, kind: str) -> None:
        scheduler = _dpm.from_config(config, timestep_spacing=spacing, **solver_settings(kind))
        self.config = scheduler.config
        self.noisy = kind == "dpmpp_2m_sde"
        scheduler.set_timesteps(steps, device=torch.device("cpu"))
        self.timesteps: Tensor = scheduler.timesteps
        ratios = [float(ratio) for ratio in scheduler.sigmas]
        self._alphas = [1 / math.sqrt(1 + ratio**2) for ratio in ratios]
        self._sigmas = [ratio * alpha for ratio, alpha in zip(ratios, self._alphas, strict=True)]
        self._lambdas = [-math.log(ratio) if ratio > 0 else math.inf for ratio in ratios]
        self._position = {int(time): index for index, time in enumerate(self.timesteps)}

    def step(
        self,
        model_output: Tensor,
        timestep: Tensor,
        sample: Tensor,
        generator: list[torch.Generator],
        earlier: Tensor | None = None,
    ) -> SolverStep:
        """One step back in diffusion time; ``generator`` holds one a trajectory.

        Args:
            model_output: ``(B, C, h, w)`` prediction of the model.
            timestep: One of ``timesteps``.
            sample: ``(B, C, h, w)`` latents at it.
            generator: ``B`` of them.
            earlier: ``(B', C, h, w)`` clean latents of the step before, B a multiple of B' where
                the trajectories have branched in between; None makes a step of first order.
        """
        here = self._position[int(timestep)]
        there = here + 1
        clean = self._clean(model_output, sample, here)
        gap = self._lambdas[there] - self._lambdas[here]
        target = clean
        if earlier is not None and 0 < here < len(self.timesteps) - 1:
            before = self._lambdas[here] - self._lambdas[here - 1]
            known = earlier.repeat(len(clean) // len(earlier), 1, 1, 1)
            target = clean + gap / (2 * before) * (clean - known)
        kept = self._sigmas[there] / self._sigmas[here]
        if not self.noisy:
            drawn = 1 - math.exp(-gap)
            return SolverStep(kept * sample + self._alphas[there] * drawn * target, clean)
        drawn = 1 - math.exp(-2 * gap)
        latents = kept * math.exp(-gap) * sample + self._alphas[there] * drawn * target
        if self._sigmas[there] > 0:
            noise = randn_tensor(
                sample.shape, generator=generator, device=sample.device, dtype=sample.dtype
            )
            latents = latents + self._sigmas[there] * math.sqrt(drawn) * noise
        return SolverStep(latents, clean)

    def _clean(self, prediction: Tensor, latents: Tensor, position: int) -> Tensor:
        alpha, sigma = self._alphas[position], self._sigmas[position]
        if self.config.prediction_type == "v_prediction":
            return alpha * latents - sigma * prediction
        if self.config.prediction_type == "epsilon":
            return (latents - sigma * prediction) / alpha
        return prediction


class Steps:
    """The steps of some trajectories, each told what a solver of several steps saw before it."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.clean: Tensor | None = None

    def __call__(
        self,
        prediction: Tensor,
        timestep: Tensor,
        latents: Tensor,
        generators: Sequence[torch.Generator],
    ) -> Tensor:
        """``(B, C, h, w)`` latents one step back in diffusion time."""
        drawing = list(generators)
        if isinstance(self.scheduler, MultistepSampler):
            latents, self.clean = self.scheduler.step(
                prediction, timestep, latents, drawing, self.clean
            )
            return latents
        earlier: Tensor = self.scheduler.step(
            prediction, timestep, latents, generator=drawing
        ).prev_sample
        return earlier
