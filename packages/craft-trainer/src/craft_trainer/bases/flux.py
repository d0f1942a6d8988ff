"""Flux.1: a flow-matching transformer that is told the guidance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from craft_trainer.bases.flow_transformer import FlowTransformer
from craft_trainer.diffusion.conditions import Conditions
from craft_trainer.diffusion.sampling import Guidance, UnconditionalGradient


class Flux(FlowTransformer):
    """Flux.1: latents in packs of 2 × 2, and guidance that the model is told instead of computed.

    Its scale is :attr:`embedded_guidance`; there is no unconditional branch, so a step costs one
    forward.
    """

    pipeline_name: ClassVar[str] = "FluxPipeline"
    unconditional_branch: ClassVar[bool] = False
    text_tokens: ClassVar[int] = 512
    reader: ClassVar[tuple[str, int | None]] = ("tokenizer_2", 512)

    @property
    def first_level(self) -> float | None:
        """The pipeline hands the scheduler σ = 1, …, 1/T."""
        return 1.0

    @property
    def lora_targets(self) -> str:
        """Attention of both kinds of blocks."""
        double = r"to_q|to_k|to_v|to_out\.0|add_q_proj|add_k_proj|add_v_proj|to_add_out"
        return rf"(single_)?transformer_blocks\.\d+\.attn\.({double})"

    @property
    def latent_channels(self) -> int:
        """C of a latent before packing."""
        return int(self.pipeline.transformer.config.in_channels // 4)

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
        prediction: Tensor = self.trunk(
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
    size = len(tokens), height // 2, width // 2, -1, 2, 2
    cells = tokens.reshape(size)
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(len(tokens), -1, height, width)


def _positions(height: int, width: int, device: torch.device) -> Tensor:
    """``(hw, 3)``: nothing, row and column of each token."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).flatten(0, 1).to(device)
