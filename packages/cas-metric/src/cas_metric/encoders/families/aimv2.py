"""AIMv2: the vision model alone, or with the text tower of its LiT checkpoint.

The vision model has no CLS token. Its embedding is the attention-pooled head where the checkpoint
has one, else the mean of the last layer's patches. The text tower is causal and pooled at EOS.
Source: https://arxiv.org/abs/2411.14402.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cas_metric.encoders.checkpoint import load_model, vision_towers
from cas_metric.encoders.families.clip import two_towers
from cas_metric.encoders.family import Family

if TYPE_CHECKING:
    from torch import Tensor

    from cas_metric.encoders.model import Towers


def load(directory: Path, config: dict[str, Any]) -> Towers:
    """Load a directory with ``model_type: aimv2`` or ``aimv2_vision_model``."""
    from transformers import Aimv2Model, Aimv2VisionModel

    if config["model_type"] == "aimv2":
        return two_towers(load_model(Aimv2Model, directory), directory, "aimv2")
    model = load_model(Aimv2VisionModel, directory)

    def image_features(pixels: Tensor) -> Tensor:
        output = model(pixel_values=pixels)
        if output.pooler_output is not None:
            return output.pooler_output
        return output.last_hidden_state.mean(dim=1)

    pooling = "attention" if model.config.use_head else "mean of the patches"
    return vision_towers(
        model, directory, image_features, pooling, model_size=model.config.image_size
    )


FAMILY = Family(
    name="aimv2",
    load=load,
    model_types=("aimv2", "aimv2_vision_model"),
    image_only=lambda config: config["model_type"] == "aimv2_vision_model",
)
