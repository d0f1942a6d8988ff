"""A tiny random Stable Diffusion pipeline in diffusers' directory format.

Everything that a real one has (CLIP text encoder with a working tokenizer, UNet with self- and
cross-attention, variational autoencoder, scheduler), at a size at which a step takes milliseconds.
The weights are drawn from ``seed``; nothing is downloaded.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import AutoTokenizer, CLIPTextConfig, CLIPTextModel

from tests.support.tiny_models import build_clip

#: Pixels of an image for one of the latent.
DOWNSAMPLING = 2


def build_stable_diffusion(
    directory: str | Path,
    *,
    seed: int = 0,
    sample_size: int = 8,
    prediction_type: str = "epsilon",
) -> Path:
    """Write the pipeline to ``directory``; its images are ``sample_size * DOWNSAMPLING`` wide."""
    directory = Path(directory)
    build_clip(directory / "tokenizer_source", seed=seed)
    tokenizer = AutoTokenizer.from_pretrained(directory / "tokenizer_source")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = StableDiffusionPipeline(
            vae=_vae(sample_size),
            text_encoder=_text_encoder(tokenizer),
            tokenizer=tokenizer,
            unet=_unet(sample_size),
            scheduler=DDPMScheduler(
                beta_start=0.00085,
                beta_end=0.012,
                beta_schedule="scaled_linear",
                clip_sample=False,
                steps_offset=1,
                prediction_type=prediction_type,
            ),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipeline.save_pretrained(directory)
    return directory


def _unet(sample_size: int) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=sample_size,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=4,
        cross_attention_dim=16,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )


def _vae(sample_size: int) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=sample_size * DOWNSAMPLING,
    )


def _text_encoder(tokenizer: object) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),  # type: ignore[arg-type]  # every tokenizer has a length
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            pad_token_id=tokenizer.pad_token_id,  # type: ignore[attr-defined]
            bos_token_id=tokenizer.bos_token_id,  # type: ignore[attr-defined]
            eos_token_id=tokenizer.eos_token_id,  # type: ignore[attr-defined]
        )
    )
