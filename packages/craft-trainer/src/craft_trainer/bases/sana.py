"""Sana (Xie et al. 2024): a linear transformer on few latents, a language model reads the text.

Its autoencoder draws no latents but has one for an image, a 32nd of its side. The language model is
given the instruction that the pipeline gives it.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, ClassVar, Final

import torch
from torch import Tensor

from craft_trainer.bases.flow_transformer import FlowTransformer
from craft_trainer.bases.stable_diffusion import CROSS_ATTENTION
from craft_trainer.config.sections import Sampling
from craft_trainer.diffusion.conditions import Conditions
from craft_trainer.diffusion.flow_matching import FlowSampler

#: Log-variance of a latent that is not drawn.
_CERTAIN: Final = -30.0


class Sana(FlowTransformer):
    """Sana; a condition's pooled vector is the mask of its tokens."""

    pipeline_name: ClassVar[str] = "SanaPipeline"
    text_tokens: ClassVar[int] = 300
    reader: ClassVar[tuple[str, int | None]] = ("tokenizer", 300)  # Gemma itself would read more
    #: Steps are Euler's, to which the first order of its solver comes.
    pipeline_steps: ClassVar[tuple[str, ...]] = (
        'if "solver_order" in pipe.scheduler.config:',
        "    pipe.scheduler = pipe.scheduler.from_config(pipe.scheduler.config, solver_order=1)",
    )
    #: Or it would draw at another size and resize.
    pipeline_options: ClassVar[tuple[str, ...]] = ("    use_resolution_binning=False,",)

    @property
    def lora_targets(self) -> str:
        """Cross-attention, as of Stable Diffusion."""
        return CROSS_ATTENTION

    @property
    def latent_channels(self) -> int:
        """C of a latent."""
        return int(self.pipeline.transformer.config.in_channels)

    @property
    def latent_multiple(self) -> int:
        """Side of a patch."""
        return int(self.pipeline.transformer.config.patch_size)

    @property
    def condition_sizes(self) -> tuple[int, int]:
        """Width of the language model, and the mask."""
        return int(self.pipeline.transformer.config.caption_channels), self.text_tokens

    def denoise(self, latents: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
        """The predicted velocity; see :meth:`DiffusionModel.denoise`."""
        settings: Any = self.trunk.config
        told = timestep.to(latents.device).expand(len(latents)) * settings.timestep_scale
        prediction: Tensor = self.trunk(
            latents.to(self.dtype),
            encoder_hidden_states=conditions.embeddings.to(self.dtype),
            encoder_attention_mask=conditions.pooled,
            timestep=told,
            return_dict=False,
        )[0]
        return prediction[:, : latents.shape[1]].to(latents.dtype)

    def encode_prompts(self, prompts: Sequence[str]) -> Conditions:
        """The language model's last layer, after the pipeline's own instruction."""
        call = inspect.signature(type(self.pipeline).__call__)
        return self._read(prompts, call.parameters["complex_human_instruction"].default)

    def unconditional(self) -> Conditions:
        """The empty prompt, without the instruction, as the pipeline has it."""
        return self._read([""], None)

    def _read(self, prompts: Sequence[str], instruction: Any) -> Conditions:
        encoded, mask, _, _ = self.pipeline.encode_prompt(
            list(prompts),
            do_classifier_free_guidance=False,
            device=self.device,
            max_sequence_length=self.text_tokens,
            complex_human_instruction=instruction,
        )
        return Conditions(encoded.float(), mask.float())

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> Tensor:
        """See :meth:`DiffusionModel.encode_images`; the variance is next to nothing."""
        vae = self.pipeline.vae
        mean: Tensor = vae.encode(images.to(self.device, vae.dtype) * 2 - 1).latent
        return torch.cat([mean, torch.full_like(mean, _CERTAIN)], dim=1)

    def sampler(self, sampling: Sampling, latent: Sequence[int]) -> FlowSampler:
        """As of the family; levels and whole timesteps of a multistep solver are its own."""
        own = self.pipeline.scheduler
        if not own.config.get("use_flow_sigmas"):
            return super().sampler(sampling, latent)
        solver = type(own).from_config(own.config)
        solver.set_timesteps(sampling.steps, device="cpu")
        return FlowSampler(solver.sigmas, solver.timesteps, sampling.flow_sampler)

    @property
    def _scheduler_config(self) -> dict[str, Any]:
        """Its multistep solver calls the shift otherwise than Euler's steps do."""
        own = super()._scheduler_config
        return {"shift": own.get("flow_shift", own.get("shift", 1.0))}
