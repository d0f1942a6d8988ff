"""DINOv2, DINOv3 and checkpoints of their architectures, such as RAD-DINO. Images only.

DINOv2's processor centre-crops 23% of a square image away, which would hide what memorization looks
for at the borders; here the whole frame is squashed to the crop size. DINOv3's resizes the whole
frame, on floats rather than on 8 bits. The embedding is the CLS token after the final layer norm,
which is also the models' pooler output.
Sources: https://arxiv.org/abs/2304.07193, https://arxiv.org/abs/2401.10815,
https://arxiv.org/abs/2508.10104.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cas_metric.encoders.checkpoint import load_model, vision_towers
from cas_metric.encoders.family import EncoderInfo, Family

if TYPE_CHECKING:
    from torch import Tensor

    from cas_metric.encoders.model import Towers

_CLASSES = {
    "dinov2": "Dinov2Model",
    "dinov2_with_registers": "Dinov2WithRegistersModel",
    "dinov3_vit": "DINOv3ViTModel",
}


def load(directory: Path, config: dict[str, Any]) -> Towers:
    """Load a directory with one of the model types of :data:`FAMILY`."""
    import transformers

    model = load_model(getattr(transformers, _CLASSES[config["model_type"]]), directory)

    def image_features(pixels: Tensor) -> Tensor:
        return model(pixel_values=pixels).last_hidden_state[:, 0]

    pooling = "cls token after the final layer norm"
    return vision_towers(model, directory, image_features, pooling, full_frame=True)


FAMILY = Family(
    name="dino",
    load=load,
    model_types=tuple(_CLASSES),
    image_only=lambda config: True,
    encoders=(
        EncoderInfo(
            "dinov2",
            "dino",
            "facebook/dinov2-base",
            "f9e44c814b77203eaa57a6bdbbd535f21ede1415",
            "Apache-2.0",
            0,
            224,
            346,
            purpose="memorization",
        ),
        EncoderInfo(
            "rad-dino",
            "dino",
            "microsoft/rad-dino",
            "110cbc18d5133582e320b43d53bf5c44e410c936",
            "MIT",
            0,
            518,
            346,
            purpose="memorization of radiographs",
        ),
        EncoderInfo(
            "rad-dino-maira-2",
            "dino",
            "microsoft/rad-dino-maira-2",
            "main",
            "see its card",
            0,
            518,
            0,
            purpose="memorization of radiographs",
        ),
    ),
)
