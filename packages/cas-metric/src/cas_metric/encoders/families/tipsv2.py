"""TIPS v2: images squashed to a square and not normalised, texts pooled over their own tokens.

The text tower is given a mask of its padding, and its tokenizer adds neither a beginning nor an
end. The image embedding is the CLS token. Source: the checkpoints' model cards.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cas_metric.encoders.checkpoint import load_model, load_processor, load_tokenizer
from cas_metric.encoders.family import Family
from cas_metric.encoders.weights import content_digest

if TYPE_CHECKING:
    from torch import Tensor

    from cas_metric.encoders.model import Towers


def load(directory: Path, config: dict[str, Any]) -> Towers:
    """Load a directory with ``model_type: tipsv2``."""
    from transformers import Tipsv2Model

    from cas_metric.encoders.model import Towers
    from cas_metric.encoders.preprocessing import from_processor
    from cas_metric.encoders.text import HubTokenizer, TextTower

    model = load_model(Tipsv2Model, directory)
    tokenizer = load_tokenizer(directory, ends=False)

    def image_features(pixels: Tensor) -> Tensor:
        return model.get_image_features(pixel_values=pixels).pooler_output

    def text_features(ids: Tensor) -> Tensor:
        ids = ids.to(model.device)
        mask = (ids != tokenizer.pad_token_id).long()
        return model.get_text_features(input_ids=ids, attention_mask=mask).pooler_output

    limit = model.config.text_config.max_position_embeddings
    return Towers(
        model=model,
        image_features=image_features,
        text=TextTower(HubTokenizer(tokenizer, limit=limit), text_features),
        dim=model.config.vision_config.hidden_size,
        preprocessing=from_processor(load_processor(directory)),
        pooling="cls token",
        content=content_digest(directory),
    )


FAMILY = Family(name="tipsv2", load=load, model_types=("tipsv2",))
