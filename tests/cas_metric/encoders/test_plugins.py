"""A family of encoders from another distribution: found, named, loaded; no file of ours changes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cas_metric.encoders import list_encoders, load_encoder, open_encoder
from cas_metric.errors import CasError, InputError

MODULE = """
from cas_metric.encoders.family import EncoderInfo, Family

def load(directory, config):
    import torch
    from safetensors.torch import load_file
    from cas_metric.encoders.model import Towers
    from cas_metric.encoders.preprocessing import Preprocessing
    from cas_metric.encoders.weights import content_digest

    weights = load_file(directory / "model.safetensors")["w"]
    model = torch.nn.Linear(weights.shape[1], weights.shape[0], bias=False)
    model.weight.data.copy_(weights)

    def official(images):
        arrays = [torch.tensor(list(image.resize((4, 4)).getdata())) for image in images]
        return torch.stack(arrays).float().div(255).permute(0, 2, 1).reshape(-1, 3, 4, 4)

    return Towers(
        model=model,
        image_features=lambda pixels: model(pixels.flatten(1)),
        text=None,
        dim=weights.shape[0],
        preprocessing=Preprocessing(
            official, 4, "squash", 4, "bicubic", (0.0,) * 3, (1.0,) * 3
        ),
        pooling="none",
        content=content_digest(directory),
    )

FAMILY = Family(
    name="toy",
    load=load,
    model_types=("toy",),
    encoders=(
        EncoderInfo("toy-alias", "toy", "someone/toy", "0" * 40, "MIT", 0, 4, 0),
    ),
)
"""


def write_metadata(information: Path, version: str) -> None:
    text = f"Metadata-Version: 2.1\nName: toy-encoder\nVersion: {version}\n"
    (information / "METADATA").write_text(text)


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed package with an entry point, on the path for one test."""
    site = tmp_path / "site"
    information = site / "toy_encoder-1.0.dist-info"
    information.mkdir(parents=True)
    (site / "toy_encoder.py").write_text(MODULE)
    (information / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: toy-encoder\nVersion: 1.0\n"
    )
    (information / "entry_points.txt").write_text(
        "[cas_metric.encoders]\ntoy = toy_encoder:FAMILY\n"
    )
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield information
    sys.modules.pop("toy_encoder", None)


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    directory = tmp_path / "toy-model"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps({"model_type": "toy"}))
    save_file({"w": torch.eye(8, 48)}, directory / "model.safetensors")
    return directory


def test_a_family_of_another_package_loads_by_directory_and_by_name(
    distribution: Path, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "toy-alias" in [info.alias for info in list_encoders()]
    encoder = load_encoder(toy, device="cpu")
    images = torch.rand(2, 3, 9, 9)
    assert encoder.embed_images(images).shape == (2, 8)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    snapshot = tmp_path / "hub" / "models--someone--toy" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    for path in toy.iterdir():
        (snapshot / path.name).write_bytes(path.read_bytes())
    (snapshot / "preprocessor_config.json").write_text("{}")
    named = load_encoder("toy-alias", device="cpu", offline=True)
    assert torch.equal(named.embed_images(images), encoder.embed_images(images))


def test_another_version_of_the_package_is_another_encoder_in_memory(
    distribution: Path, toy: Path
) -> None:
    open_encoder(toy, device="cpu")
    assert not open_encoder(toy, device="cpu").loaded
    newer = distribution.with_name("toy_encoder-2.0.dist-info")
    distribution.rename(newer)
    write_metadata(newer, "2.0")
    assert open_encoder(toy, device="cpu").loaded


def test_without_the_package_the_directory_is_refused(toy: Path) -> None:
    with pytest.raises(InputError, match="'toy' is no supported encoder family"):
        load_encoder(toy, device="cpu")


@pytest.mark.parametrize("content", ["raise RuntimeError('broken')", "FAMILY = 1"])
def test_a_broken_package_is_named(content: str, distribution: Path, toy: Path) -> None:
    (distribution.parent / "toy_encoder.py").write_text(content)
    with pytest.raises(CasError, match=r"the encoder family 'toy' \(toy_encoder:FAMILY of toy"):
        load_encoder(toy, device="cpu")
    assert load_encoder("phantom-siglip", device="cpu").dim == 128  # ours are not asked for theirs
