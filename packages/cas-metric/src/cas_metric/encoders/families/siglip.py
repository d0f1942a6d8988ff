"""SigLIP, SigLIP 2 (fixed resolution) and MedSigLIP.

The text tower was trained on 64 tokens padded with EOS, without an attention mask, and pools the
last position: padding to the longest text of a batch instead gives other embeddings. Images are
squashed to a square. Sources: https://arxiv.org/abs/2303.15343, the checkpoints' model cards.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cas_metric.encoders.checkpoint import load_model, load_processor, load_tokenizer
from cas_metric.encoders.family import EncoderInfo, Family
from cas_metric.encoders.weights import content_digest

if TYPE_CHECKING:
    from torch import Tensor

    from cas_metric.encoders.model import Towers


def load(directory: Path, config: dict[str, Any]) -> Towers:
    """Load a directory with ``model_type: siglip``."""
    from transformers import SiglipModel

    from cas_metric.encoders.model import Towers
    from cas_metric.encoders.preprocessing import from_processor
    from cas_metric.encoders.text import HubTokenizer, TextTower

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


#: Files of google/siglip-so400m-patch14-384 at the pinned commit. The same digests are published
#: by several independent projects that pin this commit.
_SIGLIP_FILES = {
    "config.json": "adc04928d8fd19a61822584fe0cf2e813e5ebac17f3e49fb1ea096860ae6457b",
    "model.safetensors": "ea2abad2b7f8a9c1aa5e49a244d5d57ffa71c56f720c94bc5d240ef4d6e1d94a",
    "preprocessor_config.json": "f59da2f87c3cd079bd4f8f3037e81b277c60c498e279a8020331f67a5a3157e8",
    "special_tokens_map.json": "2b6a1ff67a27e0df9ac0c7d93250fc0d87431c7b366b3d5669217104f9088a26",
    "spiece.model": "1e5036bed065526c3c212dfbe288752391797c4bb1a284aa18c9a0b23fcaf8ec",
    "tokenizer.json": "c6e405cb7c670d56636a9402c81023a55bc6c3c53d89cf02b92f5c5005bfe920",
    "tokenizer_config.json": "d6423dae508cc3a129d22ea443841c111832a1a73125b8f25ea8736951698bcb",
}

FAMILY = Family(
    name="siglip",
    load=load,
    model_types=("siglip",),
    encoders=(
        EncoderInfo(
            "siglip",
            "siglip",
            "google/siglip-so400m-patch14-384",
            "9fdffc58afc957d1a03a25b10dba0329ab15c2a3",
            "Apache-2.0",
            64,
            384,
            3510,
            purpose="evaluator of the protocol",
            sha256=tuple(_SIGLIP_FILES.items()),
        ),
        EncoderInfo(
            "siglip2",
            "siglip",
            "google/siglip2-so400m-patch14-384",
            "e8e487298228002f3d8a82e0cd5c8ea9c567f57f",
            "Apache-2.0",
            64,
            384,
            4540,
        ),
        EncoderInfo(
            "medsiglip",
            "siglip",
            "google/medsiglip-448",
            "9cea28a1a1195f665105faa6e8544c112fd960a4",
            "HAI-DEF terms",
            64,
            448,
            3510,
            gated=True,
            purpose="training critic",
        ),
        EncoderInfo(
            "xraysiglip",
            "siglip",
            "StanfordAIMI/XraySigLIP__vit-l-16-siglip-384__webli",
            "main",
            "see its card",
            64,
            384,
            0,
            purpose="radiographs",
        ),
    ),
)
