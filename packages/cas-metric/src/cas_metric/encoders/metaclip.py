"""CLIP and MetaCLIP 2.

77 tokens, a causal text tower that is pooled at the first EOS, so that padding behind it changes
nothing; images resized by their shortest side and cropped to the centre. The activation
(``quick_gelu`` or ``gelu``) is the configuration's.
Sources: https://arxiv.org/abs/2103.00020, https://arxiv.org/abs/2507.22062, the model cards.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from cas_metric.encoders.checkpoint import load_model, load_processor, load_tokenizer
from cas_metric.encoders.model import Towers
from cas_metric.encoders.preprocessing import from_processor
from cas_metric.encoders.text import HubTokenizer, TextTower
from cas_metric.encoders.weights import content_digest
from cas_metric.errors import InputError

MODEL_TYPES = ("clip", "metaclip_2")


def load(directory: Path, config: dict[str, Any]) -> Towers:
    """Load a directory with ``model_type: clip`` or ``metaclip_2``."""
    from transformers import CLIPModel, MetaClip2Model

    model = load_model(CLIPModel if config["model_type"] == "clip" else MetaClip2Model, directory)
    tokenizer = load_tokenizer(directory)
    check_pooled_token(directory, config["model_type"], model.config.text_config, tokenizer)

    def image_features(pixels: Tensor) -> Tensor:
        return model.get_image_features(pixel_values=pixels).pooler_output

    def text_features(ids: Tensor) -> Tensor:
        return model.get_text_features(input_ids=ids.to(model.device)).pooler_output

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
