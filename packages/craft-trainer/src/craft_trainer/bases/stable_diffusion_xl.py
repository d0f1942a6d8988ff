"""Stable Diffusion XL: a UNet with two text encoders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from craft_trainer.bases.base import TextTower
from craft_trainer.bases.stable_diffusion import StableDiffusion
from craft_trainer.diffusion.conditions import Conditions


class StableDiffusionXL(StableDiffusion):
    """Stable Diffusion XL: two text encoders, a pooled vector, and the size as a condition."""

    pipeline_name: ClassVar[str] = "StableDiffusionXLPipeline"
    towers: ClassVar[tuple[TextTower, ...]] = (
        TextTower("clip_l", "tokenizer", "text_encoder"),
        TextTower("clip_g", "tokenizer_2", "text_encoder_2", pooled=True),
    )

    @property
    def latent_levels(self) -> tuple[float | Tensor, float | Tensor]:
        """Of each channel, where the VAE says its mean and deviation; as the pipeline has it."""
        vae = self.pipeline.vae
        known = [getattr(vae.config, name, None) for name in ("latents_mean", "latents_std")]
        if None in known:
            return super().latent_levels
        mean, deviation = (
            torch.tensor(one, device=vae.device).reshape(1, -1, 1, 1) for one in known
        )
        return mean, vae.config.scaling_factor / deviation

    def denoise(self, latents: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
        """The UNet's prediction, told that the image is as large as it is and was not cropped."""
        assert conditions.pooled is not None
        height, width = (side * self.pipeline.vae_scale_factor for side in latents.shape[-2:])
        size = torch.tensor([[height, width, 0, 0, height, width]], device=latents.device)
        added = {
            "text_embeds": conditions.pooled.to(self.dtype),
            "time_ids": size.to(self.dtype).expand(len(latents), -1),
        }
        inputs = latents.to(self.dtype), timestep, conditions.embeddings.to(self.dtype)
        prediction: Tensor = self.trunk(*inputs, added_cond_kwargs=added, return_dict=False)[0]
        return prediction.to(latents.dtype)

    def encode_prompts(self, prompts: Sequence[str]) -> Conditions:
        """Both encoders' last layer but one, and the pooled vector of the second."""
        encoded, _, pooled, _ = self.pipeline.encode_prompt(
            list(prompts), device=self.device, do_classifier_free_guidance=False
        )
        return Conditions(encoded.float(), pooled.float())

    def unconditional(self) -> Conditions:
        """Zeros where the model was trained so, else the encoding of the empty prompt."""
        empty = self.encode_prompts([""])
        if not self.pipeline.config.force_zeros_for_empty_prompt:
            return empty
        assert empty.pooled is not None
        return Conditions(torch.zeros_like(empty.embeddings), torch.zeros_like(empty.pooled))
