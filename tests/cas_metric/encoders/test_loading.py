"""Loading: what comes out, what the fingerprint depends on, dtypes and batches."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tests.support.model_directories import copy_model, edit_json
from tests.support.tiny_models import build_siglip
from transformers import Dinov2Model

import cas_metric
from cas_metric.encoders import load_encoder

FAMILIES = ["siglip", "clip", "metaclip2", "dinov2"]


@pytest.mark.parametrize("family", FAMILIES)
def test_embeddings_are_unit_float32_and_the_encoder_is_frozen(
    family: str, models: dict[str, Path], photographs: list[np.ndarray]
) -> None:
    encoder = load_encoder(models[family], device="cpu")
    images = torch.rand(2, 3, 50, 40, requires_grad=True)
    embeddings = encoder.embed_images(images)
    assert embeddings.shape == (2, encoder.dim) == (2, 32)
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings.detach().norm(dim=-1), torch.ones(2))
    # One coordinate: the sum over all of them is constant behind DINOv2's last layer norm.
    embeddings[:, 0].sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert not encoder.model.training
    assert all(p.grad is None and not p.requires_grad for p in encoder.model.parameters())
    assert encoder.model.config._attn_implementation == "sdpa"
    pixels = encoder.embed_pixels(encoder.official_preprocess(photographs))
    torch.testing.assert_close(pixels.norm(dim=-1), torch.ones(len(photographs)))
    retina, _, tissue, _, tissue_at_full_size = pixels
    assert retina @ tissue < 0.95 < tissue @ tissue_at_full_size


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_changes_cosines_little_and_the_fingerprint_always(
    family: str, dtype: str, models: dict[str, Path], photographs: list[np.ndarray]
) -> None:
    exact = load_encoder(models[family], device="cpu")
    half = load_encoder(models[family], device="cpu", dtype=dtype)
    assert half.fingerprint != exact.fingerprint
    fine, rough = (e.embed_pixels(e.official_preprocess(photographs)) for e in (exact, half))
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough.norm(dim=-1), torch.ones(len(photographs)))
    change = (fine @ fine.T - rough @ rough.T).abs().max()
    assert 0 < change < 0.02


@pytest.mark.parametrize("family", ["siglip", "clip", "metaclip2"])
def test_logit_scale_and_bias_change_no_embedding(
    family: str, models: dict[str, Path], tmp_path: Path
) -> None:
    directory = copy_model(models, family, tmp_path)
    weights = load_file(directory / "model.safetensors")
    for name in {"logit_scale", "logit_bias"} & set(weights):
        weights[name] = weights[name] + 3
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    before, after = (load_encoder(path, device="cpu") for path in (models[family], directory))
    assert before.model.logit_scale != after.model.logit_scale
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(before.embed_pixels(images), after.embed_pixels(images))
    texts = [encoder.embed_texts(["plaque"]).embeddings for encoder in (before, after)]
    assert torch.equal(*texts)


def test_dinov2_embeds_the_cls_token_which_is_its_pooler_output(models: dict[str, Path]) -> None:
    encoder = load_encoder(models["dinov2"], device="cpu")
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        output = Dinov2Model.from_pretrained(models["dinov2"])(images)
        ours = encoder.embed_pixels(images)
    for expected in (output.pooler_output, output.last_hidden_state[:, 0]):
        torch.testing.assert_close(ours, torch.nn.functional.normalize(expected, dim=-1))
    assert encoder.pooling.startswith("cls token")


@pytest.mark.parametrize("family", FAMILIES)
def test_an_image_embeds_to_the_same_bits_beside_any_others(
    family: str, models: dict[str, Path]
) -> None:
    """In batches of one size, whatever the partners and wherever the image stands."""
    encoder = load_encoder(models[family], device="cpu")
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(16, 3, 32, 32, generator=generator)
    order = torch.randperm(16, generator=generator)
    with torch.no_grad():
        straight = torch.cat([encoder.embed_pixels(batch) for batch in images.split(8)])
        mixed = torch.cat([encoder.embed_pixels(batch) for batch in images[order].split(8)])
        others = torch.rand(8, 3, 32, 32, generator=generator)
        others[3] = images[0]
        beside = encoder.embed_pixels(others)[3]
    assert torch.equal(straight[order], mixed)
    assert torch.equal(straight[0], beside)


@pytest.mark.slow
def test_compilation_changes_no_result(
    models: dict[str, Path], photographs: list[np.ndarray]
) -> None:
    plain = load_encoder(models["siglip"], device="cpu")
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("torch.compile needs a C++ compiler on the CPU")
    fast = load_encoder(models["siglip"], device="cpu", compile=True)
    assert fast.fingerprint == plain.fingerprint
    results = [e.embed_pixels(e.official_preprocess(photographs)) for e in (plain, fast)]
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=0)


def test_sharded_weights_load_like_whole_ones(tmp_path: Path) -> None:
    whole = build_siglip(tmp_path / "whole")
    from transformers import SiglipModel

    sharded = Path(shutil.copytree(whole, tmp_path / "sharded"))
    (sharded / "model.safetensors").unlink()
    SiglipModel.from_pretrained(whole).save_pretrained(sharded, max_shard_size="100KB")
    assert len(list(sharded.glob("model-*.safetensors"))) > 1
    images = torch.rand(1, 3, 32, 32)
    results = [load_encoder(p, device="cpu").embed_images(images) for p in (whole, sharded)]
    torch.testing.assert_close(*results, atol=1e-6, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_loading_again_gives_the_same_bits(family: str, models: dict[str, Path]) -> None:
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    results = [load_encoder(models[family], device="cpu").embed_pixels(images) for _ in range(2)]
    assert torch.equal(*results)


# -- the fingerprint -----------------------------------------------------------------------------


def test_fingerprint_is_that_of_the_content_wherever_it_lies(
    models: dict[str, Path], tmp_path: Path
) -> None:
    moved = load_encoder(copy_model(models, "siglip", tmp_path), device="cpu")
    assert moved.fingerprint == load_encoder(models["siglip"], device="cpu").fingerprint
    assert len(moved.fingerprint) == 64
    edit_json(
        tmp_path / "siglip" / "config.json", lambda c: c.update(transformers_version="5.99.0")
    )
    again = load_encoder(tmp_path / "siglip", device="cpu")
    assert again.fingerprint == moved.fingerprint


def test_fingerprint_follows_weights_tokenizer_preprocessing_and_policy(
    models: dict[str, Path], tmp_path: Path
) -> None:
    directory = copy_model(models, "siglip", tmp_path)
    seen = {load_encoder(directory, device="cpu").fingerprint}
    for policy in ("chunk-mean", "per-attribute-mean"):
        seen.add(load_encoder(directory, device="cpu", text_policy=policy).fingerprint)
    edit_json(directory / "preprocessor_config.json", lambda c: c.update(resample=2))
    seen.add(load_encoder(directory, device="cpu").fingerprint)
    edit_json(directory / "tokenizer.json", lambda c: c["normalizer"]["normalizers"].pop(1))
    seen.add(load_encoder(directory, device="cpu").fingerprint)
    weights = load_file(directory / "model.safetensors")
    weights["vision_model.post_layernorm.bias"][0] += 1e-3
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    seen.add(load_encoder(directory, device="cpu").fingerprint)
    assert len(seen) == 6


@pytest.mark.parametrize(
    "setting",
    [{"do_normalize": False}, {"do_rescale": False}, {"rescale_factor": 1 / 127.5}],
    ids=lambda setting: next(iter(setting)),
)
def test_fingerprint_and_gradients_follow_every_setting_of_the_processor(
    setting: dict[str, object], models: dict[str, Path], tmp_path: Path
) -> None:
    directory = copy_model(models, "siglip", tmp_path)
    edit_json(directory / "preprocessor_config.json", lambda c: c.update(setting))
    changed, before = (load_encoder(p, device="cpu") for p in (directory, models["siglip"]))
    assert changed.fingerprint != before.fingerprint
    image = np.random.default_rng(0).integers(60, 200, (32, 32, 3), dtype=np.uint8)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    official, soft = changed.official_preprocess([image]), changed.preprocess(pixels)
    torch.testing.assert_close(soft, official, atol=1e-3, rtol=1e-5)
    assert not torch.allclose(official, before.official_preprocess([image]), atol=0.1)


def test_fingerprint_is_of_the_weights_that_are_loaded_where_both_forms_are_there(
    models: dict[str, Path], tmp_path: Path
) -> None:
    directory = copy_model(models, "siglip", tmp_path)
    shard = "model-00001-of-00001.safetensors"
    shutil.copy(directory / "model.safetensors", directory / shard)
    weights = load_file(directory / "model.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, shard)}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    weights["vision_model.post_layernorm.bias"][0] += 1
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    both, before = (load_encoder(path, device="cpu") for path in (directory, models["siglip"]))
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(both.embed_pixels(images), before.embed_pixels(images))
    assert both.fingerprint != before.fingerprint


# -- what comes embedded --------------------------------------------------------------------------

WEIGHTS = Path(cas_metric.__file__).parent / "phantoms" / "weights"


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("phantom-siglip", "SiglipModel"),
        ("phantom-medsiglip", "SiglipModel"),
        ("phantom-metaclip", "MetaClip2Model"),
        ("phantom-dino", "Dinov2Model"),
    ],
)
def test_embedded_encoders_load_in_float32_by_transformers_own_default(name: str, cls: str) -> None:
    """They are stored in half precision, which transformers would compute in unless told."""
    model = getattr(transformers, cls).from_pretrained(WEIGHTS / name)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    text = getattr(model.config, "text_config", None)
    if text is not None:
        assert 0 <= text.bos_token_id < text.vocab_size
        assert 0 <= text.eos_token_id < text.vocab_size
        tokenizer = transformers.AutoTokenizer.from_pretrained(WEIGHTS / name)
        assert text.eos_token_id == tokenizer.eos_token_id
