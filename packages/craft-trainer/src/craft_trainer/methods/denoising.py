"""The diffusion loss: the whole of LoRA and textual inversion, and the first term of Eq. 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from torch.nn import functional as F

from craft_trainer.bases.base import DiffusionModel
from craft_trainer.bases.lora import base_only
from craft_trainer.config.stage import DenoisingStage
from craft_trainer.data.dataset import Batch
from craft_trainer.diffusion.conditions import Conditions
from craft_trainer.diffusion.forward_process import Corrupted, ForwardProcess
from craft_trainer.methods.base import Loss, Method


@dataclass(frozen=True)
class Denoising(Method):
    """Predict what was mixed into the latent of a real image.

    Attributes:
        model: Its trainable part is what is learned: LoRA matrices or token vectors.
        forward: The process that the base model reverses.
        kl_to_base: Weight of the mean squared difference from the base model's prediction.
        min_snr_gamma: γ of the weights of timesteps; None where all count alike.
        prompt_dropout: Share of the images whose prompt is left empty.
        empty: Condition of the empty prompt, where prompts are dropped.
    """

    model: DiffusionModel
    forward: ForwardProcess
    kl_to_base: float = 0.0
    min_snr_gamma: float | None = None
    prompt_dropout: float = 0.0
    empty: Conditions | None = None

    @classmethod
    def of(
        cls,
        stage: DenoisingStage,
        model: DiffusionModel,
        latent: Sequence[int],
        kl_to_base: float = 0.0,
    ) -> Denoising:
        """As a stage wants it, for ``(C, h, w)`` latents."""
        dropped = stage.prompt_dropout
        with torch.no_grad():
            empty = model.unconditional() if dropped > 0 else None
        forward = model.forward_process(latent)
        return cls(model, forward, kl_to_base, stage.min_snr_gamma, dropped, empty)

    def loss(self, batch: Batch, step: int) -> Loss:
        """Mean squared error of the prediction, and the distance to the base model."""
        error, distance = self.of_batch(batch, conditions_of(batch, self.model))
        logs = {"loss/diffusion": error.detach()}
        if distance is None:
            return Loss(error, logs)
        total = error + self.kl_to_base * distance
        return Loss(total, {**logs, "loss/kl_to_base": distance.detach()})

    def of_batch(self, batch: Batch, conditions: Conditions) -> tuple[Tensor, Tensor | None]:
        """‖ε − ε_θ(z_t, t, c)‖² of Eq. 1, as the mean over elements, and the KL term, if any.

        Both without their weights. A v-prediction or flow model is compared with the velocity of
        the same noise.
        """
        latents = latents_of(batch, "latent", batch.moments, self.model)
        corrupted = corrupt(batch, latents, self.forward)
        told = self._dropped(batch, conditions)
        base = None
        if self.kl_to_base > 0:
            with base_only(self.model):
                base = self.model.denoise(corrupted.noisy, corrupted.timesteps, told)
        predicted = self.model.denoise(corrupted.noisy, corrupted.timesteps, told)
        distance = None if base is None else F.mse_loss(predicted, base)
        return self._error(predicted, corrupted), distance

    def _error(self, predicted: Tensor, corrupted: Corrupted) -> Tensor:
        if self.min_snr_gamma is None:
            return F.mse_loss(predicted, corrupted.target)
        weights = self.forward.min_snr(corrupted.timesteps, self.min_snr_gamma)
        errors = (predicted - corrupted.target).square().flatten(1).mean(dim=1)
        return (weights * errors).mean()

    def _dropped(self, batch: Batch, conditions: Conditions) -> Conditions:
        """The conditions, those of some images in place of which the empty prompt stands."""
        if self.empty is None:
            return conditions
        drawn = [torch.rand((), generator=one) for one in batch.generators("prompt_dropout")]
        left = torch.stack(drawn) < self.prompt_dropout
        return conditions.where(left.to(conditions.embeddings.device), self.empty)


def conditions_of(batch: Batch, model: DiffusionModel) -> Conditions:
    """The cached ones, or encoded now where the text encoder is being trained."""
    if batch.conditions is not None:
        return batch.conditions.to(model.device, torch.float32)
    return model.encode_prompts(batch.prompts)


def latents_of(batch: Batch, purpose: str, moments: Tensor, model: DiffusionModel) -> Tensor:
    """``(B, C, h, w)`` float32 latents drawn from ``moments``; one stream an image."""
    own = moments.to(model.device)
    return model.latents_of(own, _noise(batch, purpose, own[:, : own.shape[1] // 2])).float()


def corrupt(batch: Batch, latents: Tensor, forward: ForwardProcess) -> Corrupted:
    """Mix ``latents`` with the batch's own noise, at its own times."""
    noise = _noise(batch, "noise", latents)
    return forward.corrupt(latents, noise, batch.generators("timestep"))


def _noise(batch: Batch, purpose: str, like: Tensor) -> Tensor:
    """Standard normal, shaped as ``like``; one stream an image."""
    return noise_like(like, batch.generators(purpose))


def noise_like(like: Tensor, generators: list[torch.Generator]) -> Tensor:
    """Standard normal, shaped as ``like``, from one generator an image."""
    noise: Tensor = randn_tensor(
        like.shape, generator=generators, device=like.device, dtype=like.dtype
    )
    return noise
