"""P(yes): of a local model against a softmax by hand, of servers with and without logprobs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.support.mllm_server import Call, Raw, Say, Status
from tests.support.tiny_vlm import build_gemma3, build_qwen2_5_vl

from cas_metric.errors import InputError
from cas_metric.mllm import AnswerCache, Conversation, Options, Request, answer_all, open_model
from cas_metric.mllm.prefixes import word_tokens
from cas_metric.mllm.yes_no import SPELLINGS, YesNo, read_yes_no

BUILD = {"gemma3": build_gemma3, "qwen2.5-vl": build_qwen2_5_vl}
ITEMS = ("a bright patch", "no devices", "a large, round, dark shadow in the lower left lung", "it")


@pytest.fixture(scope="module", params=BUILD)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = BUILD[request.param](tmp_path_factory.mktemp("vlm") / "model")
    model: Any = open_model(f"local:{folder}", device="cpu")
    if request.param == "gemma3":  # drawn as zeros: all images would look alike
        projector = model._network.model.multi_modal_projector
        torch.nn.init.normal_(projector.mm_input_projection_weight)
    return model


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    paths = []
    for number, size in enumerate([(40, 60), (40, 60), (90, 60)]):
        paths.append(folder / f"{number}.png")
        pixels = np.random.default_rng(number).integers(0, 256, (*size, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(paths[-1])
    return paths


def question(image: Path | None, item: str) -> Request:
    return Request(
        key=f"{image and image.stem} {item}",
        system="You judge.",
        prompt=f"Does the image show this?\n{item}\nAnswer yes or no.",
        schema=YesNo,
        images=() if image is None else (image,),
        yes_no=True,
    )


def by_hand(model: Any, request: Request) -> tuple[float, float]:
    """Softmax over the last logits of one whole, plain pass, in double precision."""
    conversation = Conversation(request)
    inputs = model._inputs(conversation, model._images(conversation))
    with torch.inference_mode():
        logits = model._network(**inputs).logits[0, -1].double()
    weights = torch.exp(logits - logits.max())
    tokenizer = model._processor.tokenizer
    shares = []
    for spellings in SPELLINGS:
        split = [tokenizer(s, add_special_tokens=False).input_ids for s in spellings]
        ids = {one[0] for one in split if len(one) == 1}
        shares.append(float(sum(weights[n] for n in ids) / weights.sum()))
    return shares[0], shares[1]


def test_batched_probabilities_are_a_softmax_by_hand(model, images):
    """Images of two sizes, items of many lengths: each number is that of its own plain pass."""
    requests = [question(image, item) for image in images for item in ITEMS][:-1]
    answers = answer_all(requests, model)
    assert model._yes_no._shared is True  # the beginnings were shared
    for request, answer in zip(requests, answers, strict=True):
        p_yes, p_no = by_hand(model, request)
        assert answer.value.source == "logits"
        assert answer.value.p_yes == pytest.approx(p_yes, abs=1e-6)
        assert answer.value.p_no == pytest.approx(p_no, abs=1e-6)
        assert answer.value.score == pytest.approx(p_yes / (p_yes + p_no), abs=1e-6)
    assert len({answer.value.p_yes for answer in answers}) == len(answers)


def test_an_architecture_that_cannot_share_is_asked_plainly(model, images, monkeypatch):
    requests = [question(images[0], item) for item in ITEMS]
    right = [answer.value.p_yes for answer in answer_all(requests, model)]
    monkeypatch.setattr(model._yes_no, "_shared", None)
    shared = model._yes_no._from_prefixes
    wrong = lambda prepared: [(k, (0.5, 0.1)) for k, _ in shared(prepared)]  # noqa: E731
    monkeypatch.setattr(model._yes_no, "_from_prefixes", wrong)
    answers = answer_all(requests, model)
    assert model._yes_no._shared is False
    assert [answer.value.p_yes for answer in answers] == pytest.approx(right, abs=1e-6)


def test_they_are_kept_and_an_unreadable_image_is_listed(model, images, tmp_path, monkeypatch):
    torn = tmp_path / "torn.png"
    torn.write_bytes(b"\x89PNG\r\n\x1a\n")
    requests = [question(image, "a mass") for image in (images[0], torn, images[1])]
    with AnswerCache(tmp_path / "cache") as cache:
        first = answer_all(requests, model, cache=cache)
        monkeypatch.setattr(model, "_network", None)  # nothing is computed again
        again = answer_all([requests[0], requests[2]], model, cache=cache)
    assert [answer.outcome for answer in first] == ["accepted", "failed", "accepted"]
    assert "torn.png" in first[1].reason
    assert all(answer.cached for answer in again)
    assert [a.value for a in again] == [first[0].value, first[2].value]


def test_a_tokenizer_without_the_word_is_refused(model):
    with pytest.raises(InputError, match="no token of its own"):
        word_tokens(model._processor.tokenizer, ("unthinkable",))


# -- servers ------------------------------------------------------------------------------------


def completion(content: str, tokens: list[dict[str, Any]] | None, **message: Any) -> Raw:
    choice: dict[str, Any] = {"message": {"content": content, **message}, "finish_reason": "stop"}
    if tokens is not None:
        choice["logprobs"] = {"content": tokens}
    return Raw(json.dumps({"choices": [choice]}).encode())


def token(text: str, **top: float) -> dict[str, Any]:
    listed = [{"token": word, "logprob": math.log(p)} for word, p in top.items()]
    return {"token": text, "logprob": listed[0]["logprob"] if top else 0.0, "top_logprobs": listed}


def ask_one(server: Any, action: Any, **options: Any) -> Any:
    server.script("Does the image", action)
    model = open_model("openai:m")
    (answer,) = answer_all([question(None, "x")], model, options=Options(backoff=0.001, **options))
    return model, answer


def test_logprobs_of_all_spellings_are_summed(server):
    tops = {"Yes": 0.5, " yes": 0.125, "No": 0.25, "Maybe": 0.0625}
    model, answer = ask_one(server, completion("Yes", [token("\n"), token("Yes", **tops)]))
    assert answer.value.p_yes == pytest.approx(0.625, abs=1e-12)
    assert answer.value.p_no == pytest.approx(0.25, abs=1e-12)
    assert answer.value.source == "logprobs"
    body = server.calls[0].body
    assert (body["logprobs"], body["top_logprobs"]) == (True, 20)
    assert "response_format" not in body
    assert not model.notes


@pytest.mark.parametrize(
    ("action", "p_yes"),
    [
        (completion("Yes.", None), 1.0),
        (completion("no", []), 0.0),
        (completion("**No**", [token("Maybe", Maybe=1.0)]), 0.0),
        (completion("<think>no, or</think>yes", [token("<think>", no=0.9)]), 1.0),
        (completion("yes", [token("no", no=0.9)], reasoning_content="no or"), 1.0),
    ],
)
def test_a_server_without_them_falls_back_to_the_word_paid_once(server, action, p_yes):
    model, answer = ask_one(server, action)
    assert (answer.value.p_yes, answer.value.source) == (p_yes, "answer")
    assert len(server.calls) == 1
    assert "gives no probabilities" in model.notes[0]


def test_a_server_that_refuses_the_field(server):
    def picky(call: Call) -> Any:
        return Status(400, message="unknown: logprobs") if "logprobs" in call.body else Say("yes")

    model, answer = ask_one(server, picky)
    assert answer.value.score == 1.0
    assert len(server.calls) == 2
    assert "gives no probabilities" in model.notes[0]


def test_neither_word_is_asked_for_once_more_and_listed(server):
    _, answer = ask_one(server, Say("I see a lung"), repairs=1)
    assert (answer.outcome, answer.reason) == ("rejected", "answer with one word: yes or no")
    assert "one word" in server.calls[1].prompt


@pytest.mark.parametrize("text", ["", "yesterday", "yes or no", "not sure", "no, it is yes"])
def test_no_word_is_made_up(text):
    from cas_metric.mllm import Reply

    assert read_yes_no(Reply(text)) is None
