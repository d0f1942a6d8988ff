"""Plain vision transformers and masked autoencoders. Images only.

The embedding is the CLS token after the final layer norm. A masked autoencoder sees the whole image
here: nothing is masked, and its patches stay in their order.
Sources: https://arxiv.org/abs/2010.11929, https://arxiv.org/abs/2111.06377.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cas_metric.encoders.checkpoint import load_model, vision_towers
from cas_metric.encoders.family import Family

if TYPE_CHECKING:
    from torch import Tensor

    from cas_metric.encoders.model import Towers


def load(directory: Path, config: dict[str, Any]) -> Towers:
    """Load a directory with ``model_type: vit`` or ``vit_mae``."""
    import torch
    from transformers import ViTMAEModel, ViTModel

    pooling = "cls token after the final layer norm"
    if config["model_type"] == "vit":
        model = load_model(ViTModel, directory, add_pooling_layer=False)

        def image_features(pixels: Tensor) -> Tensor:
            return model(pixel_values=pixels).last_hidden_state[:, 0]

        return vision_towers(model, directory, image_features, pooling, model_size=_size(model))

    autoencoder = load_model(ViTMAEModel, directory)
    autoencoder.config.mask_ratio = 0.0
    patches = int(autoencoder.embeddings.patch_embeddings.num_patches)

    def unmasked_features(pixels: Tensor) -> Tensor:
        order = torch.arange(patches, device=pixels.device, dtype=torch.float32)
        noise = order.expand(len(pixels), -1)
        return autoencoder(pixel_values=pixels, noise=noise).last_hidden_state[:, 0]

    return vision_towers(
        autoencoder, directory, unmasked_features, pooling, model_size=_size(autoencoder)
    )


def _size(model: Any) -> int:
    return int(model.config.image_size)


FAMILY = Family(
    name="vit", load=load, model_types=("vit", "vit_mae"), image_only=lambda config: True
)
