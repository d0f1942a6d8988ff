"""Flow matching (Lipman et al. 2023): its forward process, and samplers with gradients.

A noisy latent is z_σ = (1 − σ) z + σ ε with σ from 0 (clean) to 1 (noise), and the model predicts
the velocity v = ε − z. Stable Diffusion 3 (Esser et al. 2024) and Flux are trained so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from craft_trainer.diffusion.forward_process import Corrupted

FlowSampling = Literal["euler", "ancestral"]


@dataclass(frozen=True)
class FlowProcess:
    """The forward process of the flow-matching loss.

    σ is drawn from the logit-normal distribution of Esser et al. (2024, §3.1) with mean 0 and
    standard deviation 1, and shifted as the scheduler shifts the σ of a trajectory.

    Attributes:
        shift: s of σ ← s σ / (1 + (s − 1) σ); 1 leaves σ as it is.
        scale: Timestep of σ = 1.
    """

    shift: float = 1.0
    scale: float = 1000.0

    def corrupt(
        self, latents: Tensor, noise: Tensor, generators: Sequence[torch.Generator]
    ) -> Corrupted:
        """Mix ``(B, C, h, w)`` latents with noise; the target is the velocity ε − z."""
        drawn = torch.cat([torch.randn(1, generator=one, device=one.device) for one in generators])
        return self.mix(latents, noise, drawn.sigmoid().to(latents.device, latents.dtype))

    def mix(self, latents: Tensor, noise: Tensor, level: Tensor) -> Corrupted:
        """See :meth:`ForwardProcess.mix`; a level is σ before the shift."""
        sigma = self.shift * level / (1 + (self.shift - 1) * level)
        mixed = sigma.reshape(-1, 1, 1, 1)
        return Corrupted((1 - mixed) * latents + mixed * noise, sigma * self.scale, noise - latents)

    def clean(self, noisy: Tensor, timesteps: Tensor, prediction: Tensor) -> Tensor:
        """z_σ − σ v."""
        sigma = (timesteps / self.scale).reshape(-1, 1, 1, 1).to(noisy.dtype)
        return noisy - sigma * prediction

    def min_snr(self, timesteps: Tensor, gamma: float) -> Tensor:
        """The error of ẑ is σ² times that of v, and the ratio is ((1 − σ) / σ)²."""
        sigma = timesteps / self.scale
        return torch.minimum((1 - sigma).square(), gamma * sigma.square())


class Step(NamedTuple):
    """What a step of a trajectory gives, named as diffusers names it."""

    prev_sample: Tensor


class FlowSampler:
    """The steps of a trajectory: differentiable, and without a state of its own.

    ``euler`` follows the ordinary differential equation, z + (σ' − σ) v: deterministic, and what
    pipelines do. ``ancestral`` draws from the posterior q(z_σ' | z_σ, ẑ) with the predicted clean
    latent ẑ = z − σ v: the step of DDPM for the schedule α = 1 − σ (Kingma et al. 2021,
    "Variational Diffusion Models", Eqs. 24 and 25), which keeps the distribution at every σ for a
    perfect model. Only it has noise that repeats can draw anew.

    Args:
        sigmas: T + 1 falling noise levels, the last 0.
        timesteps: ``(T,)`` what the model is told at each.
        kind: Which step is taken.
    """

    def __init__(self, sigmas: Iterable[float], timesteps: Tensor, kind: FlowSampling) -> None:
        self.sigmas = [float(sigma) for sigma in sigmas]
        self.timesteps = timesteps
        self.kind = kind
        self._position = {float(time): index for index, time in enumerate(timesteps)}

    def step(
        self,
        model_output: Tensor,
        timestep: Tensor,
        sample: Tensor,
        generator: list[torch.Generator],
    ) -> Step:
        """One step back in diffusion time; ``generator`` holds one a trajectory."""
        position = self._position[float(timestep)]
        now, after = self.sigmas[position], self.sigmas[position + 1]
        if self.kind == "euler":
            return Step(sample + (after - now) * model_output)
        clean = sample - now * model_output
        if after == 0:
            return Step(clean)
        ratio = (1 - now) / (1 - after)
        kept = ratio * (after / now) ** 2
        added = (1 - after) * (1 - (ratio * after / now) ** 2)
        deviation = after * math.sqrt(1 - (ratio * after / now) ** 2)
        noise = randn_tensor(
            sample.shape, generator=generator, device=sample.device, dtype=sample.dtype
        )
        return Step(kept * sample + added * clean + deviation * noise)


def flow_sampler(
    config: dict[str, Any],
    steps: int,
    kind: FlowSampling,
    *,
    tokens: int,
    first_level: float | None,
) -> FlowSampler:
    """Sampler with the noise levels that the family's own pipeline visits.

    Args:
        config: ``scheduler.config`` of the base model: shift, and whether it grows with the image.
        steps: T.
        kind: See :class:`FlowSampler`.
        tokens: Patches of an image, which a dynamic shift depends on.
        first_level: σ of the first of T levels before the shift, evenly spaced down to a T-th of
            it, as of Flux from 1; None for the scheduler's own range, as of Stable Diffusion 3.
    """
    euler: Any = FlowMatchEulerDiscreteScheduler
    scheduler = euler.from_config(config)
    options: dict[str, Any] = {}
    if first_level is not None:
        options["sigmas"] = first_level * np.linspace(1.0, 1 / steps, steps)
    if scheduler.config.use_dynamic_shifting:
        options["mu"] = _dynamic_shift(scheduler.config, tokens)
    scheduler.set_timesteps(steps, device="cpu", **options)
    return FlowSampler(scheduler.sigmas, scheduler.timesteps, kind)


def flow_process(config: dict[str, Any], tokens: int) -> FlowProcess:
    """Forward process with the shift of ``config`` for an image of so many patches."""
    if config.get("use_dynamic_shifting"):
        return FlowProcess(shift=math.exp(_dynamic_shift(config, tokens)))
    return FlowProcess(shift=float(config.get("shift", 1.0)))


def _dynamic_shift(config: Any, tokens: int) -> float:
    """μ of the shift e^μ: linear in the number of patches, as Flux's pipeline has it."""
    few, many = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    return float(low + (tokens - few) * (high - low) / (many - few))
