"""CLIP, MetaCLIP 2 and long-text CLIPs.

77 tokens, or as many positions as the configuration has; a causal text tower that is pooled at the
first EOS, so that padding behind it changes nothing; images resized by their shortest side and
cropped to the centre. The activation (``quick_gelu`` or ``gelu``) is the configuration's.
Sources: https://arxiv.org/abs/2103.00020, https://arxiv.org/abs/2507.22062, the model cards.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cas_metric.encoders.checkpoint import load_model, load_processor, load_tokenizer
from cas_metric.encoders.family import EncoderInfo, Family
from cas_metric.encoders.weights import content_digest
from cas_metric.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from cas_metric.encoders.model import Towers


def load(directory: Path, config: dict[str, Any]) -> Towers:
    """Load a directory with ``model_type: clip`` or ``metaclip_2``."""
    from transformers import CLIPModel, MetaClip2Model

    model_type = str(config["model_type"])
    model = load_model(CLIPModel if model_type == "clip" else MetaClip2Model, directory)
    return two_towers(model, directory, model_type)


def two_towers(model: Any, directory: Path, model_type: str) -> Towers:
    """The towers of a model with CLIP's interface: projected image and causal text features."""
    import torch

    from cas_metric.encoders.model import Towers
    from cas_metric.encoders.preprocessing import from_processor
    from cas_metric.encoders.text import HubTokenizer, TextTower

    tokenizer = load_tokenizer(directory)
    check_pooled_token(directory, model_type, model.config.text_config, tokenizer)

    def image_features(pixels: Tensor) -> Tensor:
        return model.get_image_features(pixel_values=pixels).pooler_output

    def text_features(ids: Tensor) -> Tensor:
        ids = ids.to(model.device)
        if model_type != "aimv2":
            return model.get_text_features(input_ids=ids).pooler_output
        # AIMv2's tower is causal only where a mask says so, and one of ones alone is left away.
        length = ids.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=ids.device).tril()
        mask = causal.expand(len(ids), 1, length, length)
        return model.get_text_features(input_ids=ids, attention_mask=mask).pooler_output

    limit = model.config.text_config.max_position_embeddings
    return Towers(
        model=model,
        image_features=image_features,
        text=TextTower(HubTokenizer(tokenizer, limit=limit), text_features, causal=True),
        dim=model.config.projection_dim,
        preprocessing=from_processor(
            load_processor(directory), model_size=model.config.vision_config.image_size
        ),
        pooling="cls, projected",
        content=content_digest(directory),
    )


def check_pooled_token(directory: Path, model_type: str, config: Any, tokenizer: Any) -> None:
    """Refuse a checkpoint whose text tower would pool another position than EOS.

    The tower looks for ``eos_token_id`` of the configuration. Early CLIP configurations say 2
    there; transformers then pools the highest token id, which must be EOS.
    """
    eos = tokenizer.eos_token_id
    if model_type == "clip" and config.eos_token_id == 2:
        fits = eos == len(tokenizer) - 1
    else:
        fits = eos == config.eos_token_id
    if not fits:
        raise InputError(
            f"{directory}: the text tower pools token {config.eos_token_id}, but the tokenizer "
            f"ends a text with {tokenizer.eos_token!r} = {eos}",
            fix="take config.json and the tokenizer from the same checkpoint",
        )


FAMILY = Family(
    name="clip",
    load=load,
    model_types=("clip", "metaclip_2"),
    encoders=(
        EncoderInfo(
            "metaclip2",
            "clip",
            "facebook/metaclip-2-worldwide-huge-quickgelu",
            "2431b607fc8e05dd43b73797ba1a7a042514bcf4",
            "CC-BY-NC-4.0",
            77,
            224,
            7440,
            purpose="out-of-family check",
        ),
        EncoderInfo(
            "clip",
            "clip",
            "openai/clip-vit-large-patch14",
            "32bd64288804d66eefd0ccbe215aa642df71cc41",
            "MIT",
            77,
            224,
            1710,
        ),
        EncoderInfo(
            "monet",
            "clip",
            "suinleelab/monet",
            "main",
            "see its card",
            77,
            224,
            0,
            purpose="dermatology",
        ),
    ),
)
