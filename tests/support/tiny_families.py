"""Tiny random pipelines of SDXL, SD3 and Flux, in diffusers' directory format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    AutoTokenizer,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from tests.support.tiny_models import CORPUS, build_clip

_WIDTH = 16


def build_sdxl(directory: Path) -> Path:
    """Stable Diffusion XL: two text encoders, pooled vector, six time ids.

    Their settings say ``eos_token_id: 2`` as the released ones do, whose tokenizer ends otherwise.
    """
    tokenizer = _clip_tokenizer(directory)
    torch.manual_seed(0)
    pipeline = StableDiffusionXLPipeline(
        vae=_vae(latent_channels=4),
        text_encoder=_clip(tokenizer, CLIPTextModel, end=2),
        text_encoder_2=_clip(tokenizer, CLIPTextModelWithProjection, end=2),
        tokenizer=tokenizer,
        tokenizer_2=_clip_tokenizer(directory),
        unet=UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=4,
            attention_head_dim=(2, 4),
            cross_attention_dim=2 * _WIDTH,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 1),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + _WIDTH,
        ),
        scheduler=DDPMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False
        ),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )
    return _saved(pipeline, directory)


def build_sd3(directory: Path, *, with_t5: bool = True) -> Path:
    """Stable Diffusion 3: three text encoders, joint attention, flow matching with shift 3."""
    tokenizer = _clip_tokenizer(directory)
    torch.manual_seed(0)
    pipeline = StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=2 * _WIDTH,
            caption_projection_dim=32,
            pooled_projection_dim=2 * _WIDTH,
            pos_embed_max_size=16,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_vae(latent_channels=4, shift_factor=0.06),
        text_encoder=_clip(tokenizer, CLIPTextModelWithProjection),
        text_encoder_2=_clip(tokenizer, CLIPTextModelWithProjection),
        text_encoder_3=_t5(2 * _WIDTH) if with_t5 else None,
        tokenizer=tokenizer,
        tokenizer_2=_clip_tokenizer(directory),
        tokenizer_3=_t5_tokenizer() if with_t5 else None,
    )
    return _saved(pipeline, directory)


def build_flux(directory: Path) -> Path:
    """Flux: packed latents, guidance as an input, a shift that grows with the image."""
    tokenizer = _clip_tokenizer(directory)
    torch.manual_seed(0)
    pipeline = FluxPipeline(
        transformer=FluxTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=_WIDTH,
            guidance_embeds=True,
            axes_dims_rope=(4, 4, 8),
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=_vae(latent_channels=4, shift_factor=0.1),
        text_encoder=_clip(tokenizer, CLIPTextModel),
        text_encoder_2=_t5(32),
        tokenizer=tokenizer,
        tokenizer_2=_t5_tokenizer(),
    )
    return _saved(pipeline, directory)


def build_sana(directory: Path) -> Path:
    """Sana: an autoencoder without a variance, a language model, cross-attention with a mask."""
    tokenizer = _t5_tokenizer()
    torch.manual_seed(0)
    side = {"attention_head_dim": 4, "latent_channels": 4}
    for coder in ("encoder", "decoder"):
        side |= {
            f"{coder}_block_types": ("ResBlock", "EfficientViTBlock"),
            f"{coder}_block_out_channels": (8, 8),
            f"{coder}_layers_per_block": (1, 1),
            f"{coder}_qkv_multiscales": ((), (5,)),
        }
    pipeline = SanaPipeline(
        transformer=SanaTransformer2DModel(
            in_channels=4,
            out_channels=4,
            num_attention_heads=2,
            attention_head_dim=8,
            num_layers=2,
            num_cross_attention_heads=2,
            cross_attention_head_dim=8,
            cross_attention_dim=16,
            caption_channels=_WIDTH,
            sample_size=8,
        ),
        scheduler=DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
        vae=AutoencoderDC(**side, scaling_factor=0.4),
        text_encoder=Gemma2Model(
            Gemma2Config(
                vocab_size=len(tokenizer),
                hidden_size=_WIDTH,
                intermediate_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                num_key_value_heads=1,
                head_dim=8,
                pad_token_id=tokenizer.pad_token_id,
                bos_token_id=1,
                eos_token_id=1,
            )
        ),
        tokenizer=tokenizer,
    )
    return _saved(pipeline, directory)


def _saved(pipeline: Any, directory: Path) -> Path:
    # Transformers start with zeros in their last layers, and so would predict nothing.
    trunk = pipeline.components.get("transformer")
    for parameter in [] if trunk is None else trunk.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    pipeline.save_pretrained(directory / "pipeline")
    return directory / "pipeline"


def _clip_tokenizer(directory: Path) -> Any:
    source = directory / "tokenizer_source"
    if not source.is_dir():
        build_clip(source)
    return AutoTokenizer.from_pretrained(source)


def _clip(tokenizer: Any, cls: type, end: int | None = None) -> Any:
    return cls(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=_WIDTH,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            projection_dim=_WIDTH,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id if end is None else end,
        )
    )


def _t5(width: int) -> T5EncoderModel:
    vocabulary = len(_t5_tokenizer())
    return T5EncoderModel(
        T5Config(vocab_size=vocabulary, d_model=width, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    )


def _t5_tokenizer() -> T5Tokenizer:
    words = sorted({word for line in CORPUS for word in line.lower().split()})
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -2.0)]
    pieces += [(f"▁{word}", -3.0) for word in words]
    return T5Tokenizer(vocab=pieces, extra_ids=0)


def _vae(latent_channels: int, shift_factor: float | None = None) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=latent_channels,
        sample_size=16,
        shift_factor=shift_factor,
    )
