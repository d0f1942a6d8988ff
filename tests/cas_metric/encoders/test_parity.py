"""The same weights through transformers and through open_clip give the same embeddings."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.support.tiny_models import build_clip, build_metaclip2

from cas_metric.encoders import load_encoder
from cas_metric.primitives import cosine

open_clip = pytest.importorskip("open_clip")
pytest.importorskip("timm")

from tests.support.openclip_weights import convert_clip, convert_siglip  # noqa: E402 - needs both

TEXTS = (
    "Frontal chest radiograph with an enlarged cardiac silhouette.",
    "Melanoma. Color: dark brown, uneven; Border: irregular",
    " ".join(["plaque"] * 120),
    "a",
)
#: Largest cosine distance between two implementations of one model in float32.
BOUND = 1e-5


def distances(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((1 - cosine(ours.double(), theirs.double())).max())


def assert_same(first: Path, second: Path, photographs: list[np.ndarray]) -> None:
    ours, theirs = (load_encoder(path, device="cpu") for path in (first, second))
    assert (ours.dim, ours.token_limit, ours.image_size) == (
        theirs.dim,
        theirs.token_limit,
        theirs.image_size,
    )
    pixels = [encoder.official_preprocess(photographs) for encoder in (ours, theirs)]
    torch.testing.assert_close(pixels[0], pixels[1], atol=1e-6, rtol=0)
    images = [e.embed_pixels(p) for e, p in zip((ours, theirs), pixels, strict=True)]
    assert distances(*images) < BOUND
    texts = [encoder.embed_texts(TEXTS) for encoder in (ours, theirs)]
    assert texts[0].tokens.tolist() == texts[1].tokens.tolist()
    assert texts[0].truncated.tolist() == texts[1].truncated.tolist() == [False, False, True, False]
    assert distances(texts[0].embeddings, texts[1].embeddings) < BOUND
    # Scores are cosines of the two: they agree as well as the embeddings do.
    scores = [i @ t.embeddings.T for i, t in zip(images, texts, strict=True)]
    torch.testing.assert_close(scores[0], scores[1], atol=BOUND, rtol=0)
    assert float(scores[0].std()) > 0.05  # agreement of constants would show nothing


def test_siglip_agrees_with_open_clip(
    models: dict[str, Path], photographs: list[np.ndarray], tmp_path: Path
) -> None:
    assert_same(models["siglip"], convert_siglip(models["siglip"], tmp_path / "oc"), photographs)


def test_metaclip2_agrees_with_open_clip(
    models: dict[str, Path], photographs: list[np.ndarray], tmp_path: Path
) -> None:
    converted = convert_clip(models["metaclip2"], tmp_path / "oc", hub_tokenizer=True)
    assert_same(models["metaclip2"], converted, photographs)


def test_clip_agrees_with_open_clip_and_its_own_byte_pair_encoding(
    photographs: list[np.ndarray], tmp_path: Path
) -> None:
    source = build_clip(tmp_path / "clip", tokenizer=_clip_tokenizer())
    converted = convert_clip(source, tmp_path / "oc", hub_tokenizer=False)
    assert_same(source, converted, photographs)


def test_weights_of_a_file_load_into_a_named_architecture(tmp_path: Path) -> None:
    source = build_clip(tmp_path / "clip", tokenizer=_clip_tokenizer())
    directory = convert_clip(source, tmp_path / "oc", hub_tokenizer=False)
    settings = json.loads((directory / "open_clip_config.json").read_text())
    architecture = tmp_path / "tiny-clip-for-tests.json"
    architecture.write_text(json.dumps(settings["model_cfg"]))
    open_clip.add_model_config(architecture)
    weights = shutil.copy(directory / "open_clip_model.safetensors", tmp_path / "w.safetensors")
    encoder = load_encoder(f"openclip:tiny-clip-for-tests@{weights}", device="cpu")
    reference = load_encoder(directory, device="cpu")
    texts = [e.embed_texts(TEXTS).embeddings for e in (encoder, reference)]
    assert distances(*texts) < BOUND


def test_padding_siglip_to_the_longest_text_gives_something_else(models: dict[str, Path]) -> None:
    from transformers import AutoTokenizer, SiglipModel

    text = TEXTS[0]
    encoder = load_encoder(models["siglip"], device="cpu")
    tokenizer = AutoTokenizer.from_pretrained(models["siglip"])
    model = SiglipModel.from_pretrained(models["siglip"])
    longest = tokenizer([text], padding="longest", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        wrong = model.get_text_features(input_ids=longest).pooler_output
        full = tokenizer([text], padding="max_length", max_length=64, return_tensors="pt")
        right = model.get_text_features(input_ids=full["input_ids"]).pooler_output
    ours = encoder.embed_texts([text]).embeddings
    assert distances(ours, right) < BOUND
    assert distances(ours, wrong) > 0.01


@pytest.mark.parametrize("build", [build_clip, build_metaclip2])
def test_activation_is_the_configurations(build, tmp_path: Path) -> None:
    """A checkpoint without quick_gelu computes something else: the name must not decide."""
    directory = build(tmp_path / "quick")
    before = load_encoder(directory, device="cpu")
    config = json.loads((directory / "config.json").read_text())
    assert config["text_config"]["hidden_act"] == "quick_gelu"
    config["text_config"]["hidden_act"] = "gelu"
    (directory / "config.json").write_text(json.dumps(config))
    after = load_encoder(directory, device="cpu")
    texts = [e.embed_texts(TEXTS).embeddings for e in (before, after)]
    assert distances(*texts) > BOUND
    assert before.fingerprint != after.fingerprint


def _clip_tokenizer():
    """CLIP's real tokenizer as transformers builds it, from open_clip's copy of the merges."""
    from transformers import CLIPTokenizer

    simple = open_clip.SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {names.get(token, token): index for token, index in simple.encoder.items()}
    return CLIPTokenizer(vocab=vocabulary, merges=list(simple.bpe_ranks), model_max_length=77)
