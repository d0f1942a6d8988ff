"""Rewriting tiny transformers models as open_clip directories with the same weights.

An independent implementation of the same architecture: what both compute must agree.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

Weights = dict[str, Tensor]

#: Name under which a tiny SigLIP vision tower is known to timm, which open_clip builds it with.
TINY_TOWER = "vit_tiny_siglip_for_tests"


@timm.models.register_model
def vit_tiny_siglip_for_tests(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """Vision tower of ``tiny_models.build_siglip`` with its default sizes."""
    kwargs.pop("pretrained_cfg", None)
    kwargs.pop("pretrained_cfg_overlay", None)
    kwargs.pop("cache_dir", None)
    return VisionTransformer(
        img_size=32,
        patch_size=8,
        embed_dim=32,
        depth=2,
        num_heads=2,
        mlp_ratio=2,
        class_token=False,
        act_layer="gelu_tanh",
        **kwargs,
    )


def convert_siglip(source: Path, target: Path) -> Path:
    """Write the ``SiglipModel`` in ``source`` as an open_clip directory."""
    weights = load_file(source / "model.safetensors")
    converted = {
        **{f"visual.trunk.{k}": v for k, v in _siglip_vision(weights).items()},
        **{f"text.{k}": v for k, v in _siglip_text(weights).items()},
        "logit_scale": weights["logit_scale"].squeeze(),
        "logit_bias": weights["logit_bias"].squeeze(),
    }
    text = json.loads((source / "config.json").read_text())["text_config"]
    config = {
        "embed_dim": 32,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 32,
            "timm_model_name": TINY_TOWER,
            "timm_model_pretrained": False,
            "timm_pool": "map",
            "timm_proj": "none",
        },
        "text_cfg": {
            "context_length": text["max_position_embeddings"],
            "vocab_size": text["vocab_size"],
            "hf_tokenizer_name": "tiny",
            "tokenizer_kwargs": {"clean": "canonicalize"},
            "width": 32,
            "heads": 2,
            "layers": 2,
            "mlp_ratio": 2,
            "no_causal_mask": True,
            "proj_bias": True,
            "pool_type": "last",
            "norm_kwargs": {"eps": 1e-6},
            "act_kwargs": {"approximate": "tanh"},
        },
    }
    half = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"}
    return _write(source, target, config, {**half, "resize_mode": "squash"}, converted)


def convert_clip(source: Path, target: Path, *, hub_tokenizer: bool) -> Path:
    """Write the ``CLIPModel`` or ``MetaClip2Model`` in ``source`` as an open_clip directory.

    Args:
        source: The transformers directory.
        target: Where to write.
        hub_tokenizer: Whether open_clip uses the tokenizer files of ``source`` and pools its EOS,
            as for MetaCLIP 2; else open_clip's own byte-pair encoding.
    """
    weights = load_file(source / "model.safetensors")
    text = json.loads((source / "config.json").read_text())["text_config"]
    text_config = {
        "context_length": text["max_position_embeddings"],
        "vocab_size": text["vocab_size"],
        "width": 32,
        "heads": 2,
        "layers": 2,
        "mlp_ratio": 2,
    }
    if hub_tokenizer:
        text_config |= {
            "hf_tokenizer_name": "tiny",
            "pool_type": "eos",
            "eos_id": text["eos_token_id"],
        }
    vision = {
        "image_size": 32,
        "layers": 2,
        "width": 32,
        "head_width": 16,
        "patch_size": 8,
        "mlp_ratio": 2,
    }
    config = {
        "embed_dim": 32,
        "quick_gelu": True,
        "vision_cfg": vision,
        "text_cfg": text_config,
    }
    return _write(source, target, config, {}, _clip(weights))


def _write(source: Path, target: Path, config: dict, preprocess: dict, weights: Weights) -> Path:
    target.mkdir(parents=True)
    for path in source.glob("tokenizer*.json"):
        shutil.copy(path, target / path.name)
    settings = {"model_cfg": config, "preprocess_cfg": preprocess}
    (target / "open_clip_config.json").write_text(json.dumps(settings))
    tensors = {name: tensor.contiguous() for name, tensor in weights.items()}
    save_file(tensors, target / "open_clip_model.safetensors")
    return target


def _qkv(weights: Weights, prefix: str, kind: str) -> Tensor:
    return torch.cat([weights[f"{prefix}.{part}_proj.{kind}"] for part in "qkv"])


def _siglip_vision(weights: Weights) -> Weights:
    source = "vision_model."
    embeddings = f"{source}embeddings."
    converted = {
        "patch_embed.proj.weight": weights[f"{embeddings}patch_embedding.weight"],
        "patch_embed.proj.bias": weights[f"{embeddings}patch_embedding.bias"],
        "pos_embed": weights[f"{embeddings}position_embedding.weight"][None],
        "attn_pool.latent": weights[f"{source}head.probe"],
    }
    for kind in ("weight", "bias"):
        attention = weights[f"{source}head.attention.in_proj_{kind}"]
        converted[f"attn_pool.q.{kind}"] = attention[:32]
        converted[f"attn_pool.kv.{kind}"] = attention[32:]
        names = {
            "norm": "post_layernorm",
            "attn_pool.proj": "head.attention.out_proj",
            "attn_pool.norm": "head.layernorm",
            "attn_pool.mlp.fc1": "head.mlp.fc1",
            "attn_pool.mlp.fc2": "head.mlp.fc2",
        }
        for ours, theirs in names.items():
            converted[f"{ours}.{kind}"] = weights[f"{source}{theirs}.{kind}"]
        for layer in range(2):
            block, theirs = f"blocks.{layer}", f"{source}encoder.layers.{layer}"
            converted[f"{block}.attn.qkv.{kind}"] = _qkv(weights, f"{theirs}.self_attn", kind)
            parts = {
                "norm1": "layer_norm1",
                "norm2": "layer_norm2",
                "attn.proj": "self_attn.out_proj",
                "mlp.fc1": "mlp.fc1",
                "mlp.fc2": "mlp.fc2",
            }
            for ours, part in parts.items():
                converted[f"{block}.{ours}.{kind}"] = weights[f"{theirs}.{part}.{kind}"]
    return converted


def _transformer(weights: Weights, source: str, target: str) -> Weights:
    """Residual blocks of open_clip's own transformer."""
    converted = {}
    for layer in range(2):
        block, theirs = f"{target}resblocks.{layer}", f"{source}encoder.layers.{layer}"
        for kind in ("weight", "bias"):
            converted[f"{block}.attn.in_proj_{kind}"] = _qkv(weights, f"{theirs}.self_attn", kind)
            parts = {
                "ln_1": "layer_norm1",
                "ln_2": "layer_norm2",
                "attn.out_proj": "self_attn.out_proj",
                "mlp.c_fc": "mlp.fc1",
                "mlp.c_proj": "mlp.fc2",
            }
            for ours, part in parts.items():
                converted[f"{block}.{ours}.{kind}"] = weights[f"{theirs}.{part}.{kind}"]
    return converted


def _text(weights: Weights) -> Weights:
    source = "text_model."
    return {
        "token_embedding.weight": weights[f"{source}embeddings.token_embedding.weight"],
        "positional_embedding": weights[f"{source}embeddings.position_embedding.weight"],
        "ln_final.weight": weights[f"{source}final_layer_norm.weight"],
        "ln_final.bias": weights[f"{source}final_layer_norm.bias"],
        **_transformer(weights, source, "transformer."),
    }


def _siglip_text(weights: Weights) -> Weights:
    head = {
        f"text_projection.{kind}": weights[f"text_model.head.{kind}"] for kind in ("weight", "bias")
    }
    return {**_text(weights), **head}


def _clip(weights: Weights) -> Weights:
    source = "vision_model."
    vision = {
        "class_embedding": weights[f"{source}embeddings.class_embedding"],
        "positional_embedding": weights[f"{source}embeddings.position_embedding.weight"],
        "conv1.weight": weights[f"{source}embeddings.patch_embedding.weight"],
        "proj": weights["visual_projection.weight"].T,
        **_transformer(weights, source, "transformer."),
    }
    for kind in ("weight", "bias"):
        vision[f"ln_pre.{kind}"] = weights[f"{source}pre_layrnorm.{kind}"]
        vision[f"ln_post.{kind}"] = weights[f"{source}post_layernorm.{kind}"]
    return {
        **{f"visual.{name}": tensor for name, tensor in vision.items()},
        **_text(weights),
        "text_projection": weights["text_projection.weight"].T,
        "logit_scale": weights["logit_scale"],
    }
