"""SigLIP 2 NaFlex: any aspect ratio, as a sequence of patches of bounded length.

An image is resized so that it fills at most ``max_num_patches`` patches. Its model input is one
tensor ``(P + 1, 3·p·p)``: a row a patch, padded with zeros, and a last row with the height and the
width in patches, from which the mask follows. Texts are SigLIP's.
Source: https://arxiv.org/abs/2502.14786.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cas_metric.encoders.checkpoint import load_model, load_processor, load_tokenizer
from cas_metric.encoders.family import Family
from cas_metric.encoders.weights import content_digest

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from cas_metric.encoders.model import Towers


@dataclass(frozen=True)
class Patches:
    """From pixels to packed patches; see the module.

    Attributes:
        processor: The checkpoint's image processor.
    """

    processor: Any

    @property
    def size(self) -> int:
        """Side in pixels of the square of as many patches."""
        return int(self.processor.max_num_patches**0.5) * int(self.processor.patch_size)

    def official(self, images: Sequence[np.ndarray]) -> Tensor:
        """``(H, W, 3)`` uint8 arrays, or float in [0, 1], to ``(B, P + 1, 3·p·p)`` float32."""
        import torch
        from PIL import Image

        from cas_metric.images import to_uint8

        # The processor repeats a last patch for nothing: each image has a length of its own.
        pictures = [Image.fromarray(to_uint8(image)) for image in images]
        found = self.processor(images=pictures, return_tensors="pt")
        patches, shapes = found["pixel_values"].float(), found["spatial_shapes"]
        return torch.stack([_pack(*pair) for pair in zip(patches, shapes, strict=True)])

    def differentiable(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` float in [0, 1] to ``(B, P + 1, 3·p·p)`` float32; gradients flow."""
        import torch
        from torch.nn import functional as F
        from transformers.models.siglip2.image_processing_siglip2 import (
            get_image_size_for_max_num_patches,
        )

        from cas_metric.encoders.preprocessing import normalisation

        side, most = self.processor.patch_size, self.processor.max_num_patches
        height, width = get_image_size_for_max_num_patches(
            images.shape[-2], images.shape[-1], side, most
        )
        resized = F.interpolate(
            images.float(), (height, width), mode="bilinear", align_corners=False, antialias=True
        )
        known = normalisation(self.processor)
        mean, std = (images.new_tensor(known[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
        pixels = (resized * known["scale"] - mean) / std
        rows, columns = height // side, width // side
        patches = pixels.reshape(len(images), 3, rows, side, columns, side)
        patches = patches.permute(0, 2, 4, 3, 5, 1).reshape(len(images), rows * columns, -1)
        padded = F.pad(patches, (0, 0, 0, most - rows * columns))
        shape = torch.tensor([rows, columns], device=images.device)
        return torch.stack([_pack(one, shape) for one in padded])

    def describe(self) -> dict[str, Any]:
        """What the fingerprint records."""
        from cas_metric.encoders.preprocessing import settings_digest

        return {
            "geometry": "native aspect ratio in patches",
            "patches": self.processor.max_num_patches,
            "patch": self.processor.patch_size,
            "settings": settings_digest(self.processor),
        }


def _pack(patches: Tensor, shape: Tensor) -> Tensor:
    last = patches.new_zeros(1, patches.shape[1])
    last[0, :2] = shape.to(patches.dtype)
    import torch

    return torch.cat([patches, last])


def load(directory: Path, config: dict[str, Any]) -> Towers:
    """Load a directory with ``model_type: siglip2``."""
    import torch
    from transformers import Siglip2Model

    from cas_metric.encoders.model import Towers
    from cas_metric.encoders.text import HubTokenizer, TextTower

    model = load_model(Siglip2Model, directory)

    def image_features(packed: Tensor) -> Tensor:
        patches, shapes = packed[:, :-1], packed[:, -1, :2].long()
        index = torch.arange(patches.shape[1], device=packed.device)
        mask = (index < shapes.prod(dim=1, keepdim=True)).long()
        return model.get_image_features(
            pixel_values=patches, pixel_attention_mask=mask, spatial_shapes=shapes
        ).pooler_output

    def text_features(ids: Tensor) -> Tensor:
        return model.get_text_features(input_ids=ids.to(model.device)).pooler_output

    limit = model.config.text_config.max_position_embeddings
    tokenizer = HubTokenizer(load_tokenizer(directory), limit=limit, lowercase=True)
    return Towers(
        model=model,
        image_features=image_features,
        text=TextTower(tokenizer, text_features),
        dim=model.config.text_config.projection_size,
        preprocessing=Patches(load_processor(directory)),
        pooling="attention",
        content=content_digest(directory),
    )


FAMILY = Family(name="siglip2-naflex", load=load, model_types=("siglip2",))
