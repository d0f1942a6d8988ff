"""Every family gives what the library of its authors gives, offline, from a local directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from tests.support import tiny_encoders, tiny_models
from torch.nn.functional import normalize

from cas_metric.encoders import load_encoder

CLASSES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "siglip": (tiny_models.build_siglip, "SiglipModel"),
    "clip": (tiny_models.build_clip, "CLIPModel"),
    "metaclip2": (tiny_models.build_metaclip2, "MetaClip2Model"),
    "clip, 248 tokens": (tiny_encoders.build_long_clip, "CLIPModel"),
    "siglip2 (naflex)": (tiny_encoders.build_naflex, "Siglip2Model"),
    "aimv2": (tiny_encoders.build_aimv2, "Aimv2Model"),
    "tipsv2": (tiny_encoders.build_tipsv2, "Tipsv2Model"),
    "dinov2": (tiny_models.build_dinov2, "Dinov2Model"),
    "dinov2_with_registers": (
        tiny_encoders.build_dinov2_with_registers,
        "Dinov2WithRegistersModel",
    ),
    "dinov3_vit": (tiny_encoders.build_dinov3, "DINOv3ViTModel"),
    "aimv2_vision_model": (tiny_encoders.build_aimv2_vision, "Aimv2VisionModel"),
    "vit": (tiny_encoders.build_vit, "ViTModel"),
    "vit_mae": (tiny_encoders.build_mae, "ViTMAEModel"),
    "radio": (tiny_encoders.build_radio, "RadioModel"),
}
TWO_TOWERS = [
    *("siglip", "clip", "metaclip2", "clip, 248 tokens", "siglip2 (naflex)", "aimv2", "tipsv2")
]
TEXTS = ["a red scaly plaque on the forearm", "Chest radiograph. " * 60]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root, done = tmp_path_factory.mktemp("families"), {}

    def build(name: str) -> Path:
        if name not in done:
            done[name] = CLASSES[name][0](root / "".join(filter(str.isalnum, name)))
        return done[name]

    return build


def _their_model(name: str, directory: Path) -> Any:
    cls = getattr(transformers, CLASSES[name][1])
    options = {"add_pooling_layer": False} if name == "vit" else {}
    options |= {"mask_ratio": 0.0} if name == "vit_mae" else {}
    return cls.from_pretrained(directory, dtype=torch.float32, **options).eval()


def _their_features(name: str, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    if name in TWO_TOWERS:
        return model.get_image_features(**inputs).pooler_output
    output = model(**inputs)
    if name == "radio":
        return output.summary
    if name == "aimv2_vision_model":
        return output.last_hidden_state.mean(dim=1)
    return output.last_hidden_state[:, 0]


@pytest.mark.parametrize("name", CLASSES)
def test_images_embed_as_in_the_library(
    name: str, built: Callable[[str], Path], photographs: list[np.ndarray]
) -> None:
    directory = built(name)
    encoder = load_encoder(directory, device="cpu")
    processor = transformers.AutoImageProcessor.from_pretrained(directory, backend="pil")
    if name.startswith("dinov2"):  # the whole frame, where the processor would cut borders off
        processor.size, processor.do_center_crop = processor.crop_size, False
    pictures = [Image.fromarray(image) for image in photographs]
    model = _their_model(name, directory)
    with torch.no_grad():
        inputs = dict(processor(images=pictures, return_tensors="pt"))
        theirs = normalize(_their_features(name, model, inputs), dim=-1)
        ours = encoder.embed_pixels(encoder.official_preprocess(photographs))
    assert ours.shape == (len(photographs), encoder.dim)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    retina, _, tissue, _, tissue_at_full_size = ours
    assert retina @ tissue < tissue @ tissue_at_full_size


@pytest.mark.parametrize("name", TWO_TOWERS)
def test_texts_embed_as_in_the_library(name: str, built: Callable[[str], Path]) -> None:
    directory = built(name)
    encoder = load_encoder(directory, device="cpu")
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    texts = [text.lower() if name.startswith("siglip") else text for text in TEXTS]
    batch = tokenizer(
        texts,
        padding="max_length",
        max_length=encoder.token_limit,
        truncation=True,
        padding_side="right",
        return_tensors="pt",
    )
    inputs = {"input_ids": batch["input_ids"]}
    if name in ("tipsv2", "aimv2"):
        inputs["attention_mask"] = batch["attention_mask"]
    with torch.no_grad():
        model = _their_model(name, directory)
        theirs = normalize(model.get_text_features(**inputs).pooler_output, dim=-1)
    ours = encoder.embed_texts(TEXTS)
    torch.testing.assert_close(ours.embeddings, theirs, atol=1e-5, rtol=0)
    assert ours.truncated.tolist() == [False, encoder.token_limit < ours.tokens[1]]


@pytest.mark.parametrize("name", CLASSES)
def test_the_differentiable_way_stays_near_the_official_one(
    name: str, built: Callable[[str], Path], photographs: list[np.ndarray]
) -> None:
    encoder = load_encoder(built(name), device="cpu")
    for image in photographs[:2]:
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        pixels.requires_grad_()
        official, soft = encoder.official_preprocess([image]), encoder.preprocess(pixels)
        assert soft.shape == official.shape
        torch.testing.assert_close(soft, official, atol=0.06, rtol=0)
        encoder.embed_pixels(soft)[:, 0].sum().backward()
        assert pixels.grad is not None
        assert pixels.grad.abs().sum() > 0


def test_a_long_text_clip_reads_to_its_own_limit(built: Callable[[str], Path]) -> None:
    encoder = load_encoder(built("clip, 248 tokens"), device="cpu")
    assert encoder.token_limit == 248
    texts = ["plaque " * 100, "plaque " * 99 + "chest"]
    found = encoder.embed_texts(texts)
    assert found.truncated.tolist() == [False, False]
    assert not torch.equal(found.embeddings[0], found.embeddings[1])


def test_naflex_keeps_the_aspect_ratio(built: Callable[[str], Path]) -> None:
    encoder = load_encoder(built("siglip2 (naflex)"), device="cpu")
    images = [np.zeros((h, w, 3), np.uint8) for h, w in ((64, 64), (32, 128), (200, 50))]
    packed = encoder.official_preprocess(images)
    shapes = [tuple(map(int, row[:2])) for row in packed[:, -1]]
    assert shapes == [(4, 4), (2, 8), (8, 2)]


# -- timm ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", tiny_encoders.TIMM_ARGUMENTS)
def test_models_of_timm_embed_as_in_timm(
    name: str, tmp_path: Path, photographs: list[np.ndarray]
) -> None:
    """Arguments that only the model card gives are read off the weights."""
    timm = pytest.importorskip("timm")
    encoder = load_encoder(tiny_encoders.build_timm(tmp_path / "model", name), device="cpu")
    stated = tiny_encoders.timm_config(name)["pretrained_cfg"]
    settings = timm.data.resolve_data_config(stated)
    transform = timm.data.create_transform(**settings, is_training=False)
    pixels = torch.stack([transform(Image.fromarray(image)) for image in photographs])
    with torch.no_grad():
        theirs = tiny_encoders.timm_model(name)(pixels)
    if name == "virchow2":  # its card: class token and mean of the patches, registers left out
        theirs = torch.cat([theirs[:, 0], theirs[:, 5:].mean(dim=1)], dim=-1)
    ours = encoder.embed_pixels(encoder.official_preprocess(photographs))
    torch.testing.assert_close(ours, normalize(theirs, dim=-1), atol=1e-5, rtol=0)
    assert encoder.token_limit == 0
