"""Tokens, limits and text policies; every pitfall of the families' tokenizers."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from pathlib import Path

import pytest
import sentencepiece
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.tiny_models import CORPUS, build_siglip

from cas_metric.encoders import ModelEncoder, load_encoder
from cas_metric.encoders.text import split_attributes, split_chunks
from cas_metric.errors import InputError

LONG = " ".join(["plaque with a red scaly border"] * 30)
CHECKLIST = "Psoriasis. Location: elbow, knee; Color: red; Texture: silvery scale"


def encoder_of(path: Path, policy: str = "truncate") -> ModelEncoder:
    return load_encoder(path, device="cpu", text_policy=policy)


@pytest.mark.parametrize("family", ["siglip", "clip", "metaclip2"])
def test_counts_are_those_of_the_whole_text_with_special_tokens(
    family: str, models: dict[str, Path]
) -> None:
    encoder = encoder_of(models[family])
    special = 1 if family == "siglip" else 2
    texts = encoder.embed_texts(["", "plaque", "plaque plaque", LONG])
    assert texts.tokens.tolist()[:3] == [special, special + 1, special + 2]
    assert texts.tokens.tolist()[3] == encoder.count_tokens([LONG])[0] > encoder.token_limit
    assert texts.truncated.tolist() == [False, False, False, True]


@pytest.mark.parametrize("family", ["siglip", "clip", "metaclip2"])
def test_a_text_at_the_limit_is_whole_and_one_token_more_is_cut(
    family: str, models: dict[str, Path]
) -> None:
    encoder = encoder_of(models[family])
    room = encoder.token_limit - encoder.count_tokens([""])[0]
    fits, beyond = (" ".join(["plaque"] * count) for count in (room, room + 1))
    result = encoder.embed_texts([fits, beyond])
    assert result.tokens.tolist() == [encoder.token_limit, encoder.token_limit + 1]
    assert result.truncated.tolist() == [False, True]
    torch.testing.assert_close(result.embeddings[0], result.embeddings[1])


@pytest.mark.parametrize(
    ("family", "eos"), [("siglip", "</s>"), ("clip", "<|endoftext|>"), ("metaclip2", "</s>")]
)
def test_eos_stays_on_a_cut_text(family: str, eos: str, models: dict[str, Path]) -> None:
    """Without EOS a CLIP text tower pools an arbitrary position."""
    encoder = encoder_of(models[family])
    tokens = encoder.show_tokens(LONG)
    assert len(tokens) == encoder.token_limit
    assert tokens[-1] == eos
    assert tokens.count(eos) == 1


@pytest.mark.parametrize("family", ["siglip", "clip", "metaclip2"])
def test_a_text_embeds_the_same_alone_and_beside_others(
    family: str, models: dict[str, Path]
) -> None:
    encoder = encoder_of(models[family])
    alone = encoder.embed_texts(["plaque"]).embeddings[0]
    texts = [LONG, "nodule", "plaque", *CORPUS, "plaque"]
    beside = encoder.embed_texts(texts).embeddings
    assert torch.equal(alone, beside[2])
    assert torch.equal(alone, beside[-1])


@pytest.mark.parametrize(
    ("family", "early"), [("clip", False), ("clip", True), ("metaclip2", False)]
)
def test_padding_behind_eos_changes_nothing_in_a_causal_tower(
    family: str, early: bool, models: dict[str, Path], tmp_path: Path
) -> None:
    """Against the model on texts padded to 77; early CLIP configurations pool by the highest id."""
    directory = models[family]
    encoder = encoder_of(_with_eos(directory, tmp_path / "early", 2) if early else directory)
    texts = ["", "plaque", *CORPUS, "plaque </s> nodule", "plaque <|endoftext|> nodule", LONG]
    ids = [encoder._text.tokenizer.encode([text]) for text in texts]
    assert all(row.shape == (1, 77) for row in ids)
    with torch.no_grad():
        whole = encoder.model.get_text_features(input_ids=torch.cat(ids)).pooler_output
    ours = encoder.embed_texts(texts).embeddings
    assert (ours - torch.nn.functional.normalize(whole, dim=-1)).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("family", "passes"),
    [
        ("siglip", [(8, 64)]),
        ("clip", [(8, 77), (32, 16), (64, 8)]),
        ("metaclip2", [(8, 77), (32, 16), (64, 8)]),
    ],
)
def test_only_a_causal_tower_is_spared_padding(
    family: str, passes: list[tuple[int, int]], models: dict[str, Path]
) -> None:
    tower = encoder_of(models[family])._text
    seen = []

    def features(ids: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(ids.shape))
        return tower.features(ids)

    texts = [" ".join(["plaque"] * count) for count in (1, 6, 7, 100)]
    dataclasses.replace(tower, features=features).embed(texts)
    assert sorted(seen) == passes


def test_no_texts_give_no_rows(models: dict[str, Path]) -> None:
    result = encoder_of(models["siglip"]).embed_texts([])
    assert result.embeddings.shape == (0, 32)
    assert result.tokens.shape == result.truncated.shape == (0,)


def test_dinov2_says_that_it_embeds_images_only(models: dict[str, Path]) -> None:
    encoder = encoder_of(models["dinov2"])
    for call in (encoder.embed_texts, encoder.count_tokens):
        with pytest.raises(InputError, match="no text tower: it embeds images only"):
            call(["plaque"])


# -- policies ------------------------------------------------------------------------------------


def test_per_attribute_mean_is_the_mean_of_the_attributes(models: dict[str, Path]) -> None:
    plain, policy = encoder_of(models["siglip"]), encoder_of(models["siglip"], "per-attribute-mean")
    parts = ["Psoriasis. Location: elbow, knee", "Color: red", "Texture: silvery scale"]
    assert split_attributes(CHECKLIST) == parts
    expected = plain.embed_texts(parts).embeddings.mean(dim=0)
    expected = expected / expected.norm()
    result = policy.embed_texts([CHECKLIST])
    torch.testing.assert_close(result.embeddings[0], expected)
    assert not result.truncated[0]
    assert result.tokens[0] == plain.count_tokens([CHECKLIST])[0]


def test_per_attribute_mean_reports_an_attribute_beyond_the_limit(models: dict[str, Path]) -> None:
    policy = encoder_of(models["siglip"], "per-attribute-mean")
    assert policy.embed_texts([f"Psoriasis. Color: red; Texture: {LONG}"]).truncated.tolist() == [
        True
    ]


def test_chunk_mean_sees_the_end_that_truncate_cuts(models: dict[str, Path]) -> None:
    endings = [f"{LONG} melanoma", f"{LONG} nodule"]
    cut = encoder_of(models["siglip"]).embed_texts(endings)
    whole = encoder_of(models["siglip"], "chunk-mean").embed_texts(endings)
    assert torch.equal(cut.embeddings[0], cut.embeddings[1])
    assert not torch.allclose(whole.embeddings[0], whole.embeddings[1])
    assert whole.truncated.tolist() == [False, False]
    torch.testing.assert_close(whole.embeddings.norm(dim=-1), torch.ones(2))


@pytest.mark.parametrize("policy", ["chunk-mean", "per-attribute-mean"])
def test_a_short_text_is_the_same_under_every_policy(policy: str, models: dict[str, Path]) -> None:
    plain = encoder_of(models["siglip"]).embed_texts(["red plaque"])
    other = encoder_of(models["siglip"], policy).embed_texts(["red plaque"])
    assert torch.equal(plain.embeddings, other.embeddings)


class WordCounter:
    """A tokenizer whose tokens are words, and two special ones."""

    limit = 7

    def count(self, texts):
        return [sum(-(-len(word) // 5) for word in text.split()) + 2 for text in texts]


@given(st.lists(st.text("abc", min_size=1, max_size=20), min_size=1, max_size=60))
@settings(max_examples=200, deadline=None)
def test_chunks_keep_every_word_in_order_and_fit(words: list[str]) -> None:
    counter = WordCounter()
    chunks = split_chunks(counter, " ".join(words))
    assert " ".join(chunks).split() == words
    assert all(chunks)
    for chunk, count in zip(chunks, counter.count(chunks), strict=True):
        assert count <= counter.limit or len(chunks) == len(words), chunk


@given(st.lists(st.from_regex(r"[a-c:,. ]*[a-c]", fullmatch=True), min_size=1))
def test_attributes_lose_no_text(items: list[str]) -> None:
    assert split_attributes("; ".join(items)) == [item.strip() for item in items]


def test_a_text_without_attributes_is_one_part() -> None:
    assert split_attributes("") == [""]
    assert split_attributes("No Finding") == ["No Finding"]


def test_an_unknown_policy_names_the_known_ones(models: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="chunk-mean"):
        encoder_of(models["siglip"], "mean")


# -- the tokenizers that released checkpoints use ------------------------------------------------


def test_siglips_own_tokenizer_lowercases_strips_and_pads(tmp_path: Path) -> None:
    """``SiglipTokenizer`` on a sentencepiece model, as the google/siglip repositories have it."""
    encoder = encoder_of(_with_sentencepiece(build_siglip(tmp_path / "siglip")))
    assert encoder.show_tokens("Chest, X-RAY!") == encoder.show_tokens("chest xray")
    tokens = encoder.show_tokens("chest radiograph")
    assert tokens[-1] == "</s>"
    assert "".join(tokens[:-1]).replace("▁", " ").strip() == "chest radiograph"
    ids = encoder._text.tokenizer.encode(["chest radiograph"])[0]
    assert ids.shape == (64,)
    assert set(ids[len(tokens) - 1 :].tolist()) == {1}  # </s> ends the text and pads it
    assert encoder.show_tokens(LONG)[-1] == "</s>"
    assert encoder.embed_texts([LONG]).truncated.item()


def test_siglips_tokenizer_without_sentencepiece_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cas_metric.encoders import checkpoint
    from cas_metric.errors import MissingDependency

    directory = _with_sentencepiece(build_siglip(tmp_path / "siglip"))
    monkeypatch.setattr(checkpoint, "_installed", lambda module: module != "sentencepiece")
    with pytest.raises(MissingDependency, match="sentencepiece"):
        encoder_of(directory)


@pytest.mark.parametrize("name", ["GemmaTokenizer", "Siglip2Tokenizer"])
def test_siglip2_text_is_lowercased_and_ends_with_eos(name: str, tmp_path: Path) -> None:
    """SigLIP 2 repositories name Gemma's cased, left-padding tokenizer; training was lower case."""
    encoder = encoder_of(_with_gemma(build_siglip(tmp_path / "siglip2"), name))
    upper, lower = encoder.show_tokens("Chest RADIOGRAPH"), encoder.show_tokens("chest radiograph")
    assert upper == lower
    assert lower[-1] == "<eos>"
    ids = encoder._text.tokenizer.encode(["chest"])[0].tolist()
    length = encoder.count_tokens(["chest"])[0]
    assert ids[length - 1] == 1  # <eos>
    assert set(ids[length:]) == {0}  # <pad>, on the right


def test_a_tokenizer_that_does_not_end_texts_is_refused(tmp_path: Path) -> None:
    directory = _with_gemma(build_siglip(tmp_path / "siglip2"), "GemmaTokenizer", eos=False)
    with pytest.raises(InputError, match="does not end a text with '<eos>'"):
        encoder_of(directory)


def _with_sentencepiece(directory: Path) -> Path:
    (directory / "tokenizer.json").unlink()
    writer = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([text.lower() for text in CORPUS] * 4),
        model_writer=writer,
        vocab_size=120,
        pad_id=-1,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        control_symbols="<control>",
        hard_vocab_limit=False,
        minloglevel=2,
        add_dummy_prefix=True,
    )
    (directory / "spiece.model").write_bytes(writer.getvalue())
    settings = {"tokenizer_class": "SiglipTokenizer", "do_lower_case": True, "model_max_length": 64}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    return directory


def _with_gemma(directory: Path, name: str, *, eos: bool = True) -> Path:
    from transformers import GemmaTokenizer

    letters = [*"▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    vocabulary = {token: index for index, token in enumerate([*specials, *letters])}
    tokenizer = GemmaTokenizer(vocab=vocabulary, merges=[])
    if eos:
        tokenizer.add_eos_token = True  # writes the post-processor that tokenizer.json carries
    tokenizer.save_pretrained(directory)
    path = directory / "tokenizer_config.json"
    settings = {**json.loads(path.read_text()), "tokenizer_class": name}
    settings["padding_side"] = "left"
    path.write_text(json.dumps(settings))
    return directory


def _with_eos(model: Path, directory: Path, token: int) -> Path:
    """A copy of a model directory whose configuration names another EOS."""
    shutil.copytree(model, directory)
    config = json.loads((directory / "config.json").read_text())
    config["text_config"]["eos_token_id"] = token
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def test_a_text_tower_that_would_pool_another_token_is_refused(
    models: dict[str, Path], tmp_path: Path
) -> None:
    for family in ("clip", "metaclip2"):
        directory = _with_eos(models[family], tmp_path / family, 7)
        with pytest.raises(InputError, match="the text tower pools token 7"):
            encoder_of(directory)


def test_early_clip_configurations_pool_the_highest_token(
    models: dict[str, Path], tmp_path: Path
) -> None:
    directory = _with_eos(models["clip"], tmp_path / "early", 2)
    texts = [encoder_of(path).embed_texts([LONG, "a"]) for path in (directory, models["clip"])]
    torch.testing.assert_close(texts[0].embeddings, texts[1].embeddings)
