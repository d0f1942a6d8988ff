"""The diffusion loss: the whole of LoRA and textual inversion, and the first term of Eq. 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDPMScheduler
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from torch.nn import functional as F

from craft_trainer.data import Batch
from craft_trainer.methods.base import Loss
from craft_trainer.models import DiffusionModel


@dataclass(frozen=True)
class Denoising:
    """Predict what was mixed into the latent of a real image.

    Attributes:
        model: Its trainable part is what is learned: LoRA matrices or token vectors.
        scheduler: Of the forward process, from the base model's own configuration.
    """

    model: DiffusionModel
    scheduler: Any

    def loss(self, batch: Batch, step: int) -> Loss:
        """Mean squared error of the prediction; see :func:`denoising_error`."""
        conditions = conditions_of(batch, self.model)
        error = denoising_error(self.model, self.scheduler, batch, conditions)
        return Loss(error, {"loss/diffusion": error.detach()})


def conditions_of(batch: Batch, model: DiffusionModel) -> Tensor:
    """``(B, L, D)``: the cached ones, or encoded now where the text encoder is being trained."""
    if batch.conditions is not None:
        return batch.conditions.to(model.device).float()
    return model.encode_prompts(batch.prompts)


def forward_process(model: DiffusionModel) -> Any:
    """The forward process that the base model was trained with, its alphas on the device."""
    scheduler = DDPMScheduler.from_config(model.pipeline.scheduler.config)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.to(model.device)
    return scheduler


def denoising_error(
    model: DiffusionModel, scheduler: Any, batch: Batch, conditions: Tensor
) -> Tensor:
    """‖ε − ε_θ(z_t, t, c)‖² of Eq. 1, as the mean over elements; a float32 scalar.

    A v-prediction model is compared with the velocity of the same noise.
    """
    moments = batch.moments.to(model.device)
    latents = model.latents_of(moments, _noise(batch, "latent", moments)).float()
    noise = _noise(batch, "noise", moments)
    total = scheduler.config.num_train_timesteps
    times = torch.cat(
        [torch.randint(total, (1,), generator=one) for one in batch.generators("timestep")]
    ).to(model.device)
    noisy = scheduler.add_noise(latents, noise, times)
    predicted = model.denoise(noisy, times, conditions)
    target = noise
    if model.prediction_type == "v_prediction":
        target = scheduler.get_velocity(latents, noise, times)
    return F.mse_loss(predicted, target)


def _noise(batch: Batch, purpose: str, moments: Tensor) -> Tensor:
    """Standard normal, shaped as a latent of ``moments``; one stream an image."""
    count, channels, *size = moments.shape
    return randn_tensor(
        (count, channels // 2, *size),
        generator=batch.generators(purpose),
        device=moments.device,
        dtype=moments.dtype,
    )
