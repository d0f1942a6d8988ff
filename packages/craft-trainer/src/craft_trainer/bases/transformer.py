"""Stable Diffusion 3 and Flux: a transformer over image and text together, and flow matching.

Textual inversion is not offered: diffusers reads learned tokens into neither pipeline.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from craft_trainer.bases.base import DiffusionModel
from craft_trainer.bases.conditions import Conditions
from craft_trainer.config.schema import Sampling
from craft_trainer.diffusion.draft import Guidance, Scheduler, UnconditionalGradient
from craft_trainer.diffusion.flow import flow_process, flow_sampler
from craft_trainer.diffusion.forward import ForwardProcess


class FlowTransformer(DiffusionModel):
    """What the two have in common."""

    trunk_name: ClassVar[str] = "transformer"
    #: Whether the pipeline hands the scheduler evenly spaced noise levels.
    linear_sigmas: ClassVar[bool]

    def forward_process(self, latent: Sequence[int]) -> ForwardProcess:
        """Flow matching with the base model's shift."""
        return flow_process(self._scheduler_config, self._patches(latent))

    def sampler(self, sampling: Sampling, latent: Sequence[int]) -> Scheduler:
        """The noise levels of the pipeline; ``sampling.flow_sampler`` chooses the step."""
        return flow_sampler(
            self._scheduler_config,
            sampling.steps,
            sampling.flow_sampler,
            tokens=self._patches(latent),
            linear_sigmas=self.linear_sigmas,
        )

    @property
    def _scheduler_config(self) -> dict[str, Any]:
        return dict(self.pipeline.scheduler.config)

    def _patches(self, latent: Sequence[int]) -> int:
        _, height, width = latent
        return (height // self.latent_multiple) * (width // self.latent_multiple)


class StableDiffusion3(FlowTransformer):
    """Stable Diffusion 3 and 3.5: two CLIP encoders and T5, which may be left out."""

    pipeline_name: ClassVar[str] = "StableDiffusion3Pipeline"
    linear_sigmas: ClassVar[bool] = False

    @property
    def lora_targets(self) -> str:
        """Joint attention, in which text and image meet.

        The last block discards what its text tokens attend to: their query there has no effect on
        the image, and gets no adapter.
        """
        last = len(self.pipeline.transformer.transformer_blocks) - 1
        shared = r"to_q|to_k|to_v|to_out\.0|add_k_proj|add_v_proj|to_add_out"
        earlier = rf"(?!{last}\.)\d+\.attn\.add_q_proj"
        return rf"transformer_blocks\.(\d+\.attn\.({shared})|{earlier})"

    @property
    def latent_channels(self) -> int:
        """C of a latent."""
        return self.pipeline.transformer.config.in_channels

    @property
    def latent_multiple(self) -> int:
        """Side of a patch."""
        return self.pipeline.transformer.config.patch_size

    def denoise(self, latents: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
        """The predicted velocity; see :meth:`DiffusionModel.denoise`."""
        assert conditions.pooled is not None
        prediction = self.trunk(
            hidden_states=latents.to(self.dtype),
            timestep=timestep.to(latents.device).expand(len(latents)),
            encoder_hidden_states=conditions.embeddings.to(self.dtype),
            pooled_projections=conditions.pooled.to(self.dtype),
            return_dict=False,
        )[0]
        return prediction.to(latents.dtype)

    def encode_prompts(self, prompts: Sequence[str]) -> Conditions:
        """The tokens of all encoders one after the other, and the pooled vectors of CLIP."""
        texts = list(prompts)
        encoded, _, pooled, _ = self.pipeline.encode_prompt(
            texts, texts, texts, device=self.device, do_classifier_free_guidance=False
        )
        return Conditions(encoded.float(), pooled.float())


class Flux(FlowTransformer):
    """Flux.1: latents in packs of 2 × 2, and guidance that the model is told instead of computed.

    Its scale is :attr:`embedded_guidance`; there is no unconditional branch, so a step costs one
    forward.
    """

    pipeline_name: ClassVar[str] = "FluxPipeline"
    linear_sigmas: ClassVar[bool] = True

    @property
    def lora_targets(self) -> str:
        """Attention of both kinds of blocks."""
        double = r"to_q|to_k|to_v|to_out\.0|add_q_proj|add_k_proj|add_v_proj|to_add_out"
        return rf"(single_)?transformer_blocks\.\d+\.attn\.({double})"

    @property
    def latent_channels(self) -> int:
        """C of a latent before packing."""
        return self.pipeline.transformer.config.in_channels // 4

    @property
    def latent_multiple(self) -> int:
        """Side of a pack."""
        return 2

    def guidance(self, scale: float, gradient: UnconditionalGradient = "full") -> Guidance:
        """None beside the embedded one."""
        return Guidance(1.0, Conditions(torch.zeros(1, 1, 1)), gradient)

    def denoise(self, latents: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
        """The predicted velocity; see :meth:`DiffusionModel.denoise`."""
        assert conditions.pooled is not None
        batch, _, height, width = latents.shape
        told = None
        if self.pipeline.transformer.config.guidance_embeds:
            told = torch.full((batch,), self.embedded_guidance, device=latents.device)
        prediction = self.trunk(
            hidden_states=_pack(latents).to(self.dtype),
            timestep=timestep.to(latents.device).expand(batch).to(self.dtype) / 1000,
            guidance=told,
            pooled_projections=conditions.pooled.to(self.dtype),
            encoder_hidden_states=conditions.embeddings.to(self.dtype),
            txt_ids=torch.zeros(conditions.embeddings.shape[1], 3, device=latents.device),
            img_ids=_positions(height // 2, width // 2, latents.device),
            return_dict=False,
        )[0]
        return _unpack(prediction, height, width).to(latents.dtype)

    def encode_prompts(self, prompts: Sequence[str]) -> Conditions:
        """The tokens of T5, and the pooled vector of CLIP."""
        texts = list(prompts)
        encoded, pooled, _ = self.pipeline.encode_prompt(texts, texts, device=self.device)
        return Conditions(encoded.float(), pooled.float())


def _pack(latents: Tensor) -> Tensor:
    """``(B, C, h, w)`` to ``(B, hw / 4, 4C)``: each 2 × 2 pack is a token, channel by channel."""
    batch, channels, height, width = latents.shape
    cells = latents.reshape(batch, channels, height // 2, 2, width // 2, 2)
    return cells.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def _unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    """The inverse of :func:`_pack`."""
    cells = tokens.unflatten(2, (-1, 2, 2)).unflatten(1, (height // 2, width // 2))
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(len(tokens), -1, height, width)


def _positions(height: int, width: int, device: torch.device) -> Tensor:
    """``(hw, 3)``: nothing, row and column of each token."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).flatten(0, 1).to(device)
