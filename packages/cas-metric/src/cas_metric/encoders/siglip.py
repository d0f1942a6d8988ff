"""SigLIP, SigLIP 2 (fixed resolution) and MedSigLIP.

The text tower was trained on 64 tokens padded with EOS, without an attention mask, and pools the
last position: padding to the longest text of a batch instead gives other embeddings. Images are
squashed to a square. Sources: https://arxiv.org/abs/2303.15343, the checkpoints' model cards.
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

MODEL_TYPES = ("siglip",)


def load(directory: Path, config: dict[str, Any]) -> Towers:
    """Load a directory with ``model_type: siglip``."""
    from transformers import SiglipModel

    model = load_model(SiglipModel, directory)
    tokenizer = HubTokenizer(
        load_tokenizer(directory),
        limit=model.config.text_config.max_position_embeddings,
        # All SigLIP text is lower case; SigLIP 2 uses Gemma's cased tokenizer on it.
        lowercase=True,
    )

    def image_features(pixels: Tensor) -> Tensor:
        return model.get_image_features(pixel_values=pixels).pooler_output

    def text_features(ids: Tensor) -> Tensor:
        return model.get_text_features(input_ids=ids.to(model.device)).pooler_output

    return Towers(
        model=model,
        image_features=image_features,
        text=TextTower(tokenizer, text_features),
        dim=model.config.text_config.projection_size,
        preprocessing=from_processor(
            load_processor(directory),
            model_size=model.config.vision_config.image_size,
            quick_start=is_medsiglip(model.config.vision_config),
        ),
        pooling="attention",
        content=content_digest(directory),
    )


def is_medsiglip(vision_config: Any) -> bool:
    """Whether this is MedSigLIP: of all SigLIP checkpoints it alone has patch 14 at 448 pixels."""
    return (vision_config.image_size, vision_config.patch_size) == (448, 14)
