"""Released architectures at their full size, random weights, from a local directory."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    BitImageProcessorPil,
    Dinov2Config,
    Dinov2Model,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
)

from cas_metric.encoders import load_encoder

pytestmark = pytest.mark.slow


def test_dinov2_base_embeds_a_full_frame(photographs: list[np.ndarray], tmp_path: Path) -> None:
    """facebook/dinov2-base: trained at 518 pixels, processed at 224, patch 14."""
    Dinov2Model(Dinov2Config(image_size=518, patch_size=14)).save_pretrained(tmp_path)
    square = {"height": 224, "width": 224}
    BitImageProcessorPil(
        size={"shortest_edge": 256},
        crop_size=square,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    ).save_pretrained(tmp_path)
    encoder = load_encoder(tmp_path, device="cpu")
    assert (encoder.dim, encoder.image_size, encoder.token_limit) == (768, 224, 0)
    with torch.no_grad():
        embeddings = encoder.embed_pixels(encoder.official_preprocess(photographs[:2]))
    assert embeddings.shape == (2, 768)
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(2))


@pytest.mark.parametrize(("size", "quick_start"), [(384, False), (448, True)])
def test_siglip_so400m_embeds_images_and_texts(
    size: int,
    quick_start: bool,
    photographs: list[np.ndarray],
    models: dict[str, Path],
    tmp_path: Path,
) -> None:
    """google/siglip-so400m-patch14-384 and google/medsiglip-448, 0.9 billion parameters."""
    tower = {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
    }
    eos = json.loads((models["siglip"] / "config.json").read_text())["text_config"]["eos_token_id"]
    config = SiglipConfig(
        text_config={**tower, "eos_token_id": eos, "bos_token_id": None},
        vision_config={**tower, "image_size": size, "patch_size": 14},
    )
    SiglipModel(config).to(torch.bfloat16).save_pretrained(tmp_path)
    SiglipImageProcessorPil(
        size={"height": size, "width": size}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    ).save_pretrained(tmp_path)
    for path in models["siglip"].glob("tokenizer*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    encoder = load_encoder(tmp_path, device="cpu")
    assert (encoder.dim, encoder.image_size, encoder.token_limit) == (1152, size, 64)
    assert encoder.preprocessing.quick_start is quick_start
    with torch.no_grad():
        embeddings = encoder.embed_pixels(encoder.official_preprocess(photographs[:1]))
    assert embeddings.shape == (1, 1152)
    assert encoder.embed_texts(["chest radiograph"]).embeddings.shape == (1, 1152)
