"""C-RADIO: one student of several teachers. Images only.

The embedding is the summary, its CLS tokens side by side. The model normalises pixels itself, so
the image processor must not. Source: https://arxiv.org/abs/2312.06709.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cas_metric.encoders.checkpoint import load_model, vision_towers
from cas_metric.encoders.family import Family
from cas_metric.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from cas_metric.encoders.model import Towers


def load(directory: Path, config: dict[str, Any]) -> Towers:
    """Load a directory with ``model_type: radio``.

    Raises:
        InputError: The image processor normalises too.
    """
    from transformers import RadioModel

    model = load_model(RadioModel, directory)

    def image_features(pixels: Tensor) -> Tensor:
        return model(pixel_values=pixels).summary

    towers = vision_towers(model, directory, image_features, "summary", full_frame=True)
    if towers.preprocessing.describe()["std"] != [1.0] * 3:
        raise InputError(
            f"{directory}: model and image processor both normalise pixels",
            fix="set do_normalize to false in preprocessor_config.json, as published",
        )
    return towers


FAMILY = Family(name="radio", load=load, model_types=("radio",), image_only=lambda config: True)
