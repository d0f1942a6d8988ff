"""What is refused when an encoder is loaded, and that the message names what is wrong."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tests.support.model_directories import copy_model, edit_json

from cas_metric.encoders import load_encoder, open_encoder
from cas_metric.errors import InputError, ModelUnavailable


def test_pickled_weights_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    directory = copy_model(models, "siglip", tmp_path)
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    with pytest.raises(ModelUnavailable, match=r"only pickled weights \(pytorch_model.bin\)"):
        load_encoder(directory, device="cpu")


def test_a_pickle_beside_safetensors_is_never_opened(
    models: dict[str, Path], tmp_path: Path
) -> None:
    directory = copy_model(models, "siglip", tmp_path)
    (directory / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n")
    assert load_encoder(directory, device="cpu").dim == 32


def test_remote_code_is_never_run(models: dict[str, Path], tmp_path: Path) -> None:
    directory = copy_model(models, "siglip", tmp_path)
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
    directory = copy_model(models, "siglip", tmp_path)
    (directory / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"model\.safetensors cannot be loaded"):
        load_encoder(directory, device="cpu")


def test_cut_off_weights_are_named(models: dict[str, Path], tmp_path: Path) -> None:
    directory = copy_model(models, "clip", tmp_path)
    whole = (directory / "model.safetensors").read_bytes()
    (directory / "model.safetensors").write_bytes(whole[:-100])
    with pytest.raises(InputError, match=r"model\.safetensors cannot be loaded"):
        load_encoder(directory, device="cpu")


def test_weights_that_do_not_fill_the_model_are_refused(
    models: dict[str, Path], tmp_path: Path
) -> None:
    """transformers would warn and leave the rest random: scores of noise."""
    directory = copy_model(models, "siglip", tmp_path)
    weights = load_file(directory / "model.safetensors")
    del weights["vision_model.head.probe"]
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lack 1 parameters of SiglipModel.*head\.probe"):
        load_encoder(directory, device="cpu")


def test_weights_of_another_shape_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    directory = copy_model(models, "siglip", tmp_path)
    edit_json(directory / "config.json", lambda c: c["vision_config"].update(intermediate_size=128))
    with pytest.raises(InputError):
        load_encoder(directory, device="cpu")


def test_a_missing_shard_is_named(models: dict[str, Path], tmp_path: Path) -> None:
    directory = copy_model(models, "siglip", tmp_path)
    shards = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    (directory / "model.safetensors").rename(directory / shards[0])
    index = {"metadata": {}, "weight_map": {"a": shards[0], "b": shards[1]}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelUnavailable, match=f"missing {shards[1]}"):
        load_encoder(directory, device="cpu")


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
    directory = copy_model(models, "siglip", tmp_path)
    (directory / file).unlink()
    with pytest.raises(ModelUnavailable, match=match):
        load_encoder(directory, device="cpu")


def test_all_that_lacks_is_named_at_once(models: dict[str, Path], tmp_path: Path) -> None:
    directory = copy_model(models, "clip", tmp_path)
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
    directory = copy_model(models, "clip", tmp_path)
    (directory / file).write_text("{ cut off")
    with pytest.raises(ModelUnavailable, match=match):
        load_encoder(directory, device="cpu")


def test_unreadable_and_unknown_configurations(models: dict[str, Path], tmp_path: Path) -> None:
    directory = copy_model(models, "siglip", tmp_path)
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


def test_a_device_that_is_not_here_is_refused_also_where_nothing_is_loaded(
    models: dict[str, Path],
) -> None:
    open_encoder(models["siglip"], device="cpu")  # from now on its facts are remembered
    for load in (load_encoder, open_encoder):
        with pytest.raises(InputError, match=r"device cuda:99 cannot be used here.*\n.*auto"):
            load(models["siglip"], device="cuda:99")


@pytest.mark.parametrize("content", ["{ cut off", "[]", '{"weight_map": []}'])
def test_a_damaged_index_of_shards_is_named(
    content: str, models: dict[str, Path], tmp_path: Path
) -> None:
    directory = copy_model(models, "siglip", tmp_path)
    (directory / "model.safetensors").rename(directory / "model-00001-of-00001.safetensors")
    (directory / "model.safetensors.index.json").write_text(content)
    with pytest.raises(InputError, match=r"index\.json: is no index of weights"):
        load_encoder(directory, device="cpu")


@pytest.mark.parametrize("content", ["{ cut off", "{}", '{"preprocess_cfg": null}'])
def test_a_damaged_configuration_of_openclip_is_named(content: str, tmp_path: Path) -> None:
    pytest.importorskip("open_clip")
    (tmp_path / "open_clip_config.json").write_text(content)
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=r"open_clip_config\.json: cannot be read"):
        load_encoder(tmp_path, device="cpu")
