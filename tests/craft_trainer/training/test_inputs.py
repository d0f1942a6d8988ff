"""What was encoded once is not encoded again, and is the same; text encoders make room."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from cas_metric.embedding.cache import EmbeddingCache
from craft_trainer.bases import loading as models
from craft_trainer.bases import tokens, weights
from craft_trainer.bases.base import DiffusionModel
from craft_trainer.data.dataset import read_examples
from craft_trainer.data.encoding import Encodings, encode_latents, encode_texts
from craft_trainer.diffusion.conditions import Conditions
from craft_trainer.guards import heldout
from craft_trainer.training import trainer

CPU = torch.device("cpu")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for every batch of images that a VAE encodes, and for every text."""
    from craft_trainer.bases.stable_diffusion import StableDiffusion

    calls: list[str] = []
    images, texts = DiffusionModel.encode_images, StableDiffusion.encode_prompts
    monkeypatch.setattr(
        DiffusionModel, "encode_images", lambda *a: (calls.append("images"), images(*a))[1]
    )
    monkeypatch.setattr(
        StableDiffusion, "encode_prompts", lambda *a: (calls.append("texts"), texts(*a))[1]
    )
    return calls


def test_encodings_come_from_the_store_bit_for_bit(
    base: Path, images: Path, tmp_path: Path, counted: list[str]
) -> None:
    model = models.load_model(str(base), device=CPU)
    examples = read_examples(images, None)
    with EmbeddingCache(tmp_path) as cache:
        own = Encodings(cache, "base", model)
        first = encode_latents(examples, own, 32), encode_texts(examples.prompts, own)
        assert counted == ["images"] * 2 + ["texts"] * 6  # six images, four at once
        again = encode_latents(examples, own, 32), encode_texts(examples.prompts, own)
        assert len(counted) == 8
        torch.testing.assert_close(first[0], again[0], atol=0, rtol=0)
        read, found = (one.of(examples.prompts).embeddings for _, one in (first, again))
        torch.testing.assert_close(read, found, atol=0, rtol=0)
        encode_latents(examples, own, 16)
        encode_latents(examples, Encodings(cache, "another base", model), 32)
        assert counted[8:] == ["images"] * 4
        initial = tokens.initial_tokens(model, ["Cardiomegaly"])
        tokens.attach_tokens(model, initial)
        encode_texts(examples.prompts[:1], own)  # a token changes what a text may become
        assert counted[12:] == ["texts"]


@pytest.mark.parametrize(
    "file", ["tokenizer/special.json", "text_encoder/config.json", "vae/a.txt"]
)
def test_settings_and_versions_decide_an_encoding_too(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    def found() -> str:
        return weights.encoding_hash(str(own), None, offline=True)

    own = shutil.copytree(base, tmp_path / "own")
    before = found()
    (own / "text_encoder" / "pytorch_model.bin").write_bytes(b"never loaded")
    assert found() == before
    with (own / file).open("a", encoding="utf-8") as settings:
        settings.write("\n")
    changed = found()
    assert changed != before
    monkeypatch.setattr(weights, "installed", lambda name: "99")
    assert found() not in (before, changed)


def test_a_run_encodes_anew_where_the_tokenizer_changed(
    settings: Any, base: Path, tmp_path: Path, counted: list[str]
) -> None:
    own = shutil.copytree(base, tmp_path / "own")
    for name in ("one", "two"):
        config = settings(
            {"method": "lora", "steps": 1}, output=str(tmp_path / name), base=str(own)
        )
        trainer.train_stages(config, cache=tmp_path / "cache")
        (own / "tokenizer" / "note.txt").write_text("another", encoding="utf-8")
    assert counted.count("texts") == 12


@pytest.mark.parametrize("pooled", [None, torch.randn(1, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_condition_survives_the_store(
    tmp_path: Path, dtype: torch.dtype, pooled: torch.Tensor | None
) -> None:
    class Model:
        device, tokens, towers, reading = CPU, {}, (), DiffusionModel.reading
        text_encoders: ClassVar[list[Any]] = []

        def encode_prompts(self, _: Any) -> Conditions:
            return Conditions(torch.randn(1, 4, 5), pooled)

    model: Any = Model()
    model.dtype = dtype
    with EmbeddingCache(tmp_path) as cache:
        made, found = (Encodings(cache, "base", model).text("a") for _ in range(2))
    assert found.embeddings.dtype == dtype
    torch.testing.assert_close(made.embeddings, found.embeddings, atol=0, rtol=0)
    assert (found.pooled is None) == (pooled is None)
    if pooled is not None:
        torch.testing.assert_close(made.pooled, found.pooled, atol=0, rtol=0)


def test_stages_and_runs_share_what_was_encoded(
    settings: Any, tmp_path: Path, counted: list[str]
) -> None:
    stage = {"method": "lora", "steps": 1}
    said: list[str] = []
    for name in ("one", "two"):
        config = settings(stage, stage, output=str(tmp_path / name))
        trainer.train_stages(
            config, cache=tmp_path / "cache", progress=lambda what, *_: said.append(what)
        )
    assert counted.count("images") == 2
    assert counted.count("texts") == 6
    assert {"encoding images", "encoding texts"} <= set(said)


@pytest.fixture
def elsewhere(base: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[str]]:
    """A model on the device ``meta``, whose weights are lost on the way, and the moves of texts."""
    model = models.load_model(str(base), device=CPU)
    (encoder,) = model.text_encoders
    model.trunk.to("meta")
    encoder.to("meta")
    moves: list[str] = []

    def to(where: Any) -> None:
        if torch.device(where) != next(encoder.parameters()).device:
            moves.append(str(where))
        encoder.to_empty(device=where)

    monkeypatch.setattr(encoder, "to", to)
    monkeypatch.setattr(
        type(model),
        "encode_prompts",
        lambda self, texts: Conditions(
            torch.zeros(len(texts), 1, 1, device=next(encoder.parameters()).device)
        ),
    )
    return model, moves


def test_text_encoders_leave_the_device_and_come_back_to_read(
    elsewhere: tuple[Any, list[str]],
) -> None:
    model, moves = elsewhere
    (encoder,) = model.text_encoders
    model.put_texts_away()
    assert next(encoder.parameters()).device.type == "cpu"
    with model.reading(), model.reading():
        assert model.unconditional().embeddings.device.type == "meta"
    assert next(encoder.parameters()).device.type == "cpu"
    assert moves == ["cpu", "meta", "cpu"]


def test_text_encoders_move_once_for_all_texts(
    elsewhere: tuple[Any, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, moves = elsewhere
    model.put_texts_away()
    monkeypatch.setattr(Conditions, "to", lambda self, *_: Conditions(torch.zeros(1, 1, 1)))
    with EmbeddingCache(tmp_path) as cache:
        encode_texts(["a film", "a scan", "a slide"], Encodings(cache, "base", model))
    assert moves == ["cpu", "meta", "cpu"]


def test_text_encoders_are_away_while_a_look_samples(
    settings: Any, elsewhere: tuple[Any, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, moves = elsewhere
    model.put_texts_away()

    def draw(model: Any, texts: Any, *_: Any) -> torch.Tensor:
        with model.reading():
            assert moves[-1] == "meta"
        assert moves[-1] == "cpu"  # before the first denoising step of each batch
        return torch.zeros(len(texts), 3, 4, 4)

    def looked(pixels: Any) -> Any:
        raise InterruptedError

    monkeypatch.setattr(heldout, "sample_images", draw)
    monkeypatch.setattr(heldout, "as_pixels", looked)
    config = settings({"method": "lora", "steps": 1}, validation={"batch_size": 1})
    unused: Any = None
    look = heldout.HeldOut(*[unused] * 6, cells=(), config=config)
    with pytest.raises(InterruptedError):
        look.look(model, ["a film", "a scan"], 0, None)
    assert moves == ["cpu", "meta", "cpu", "meta", "cpu"]
