"""``--offline`` opens no socket: for no family, and for no verb about encoders."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.support import tiny_encoders, tiny_models
from tests.support.sockets import refuse_sockets

from cas_metric.cli.main import main
from cas_metric.encoders import load_encoder, open_encoder
from cas_metric.errors import ModelUnavailable

BUILDERS: dict[str, Callable[[Path], Path]] = {
    "siglip": tiny_models.build_siglip,
    "clip": tiny_models.build_clip,
    "metaclip2": tiny_models.build_metaclip2,
    "dinov2": tiny_models.build_dinov2,
    **tiny_encoders.BUILDERS,
    "timm": lambda directory: tiny_encoders.build_timm(directory, "uni2-h"),
}


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[object]:
    return refuse_sockets(monkeypatch, tmp_path / "empty")


def _use(directory: str | Path) -> None:
    for opened in (load_encoder, open_encoder):
        encoder = opened(directory, device="cpu", offline=True)
        image = np.zeros((40, 50, 3), np.uint8)
        encoder.embed_pixels(encoder.official_preprocess([image]))
        if encoder.token_limit:
            encoder.embed_texts(["a plaque"])


@pytest.mark.parametrize("name", BUILDERS)
def test_no_family_asks_anybody(name: str, tmp_path: Path, sockets: list[object]) -> None:
    _use(BUILDERS[name](tmp_path / "model"))
    assert sockets == []


def test_biomedclip_asks_nobody_for_its_text_tower(
    tmp_path: Path, sockets: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("open_clip")
    from cas_metric.encoders.families import openclip

    directory = tiny_encoders.build_biomedclip(tmp_path / "model")
    state = torch.load(directory / "open_clip_pytorch_model.bin", weights_only=True)
    save_file(state, directory / "open_clip_model.safetensors")
    name = tiny_encoders.biomedclip_config()["model_cfg"]["text_cfg"]["hf_model_name"]
    monkeypatch.setitem(openclip.TEXT_CONFIGS, name, tiny_encoders.BIOMED_TEXT)
    _use(directory)
    assert sockets == []
    monkeypatch.delitem(openclip.TEXT_CONFIGS, name)
    with pytest.raises(ModelUnavailable, match="whose configuration is not known here"):
        load_encoder(directory, device="cpu", offline=True)
    assert sockets == []


@pytest.fixture
def architecture(tmp_path: Path) -> tuple[str, Path]:
    """One of open_clip's, with a tokenizer that it would get from the hub."""
    open_clip = pytest.importorskip("open_clip")
    tower = {"layers": 1, "width": 64, "heads": 2, "context_length": 64, "vocab_size": 600}
    configuration = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8},
        "text_cfg": {**tower, "hf_tokenizer_name": "someone/tokenizer"},
    }
    (tmp_path / "tiny-hub-tokenizer.json").write_text(json.dumps(configuration))
    open_clip.add_model_config(tmp_path / "tiny-hub-tokenizer.json")
    model = open_clip.create_model("tiny-hub-tokenizer")
    weights = tmp_path / "weights" / "model.safetensors"
    weights.parent.mkdir()
    save_file(model.state_dict(), weights)
    return "tiny-hub-tokenizer", weights


def test_an_architecture_and_a_file_ask_nobody_for_a_tokenizer(
    architecture: tuple[str, Path], tmp_path: Path, sockets: list[object]
) -> None:
    name, weights = architecture
    spec = f"openclip:{name}@{weights}"
    with pytest.raises(ModelUnavailable, match=r"tokenizer of open_clip's .* cannot be had"):
        load_encoder(spec, device="cpu", offline=True)
    assert sockets == []
    model = tiny_models.build_siglip(tmp_path / "siglip")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(model / file, weights.parent)
    _use(spec)  # it lies beside the weights now
    assert sockets == []


@pytest.mark.parametrize(
    "words",
    [
        ["list"],
        ["check", "phantom-siglip", "--device", "cpu", "--offline"],
        ["tokens", "phantom-siglip", "a plaque", "--offline"],
        ["checklists", "phantom-siglip", "--domain", "fitzpatrick17k", "--offline"],
    ],
)
def test_no_verb_asks_anybody(
    words: list[str], sockets: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["cas", "encoders", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (0, None)
    assert sockets == []


@pytest.mark.parametrize(
    ("spec", "instead"),
    [
        ("siglip", "phantom-siglip"),
        ("medsiglip", "phantom-medsiglip"),
        ("metaclip2", "phantom-metaclip"),
        ("dinov2", "phantom-dino"),
        ("rad-dino", "phantom-dino"),
        ("uni2-h", "phantom-dino"),
        ("biomedclip", "phantom-siglip"),
        ("someone/unknown", "phantom-siglip"),
    ],
)
def test_what_is_not_here_names_the_embedded_one_that_fits(
    spec: str, instead: str, sockets: list[object]
) -> None:
    with pytest.raises(ModelUnavailable, match=f"`{instead}` is embedded"):
        load_encoder(spec, device="cpu", offline=True)
    assert sockets == []
