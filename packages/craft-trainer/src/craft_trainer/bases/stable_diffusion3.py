"""Stable Diffusion 3 and 3.5: a flow-matching transformer with two CLIP encoders and T5."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from craft_trainer.bases.flow_transformer import FlowTransformer
from craft_trainer.diffusion.conditions import Conditions


class StableDiffusion3(FlowTransformer):
    """Stable Diffusion 3 and 3.5: two CLIP encoders and T5, which may be left out."""

    pipeline_name: ClassVar[str] = "StableDiffusion3Pipeline"
    text_tokens: ClassVar[int] = 77 + 256  # those of T5 come after those of CLIP
    reader: ClassVar[tuple[str, int | None]] = ("tokenizer_3", 256)

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
        return int(self.pipeline.transformer.config.in_channels)

    @property
    def latent_multiple(self) -> int:
        """Side of a patch."""
        return int(self.pipeline.transformer.config.patch_size)

    def denoise(self, latents: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
        """The predicted velocity; see :meth:`DiffusionModel.denoise`."""
        assert conditions.pooled is not None
        prediction: Tensor = self.trunk(
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
