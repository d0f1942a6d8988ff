"""Local models: real architectures at a tiny size, through the same questions and checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from PIL import Image
from pydantic import BaseModel
from tests.support.tiny_models import build_siglip
from tests.support.tiny_vlm import build_gemma3, build_qwen2_5_vl, teach

from cas_metric.errors import CasError, ModelUnavailable
from cas_metric.mllm import (
    AnswerCache,
    Conversation,
    Model,
    Options,
    Request,
    Settings,
    answer_all,
    open_model,
)


class Verdict(BaseModel):
    verdict: Literal["yes", "no"]
    why: str


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_gemma3(tmp_path_factory.mktemp("vlm") / "gemma3")


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_qwen2_5_vl(tmp_path_factory.mktemp("vlm") / "qwen2_5_vl")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("images")
    paths = {}
    for name, grey in (("bright", 240), ("dark", 10)):
        paths[name] = folder / f"{name}.png"
        Image.new("RGB", (40, 60), (grey, grey, grey)).save(paths[name])
    return paths


def load(directory: Path, **settings: Any) -> Model:
    return open_model(f"local:{directory}", Settings(max_tokens=24, **settings), device="cpu")


def questions(images: dict[str, Path]) -> list[Request]:
    return [
        Request(key=name, system="Judge.", prompt="Bright?", schema=Verdict, images=(path,))
        for name, path in images.items()
    ]


def test_noise_is_listed_with_its_reason(gemma, qwen, images):
    """Random weights say nothing; the Qwen template knows no system prompt besides."""
    for directory in (gemma, qwen):
        answers = answer_all(questions(images), load(directory), options=Options(repairs=1))
        assert [answer.key for answer in answers] == ["bright", "dark"]
        for answer in answers:
            assert answer.outcome == "rejected"
            assert answer.reason
            assert answer.attempts == 2
            assert answer.usage.output_tokens > 0


def test_a_model_that_has_learned_to_answer_is_accepted(gemma, images, tmp_path, monkeypatch):
    """The answer depends on the image, and is that of the model's own greedy decoding."""
    said = {
        "bright": '{"verdict": "yes", "why": "the image is bright"}',
        "dark": '{"verdict": "no", "why": "the image is dark"}',
    }
    model = load(gemma)
    lessons: list[Any] = []
    tensors = model._tensors

    def listen(messages: Any) -> Any:
        lessons.append(messages)
        return tensors(messages)

    monkeypatch.setattr(model, "_tensors", listen)
    for request in questions(images):
        model.reply(Conversation(request))
    taught = tmp_path / "taught"
    build_gemma3(taught)
    teach(taught, list(zip(lessons, said.values(), strict=True)))
    with AnswerCache(tmp_path / "cache") as cache:
        answers = answer_all(questions(images), load(taught), cache=cache)
        again = answer_all(questions(images), load(taught), cache=cache)
    assert {answer.key: answer.text for answer in answers} == said
    assert [answer.value.verdict for answer in answers] == ["yes", "no"]
    assert all(answer.cached for answer in again)


def test_marks_of_thinking_survive_that_are_special_tokens(gemma):
    """Dropped like other special tokens, they would leave a draft that reads like an answer."""
    model: Any = load(gemma)
    tokenizer = model._processor.tokenizer
    tokenizer.add_special_tokens({"extra_special_tokens": ["◁think▷", "◁/think▷"]})
    said = tokenizer('<bos>◁think▷{"a": 1}<end_of_turn>', add_special_tokens=False).input_ids
    assert model._text(torch.tensor(said)) == '◁think▷{"a": 1}'


def test_the_weights_and_parameters_are_the_identity(gemma, qwen, tmp_path):
    assert load(gemma).identity == load(gemma).identity
    other = build_gemma3(tmp_path / "other", seed=1)
    identities = [load(gemma), load(qwen), load(other), load(gemma, longest_side=8)]
    assert len({str(model.identity) for model in identities}) == 4


class TestWhatCannotBeLoaded:
    def test_pickled_weights(self, gemma, tmp_path):
        for file in gemma.iterdir():
            if file.suffix != ".safetensors":
                (tmp_path / file.name).write_bytes(file.read_bytes())
        torch.save({}, tmp_path / "pytorch_model.bin")
        with pytest.raises(ModelUnavailable, match="pickled"):
            load(tmp_path)

    def test_an_encoder(self, tmp_path):
        with pytest.raises(CasError, match="'siglip' cannot be loaded as an image-text-to-text"):
            load(build_siglip(tmp_path / "siglip"))

    def test_a_model_without_chat_template(self, gemma, tmp_path):
        for file in gemma.iterdir():
            if "chat_template" not in file.name:
                (tmp_path / file.name).write_bytes(file.read_bytes())
        with pytest.raises(CasError, match="no chat template"):
            load(tmp_path)

    def test_a_directory_that_is_not_there(self):
        with pytest.raises(ModelUnavailable, match="does not exist"):
            open_model("local:./nowhere/at/all")

    def test_a_hub_id_offline(self, monkeypatch, tmp_path):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        with pytest.raises(ModelUnavailable, match="cannot load the vision-language model") as e:
            open_model("local:google/medgemma-4b-it", offline=True)
        assert "phantom-siglip" not in str(e.value)
