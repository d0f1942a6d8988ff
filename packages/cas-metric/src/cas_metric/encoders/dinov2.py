"""DINOv2 and checkpoints of its architecture, such as RAD-DINO. Images only.

Its processor centre-crops 23% of a square image away, which would hide what memorization looks
for at the borders; here the whole frame is squashed to the crop size. The embedding is the CLS
token after the final layer norm, which is also the model's pooler output.
Sources: https://arxiv.org/abs/2304.07193, https://arxiv.org/abs/2401.10815.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from cas_metric.encoders.checkpoint import load_model, load_processor
from cas_metric.encoders.model import Towers
from cas_metric.encoders.preprocessing import from_processor
from cas_metric.encoders.weights import content_digest

MODEL_TYPES = ("dinov2", "dinov2_with_registers")


def load(directory: Path, config: dict[str, Any]) -> Towers:
    """Load a directory with ``model_type: dinov2`` or ``dinov2_with_registers``."""
    from transformers import Dinov2Model, Dinov2WithRegistersModel

    cls = Dinov2Model if config["model_type"] == "dinov2" else Dinov2WithRegistersModel
    model = load_model(cls, directory)

    def image_features(pixels: Tensor) -> Tensor:
        return model(pixel_values=pixels).last_hidden_state[:, 0]

    return Towers(
        model=model,
        image_features=image_features,
        text=None,
        dim=model.config.hidden_size,
        preprocessing=from_processor(load_processor(directory), full_frame=True),
        pooling="cls token after the final layer norm",
        content=content_digest(directory),
    )
