"""Loading: what is refused, what the fingerprint depends on, dtypes and batches."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.support.tiny_models import build_siglip
from transformers import Dinov2Model

from cas_metric.encoders import list_encoders, load_encoder
from cas_metric.encoders.registry import resolve
from cas_metric.encoders.weights import digest_file
from cas_metric.errors import InputError, ModelUnavailable

FAMILIES = ["siglip", "clip", "metaclip2", "dinov2"]


def copy(models: dict[str, Path], family: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(models[family], tmp_path / family))


def edit_json(path: Path, change: Callable[[dict], None]) -> None:
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


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
    directory = copy(models, family, tmp_path)
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


@pytest.mark.parametrize(
    "option", [pytest.param("compile", marks=pytest.mark.slow), "channels_last"]
)
def test_speed_options_change_no_result(
    option: str, models: dict[str, Path], photographs: list[np.ndarray]
) -> None:
    plain = load_encoder(models["siglip"], device="cpu")
    if option == "compile" and shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("torch.compile needs a C++ compiler on the CPU")
    fast = load_encoder(models["siglip"], device="cpu", **{option: True})
    assert fast.fingerprint == plain.fingerprint
    results = [e.embed_pixels(e.official_preprocess(photographs)) for e in (plain, fast)]
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=0)


# -- the fingerprint -----------------------------------------------------------------------------


def test_fingerprint_is_that_of_the_content_wherever_it_lies(
    models: dict[str, Path], tmp_path: Path
) -> None:
    moved = load_encoder(copy(models, "siglip", tmp_path), device="cpu")
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
    directory = copy(models, "siglip", tmp_path)
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


def test_digest_is_remembered_and_forgotten_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    first = digest_file(file)
    with monkeypatch.context() as patch:
        patch.setattr("hashlib.file_digest", lambda *_: pytest.fail("digested twice"))
        assert digest_file(file) == first
    file.write_bytes(b"three")
    assert digest_file(file) != first
    for memory in (tmp_path / "cache" / "cas-metric" / "digests").iterdir():
        memory.write_text("damaged")
    file.write_bytes(b"one")
    assert digest_file(file) == first


def test_a_read_only_cache_costs_only_time(tmp_path: Path, monkeypatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked / "below-a-file"))
    assert len(digest_file(blocked)) == 64


# -- what is refused -----------------------------------------------------------------------------


def test_pickled_weights_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    directory = copy(models, "siglip", tmp_path)
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    with pytest.raises(ModelUnavailable, match=r"only pickled weights \(pytorch_model.bin\)"):
        load_encoder(directory, device="cpu")


def test_a_pickle_beside_safetensors_is_never_opened(
    models: dict[str, Path], tmp_path: Path
) -> None:
    directory = copy(models, "siglip", tmp_path)
    (directory / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n")
    assert load_encoder(directory, device="cpu").dim == 32


def test_remote_code_is_never_run(models: dict[str, Path], tmp_path: Path) -> None:
    directory = copy(models, "siglip", tmp_path)
    marker = tmp_path / "ran"
    (directory / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Evil: pass\n")
    names = ("AutoConfig", "AutoModel", "AutoTokenizer", "AutoImageProcessor")
    auto_map = dict.fromkeys(names, "evil.Evil")
    for name in ("config", "tokenizer_config", "preprocessor_config"):
        edit_json(directory / f"{name}.json", lambda c: c.update(auto_map=auto_map))
    with contextlib.suppress(InputError, ModelUnavailable):  # refusing is fine, running is not
        load_encoder(directory, device="cpu")
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", b"\xff" * 64])
def test_damaged_weights_are_named(content: bytes, models: dict[str, Path], tmp_path: Path) -> None:
    directory = copy(models, "siglip", tmp_path)
    (directory / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"model\.safetensors cannot be loaded"):
        load_encoder(directory, device="cpu")


def test_cut_off_weights_are_named(models: dict[str, Path], tmp_path: Path) -> None:
    directory = copy(models, "clip", tmp_path)
    whole = (directory / "model.safetensors").read_bytes()
    (directory / "model.safetensors").write_bytes(whole[:-100])
    with pytest.raises(InputError, match=r"model\.safetensors cannot be loaded"):
        load_encoder(directory, device="cpu")


def test_weights_that_do_not_fill_the_model_are_refused(
    models: dict[str, Path], tmp_path: Path
) -> None:
    """transformers would warn and leave the rest random: scores of noise."""
    directory = copy(models, "siglip", tmp_path)
    weights = load_file(directory / "model.safetensors")
    del weights["vision_model.head.probe"]
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lack 1 parameters of SiglipModel.*head\.probe"):
        load_encoder(directory, device="cpu")


def test_weights_of_another_shape_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    directory = copy(models, "siglip", tmp_path)
    edit_json(directory / "config.json", lambda c: c["vision_config"].update(intermediate_size=128))
    with pytest.raises(InputError):
        load_encoder(directory, device="cpu")


def test_a_missing_shard_is_named(models: dict[str, Path], tmp_path: Path) -> None:
    directory = copy(models, "siglip", tmp_path)
    shards = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    (directory / "model.safetensors").rename(directory / shards[0])
    index = {"metadata": {}, "weight_map": {"a": shards[0], "b": shards[1]}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelUnavailable, match=f"missing {shards[1]}"):
        load_encoder(directory, device="cpu")


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


@pytest.mark.parametrize(
    ("file", "match"),
    [
        ("config.json", "no config.json"),
        ("preprocessor_config.json", "no preprocessor_config.json"),
        ("tokenizer.json", "no tokenizer.json or spiece.model"),
        ("tokenizer_config.json", "no tokenizer_config.json"),
        ("model.safetensors", "no model.safetensors"),
    ],
)
def test_a_missing_file_is_named(
    file: str, match: str, models: dict[str, Path], tmp_path: Path
) -> None:
    directory = copy(models, "siglip", tmp_path)
    (directory / file).unlink()
    with pytest.raises(ModelUnavailable, match=match):
        load_encoder(directory, device="cpu")


def test_all_that_lacks_is_named_at_once(models: dict[str, Path], tmp_path: Path) -> None:
    directory = copy(models, "clip", tmp_path)
    for name in ("preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"):
        (directory / name).unlink()
    with pytest.raises(ModelUnavailable) as caught:
        load_encoder(directory, device="cpu")
    for name in ("preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"):
        assert name in str(caught.value)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("file", "match"),
    [
        ("preprocessor_config.json", "no usable preprocessor_config.json"),
        ("tokenizer.json", "no usable tokenizer"),
    ],
)
def test_a_damaged_file_is_named(
    file: str, match: str, models: dict[str, Path], tmp_path: Path
) -> None:
    directory = copy(models, "clip", tmp_path)
    (directory / file).write_text("{ cut off")
    with pytest.raises(ModelUnavailable, match=match):
        load_encoder(directory, device="cpu")


def test_unreadable_and_unknown_configurations(models: dict[str, Path], tmp_path: Path) -> None:
    directory = copy(models, "siglip", tmp_path)
    edit_json(directory / "config.json", lambda c: c.update(model_type="bert"))
    with pytest.raises(InputError, match=r"'bert' is no supported encoder family.*\n.*siglip"):
        load_encoder(directory, device="cpu")
    (directory / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json: cannot be read"):
        load_encoder(directory, device="cpu")


def test_wrong_options_name_the_right_ones(models: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="float32, bfloat16, float16"):
        load_encoder(models["siglip"], device="cpu", dtype="int8")
    with pytest.raises(InputError, match="unknown device"):
        load_encoder(models["siglip"], device="graphics")


# -- names ---------------------------------------------------------------------------------------


def test_aliases_are_pinned_to_commits() -> None:
    named = [info for info in list_encoders() if not info.embedded]
    aliases = {info.alias for info in named}
    assert {"siglip", "siglip2", "medsiglip", "metaclip2", "clip", "dinov2"} <= aliases
    for info in named:
        assert len(info.revision) == 40
        assert int(info.revision, 16)
        source = resolve(info.alias)
        assert (source.hub_id, source.revision) == (info.hub_id, info.revision)
        # The hub id is pinned like its alias: one repository must not give two encoders.
        assert resolve(info.hub_id) == source
        assert resolve(info.alias, "main").revision == "main"


def test_a_misspelt_alias_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'medsiglip'"):
        resolve("medsigli")


def test_a_path_that_does_not_exist_is_no_hub_id() -> None:
    for spec in ("./models/siglip", "/nowhere/siglip", "~/nowhere/siglip"):
        with pytest.raises(ModelUnavailable, match="no such directory"):
            resolve(spec)
    assert resolve("owner/name").hub_id == "owner/name"


def test_a_file_of_weights_is_no_directory(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(models["clip"].parent)  # a relative path looks like a hub id
    for spec in ("clip/model.safetensors", models["clip"] / "model.safetensors"):
        with pytest.raises(InputError, match=r"is a file.*\n.*directory that holds it"):
            resolve(spec)


def test_openclip_specs() -> None:
    pytest.importorskip("open_clip")
    source = resolve("openclip:ViT-B-32/laion2b_s34b_b79k")
    assert source.hub_id == "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
    with pytest.raises(InputError, match=r"tags of ViT-B-32: .*laion2b_s34b_b79k"):
        resolve("openclip:ViT-B-32/laion9b")
    with pytest.raises(InputError, match="no architecture 'ViT-Z'"):
        load_encoder("openclip:ViT-Z@weights.safetensors")
    with pytest.raises(InputError, match="only safetensors"):
        load_encoder("openclip:ViT-B-32@weights.pt")
    with pytest.raises(ModelUnavailable, match="no such file"):
        load_encoder("openclip:ViT-B-32@weights.safetensors")
    # Published ViT-L-14 weights are preprocessed in two ways; a bare file does not say in which.
    from cas_metric.encoders.openclip import _published_preprocessing

    with pytest.raises(InputError, match="in different ways"):
        _published_preprocessing(__import__("open_clip"), "ViT-L-14")


def test_openclip_pickles_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("open_clip")
    (tmp_path / "open_clip_config.json").write_text("{}")
    (tmp_path / "open_clip_pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelUnavailable, match="pickled weights are not loaded"):
        load_encoder(tmp_path, device="cpu")
