"""Stable Diffusion 1.x and 2.x: a UNet, and the diffusion loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

from torch import Tensor

from craft_trainer.bases.base import DiffusionModel, TextTower
from craft_trainer.config.sections import Sampling
from craft_trainer.diffusion.conditions import Conditions
from craft_trainer.diffusion.forward_process import Diffusion, ForwardProcess
from craft_trainer.diffusion.sampling import Scheduler, sampling_scheduler

#: Cross-attention alone. Bare module names such as ``to_q`` would hit self-attention as well.
CROSS_ATTENTION: Final = r".*attn2\.(to_q|to_k|to_v|to_out\.0)"


class StableDiffusion(DiffusionModel):
    """Stable Diffusion 1.x and 2.x."""

    pipeline_name: ClassVar[str] = "StableDiffusionPipeline"
    trunk_name: ClassVar[str] = "unet"
    towers: ClassVar[tuple[TextTower, ...]] = (TextTower("", "tokenizer", "text_encoder"),)

    @property
    def lora_targets(self) -> str:
        """Cross-attention, as in the paper (§4.1.3)."""
        return CROSS_ATTENTION

    @property
    def condition_sizes(self) -> tuple[int, int]:
        """Of the text encoders; XL's pooled vector comes with the embedded sizes of an image."""
        settings: Any = self.trunk.config
        pooled = 0
        if settings.addition_embed_type == "text_time":
            ids = 6 * settings.addition_time_embed_dim
            pooled = settings.projection_class_embeddings_input_dim - ids
        return int(settings.cross_attention_dim), int(pooled)

    @property
    def latent_channels(self) -> int:
        """C of a latent."""
        return int(self.pipeline.unet.config.in_channels)

    @property
    def latent_multiple(self) -> int:
        """The UNet halves a latent once a level."""
        return int(2 ** (len(self.pipeline.unet.config.block_out_channels) - 1))

    @property
    def prediction_type(self) -> str:
        """``epsilon`` or ``v_prediction``, as the base model's scheduler says."""
        return str(self.pipeline.scheduler.config.prediction_type)

    def denoise(self, latents: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
        """The UNet's prediction; see :meth:`DiffusionModel.denoise`."""
        inputs = latents.to(self.dtype), timestep, conditions.embeddings.to(self.dtype)
        prediction: Tensor = self.trunk(*inputs, return_dict=False)[0]
        return prediction.to(latents.dtype)

    def encode_prompts(self, prompts: Sequence[str]) -> Conditions:
        """The text encoder's last layer; learned tokens of several vectors are spelt out."""
        encoded, _ = self.pipeline.encode_prompt(list(prompts), self.device, 1, False)
        return Conditions(encoded.float())

    def forward_process(self, latent: Sequence[int]) -> ForwardProcess:
        """Diffusion with the base model's betas and prediction type."""
        return Diffusion.of(dict(self.pipeline.scheduler.config), self.device)

    def sampler(self, sampling: Sampling, latent: Sequence[int]) -> Scheduler:
        """DDPM, as the paper samples (Appendix I), or what ``sampling.sampler`` names."""
        config = dict(self.pipeline.scheduler.config)
        spacing, kind = sampling.timestep_spacing, sampling.sampler or "ddpm"
        return sampling_scheduler(config, sampling.steps, spacing, self.device, kind)

    @classmethod
    def draws_noise(cls, sampling: Sampling) -> bool:
        """DDPM's do, and those of the stochastic equation."""
        return sampling.sampler in (None, "ddpm", "dpmpp_2m_sde")
