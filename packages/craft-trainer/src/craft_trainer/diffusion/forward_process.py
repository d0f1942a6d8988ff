"""Forward processes: how a clean latent becomes a noisy one, and what is predicted from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from torch import Tensor

from cas_metric.errors import InputError


class Corrupted(NamedTuple):
    """Noisy latents and what a perfect model would say of them.

    Attributes:
        noisy: ``(B, C, h, w)``.
        timesteps: ``(B,)`` what the model is told.
        target: ``(B, C, h, w)``: the noise, or a velocity.
    """

    noisy: Tensor
    timesteps: Tensor
    target: Tensor


class ForwardProcess(Protocol):
    """The process that a base model was trained to reverse."""

    def corrupt(
        self, latents: Tensor, noise: Tensor, generators: Sequence[torch.Generator]
    ) -> Corrupted:
        """Mix ``(B, C, h, w)`` latents with noise at a time that each one's generator draws."""
        ...

    def clean(self, noisy: Tensor, timesteps: Tensor, prediction: Tensor) -> Tensor:
        """The clean ``(B, C, h, w)`` latents that a prediction at ``(B,)`` times amounts to."""
        ...

    def min_snr(self, timesteps: Tensor, gamma: float) -> Tensor:
        """Weights ``(B,)`` of a prediction's squared error, by which that of ẑ counts min(SNR, γ).

        Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting Strategy".
        """
        ...

    def mix(self, latents: Tensor, noise: Tensor, level: Tensor) -> Corrupted:
        """As :meth:`corrupt`, at ``(B,)`` levels from 0 (nearly clean) to 1 (noise)."""
        ...


@dataclass(frozen=True)
class Diffusion:
    """z_t = α_t z + σ_t ε with a uniform t (Ho et al. 2020).

    Attributes:
        scheduler: ``DDPMScheduler`` of the base model's configuration, its alphas on the device.
    """

    scheduler: Any

    @classmethod
    def of(cls, config: dict[str, Any], device: torch.device) -> Diffusion:
        """From the base model's own scheduler configuration.

        Raises:
            InputError: The model predicts something else than noise or velocity.
        """
        ddpm: Any = DDPMScheduler
        scheduler = ddpm.from_config(config)
        predicted = scheduler.config.prediction_type
        if predicted not in ("epsilon", "v_prediction"):
            raise InputError(
                f"the base model's scheduler has prediction_type {predicted!r}",
                fix="take a base model of epsilon or v_prediction",
            )
        scheduler.alphas_cumprod = scheduler.alphas_cumprod.to(device)
        return cls(scheduler)

    def corrupt(
        self, latents: Tensor, noise: Tensor, generators: Sequence[torch.Generator]
    ) -> Corrupted:
        """The target is ε, or the velocity of the same noise for a v-prediction model."""
        count = self.scheduler.config.num_train_timesteps
        drawn = [torch.randint(count, (1,), generator=one, device=one.device) for one in generators]
        return self._at(latents, noise, torch.cat(drawn).to(latents.device))

    def min_snr(self, timesteps: Tensor, gamma: float) -> Tensor:
        """The error of ẑ is that of ε over SNR, or that of v over SNR + 1."""
        snr: Tensor = compute_snr(self.scheduler, timesteps)
        velocity = self.scheduler.config.prediction_type == "v_prediction"
        return snr.clamp(max=gamma) / (snr + 1 if velocity else snr)

    def mix(self, latents: Tensor, noise: Tensor, level: Tensor) -> Corrupted:
        """See :meth:`ForwardProcess.mix`; a level is a share of the trained timesteps."""
        last = self.scheduler.config.num_train_timesteps - 1
        return self._at(latents, noise, (level * last).round().long())

    def clean(self, noisy: Tensor, timesteps: Tensor, prediction: Tensor) -> Tensor:
        """(z_t − σ ε) / α, or α z_t − σ v of a v-prediction model."""
        kept = self.scheduler.alphas_cumprod[timesteps].reshape(-1, 1, 1, 1).to(noisy.dtype)
        alpha, sigma = kept.sqrt(), (1 - kept).sqrt()
        if self.scheduler.config.prediction_type == "v_prediction":
            return alpha * noisy - sigma * prediction
        return (noisy - sigma * prediction) / alpha

    def _at(self, latents: Tensor, noise: Tensor, times: Tensor) -> Corrupted:
        noisy = self.scheduler.add_noise(latents, noise, times)
        target = noise
        if self.scheduler.config.prediction_type == "v_prediction":
            target = self.scheduler.get_velocity(latents, noise, times)
        return Corrupted(noisy, times, target)
