"""Against a real HTTP server that misbehaves: every question ends in exactly one answer."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.support.mllm_server import (
    Call,
    Drop,
    MllmServer,
    Raw,
    Refuse,
    Say,
    Scripted,
    Slow,
    Status,
)
from tests.support.questions import GOOD, KEY, Verdict, ask, request, store_files

from cas_metric.errors import CasError, ModelUnavailable
from cas_metric.mllm import (
    Answer,
    Options,
    Price,
    Settings,
    answer_all,
    open_model,
    usage_of,
)


def answer_to(*actions: Scripted, server: MllmServer, **changes: Any) -> Answer:
    server.script("question a", *actions)
    (answer,) = ask([request()], **changes)
    return answer


def test_a_good_answer_is_accepted(server):
    (answer,) = ask([request()])
    assert answer.accepted
    assert answer.value == Verdict(verdict="yes", why="round")
    assert (answer.attempts, answer.cached, answer.reason) == (1, False, "")
    assert usage_of([answer, answer]).input_tokens == 200
    assert Price(input=2.5, output=10).of(answer.usage) == pytest.approx(450e-6)


def test_the_call_is_what_the_interface_asks_for(server, photo):
    ask([request(images=(photo, photo), captions=("first:", "second:"))])
    (call,) = server.calls
    assert call.headers["authorization"] == f"Bearer {KEY}"
    assert call.body["model"] == "m"
    assert call.body["temperature"] == 0
    schema = call.body["response_format"]["json_schema"]
    assert schema["strict"] is True
    assert schema["schema"]["required"] == ["verdict", "why"]
    assert schema["schema"]["additionalProperties"] is False
    kinds = [part["type"] for part in call.messages[1]["content"]]
    assert kinds == ["text", "image_url", "text", "image_url", "text"]


def test_pixels_are_sent_and_nothing_else_of_the_file(server, photo):
    ask([request(images=(photo,))])
    (sent,) = server.calls[0].images
    with Image.open(io.BytesIO(sent)) as seen, Image.open(photo) as stored:
        assert seen.format == "PNG"
        assert np.array_equal(np.asarray(seen), np.asarray(stored))
        assert not seen.getexif()
    assert "1234" not in json.dumps(server.calls[0].body["messages"][0])
    assert b"Jane" not in sent


def test_large_images_are_scaled_down(server, photo):
    ask([request(images=(photo,))], settings=Settings(longest_side=30))
    with Image.open(io.BytesIO(server.calls[0].images[0])) as seen:
        assert seen.size == (30, 20)


@pytest.mark.parametrize(
    ("actions", "outcome", "attempts", "reason"),
    [
        ([Say("Sure! ```json\n" + json.dumps(GOOD) + "\n```")], "accepted", 1, ""),
        ([Say("no JSON here"), Say(GOOD)], "accepted", 2, ""),
        ([Say('{"verdict": "yes",'), Say({"verdict": "maybe"}), Say(GOOD)], "accepted", 3, ""),
        ([Say('{"verdict": "yes"')], "rejected", 3, "it holds no JSON object"),
        ([Say({"verdict": "maybe"})], "rejected", 3, "verdict: Input should be 'yes' or 'no'"),
        ([Say({**GOOD, "grade": 3})], "rejected", 3, "grade: Extra inputs are not permitted"),
        ([Say(["yes"])], "rejected", 3, "it holds no JSON object"),
        ([Say("")], "rejected", 3, "it is empty"),
        ([Say('{"verdict": "y', finish="length")], "rejected", 3, "cut off at the limit"),
        ([Refuse("I can't help with that.")], "refused", 1, "I can't help with that."),
        ([Say("I'm sorry, but I cannot assist with this.")], "refused", 1, "I'm sorry"),
        ([Say("", finish="content_filter")], "refused", 1, "content filter"),
        ([Status(400, kind="content_filter")], "refused", 1, "scripted error"),
        ([Status(500), Drop(), Say(GOOD)], "accepted", 1, ""),
        ([Raw(b'{"error": {"message": "upstream", "code": 502}}'), Say(GOOD)], "accepted", 1, ""),
        ([Status(500)], "failed", 0, "HTTP 500: scripted error (3 calls)"),
        ([Drop()], "failed", 0, "the connection broke"),
        ([Status(413, message="too large")], "failed", 0, "HTTP 413: too large"),
        ([Say("no"), Status(503)], "failed", 1, "HTTP 503"),
        ([Status(429, {"Retry-After": "0"}), Say(GOOD)], "accepted", 1, ""),
        ([Status(529), Status(503, {"Retry-After": "0"}), Say(GOOD)], "accepted", 1, ""),
    ],
)
def test_each_question_ends_once(server, actions, outcome, attempts, reason):
    answer = answer_to(*actions, server=server)
    assert (answer.outcome, answer.attempts) == (outcome, attempts)
    assert reason in answer.reason
    assert (answer.value is not None) == answer.accepted == (not answer.reason)


def test_the_complaint_goes_back(server):
    def never_round(verdict: Verdict) -> list[str]:
        return ["why: never say round"] if "round" in verdict.why else []

    server.script("question a", Say(GOOD), Say({"verdict": "no", "why": "flat"}))
    (answer,) = ask([request(check=never_round)])
    assert answer.value.why == "flat"
    first, second = server.calls
    assert second.messages[:2] == first.messages
    assert '"required": ["verdict", "why"]' in second.prompt
    assert json.loads(second.messages[2]["content"]) == GOOD
    assert "never say round" in second.messages[3]["content"]


@pytest.mark.parametrize("drip", [False, True])
def test_slow_answers_time_out(server, drip):
    answer = answer_to(
        Slow(5, Say(GOOD), drip=drip),
        server=server,
        settings=Settings(timeout=0.15),
        options=Options(backoff=0.001, retries=1),
    )
    assert answer.outcome == "failed"
    assert answer.reason == "no answer within 0.15 s (2 calls)"


def test_all_kinds_of_trouble_at_once(server, store):
    """Many threads, and still one answer each, in the order of the questions."""
    trouble: list[list[Scripted]] = [
        [Say(GOOD)],
        [Status(429, {"Retry-After": "0"}), Say(GOOD)],
        [Say("nothing")],
        [Drop(), Say(GOOD)],
        [Refuse()],
        [Status(500)],
    ]
    for number in range(36):
        server.script(f"question {number:02}", *trouble[number % 6])
    questions = [request(f"{number:02}") for number in range(36)]
    seen: list[tuple[int, int]] = []
    answers = ask(
        questions,
        cache=store,
        options=Options(concurrency=8, backoff=0.001, longest_wait=0.01, retries=2),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert [answer.key for answer in answers] == [question.key for question in questions]
    expected = ["accepted", "accepted", "rejected", "accepted", "refused", "failed"]
    assert [answer.outcome for answer in answers] == expected * 6
    assert seen == [(n, 36) for n in range(1, 37)]
    assert len(store_files(store)) == 6 * (1 + 1 + 3 + 1 + 1)


def test_an_unreadable_image_is_listed(server, tmp_path):
    torn = tmp_path / "torn.png"
    torn.write_bytes(b"\x89PNG\r\n\x1a\n")
    answers = ask([request("a", images=(torn,)), request("b", images=(tmp_path / "none.png",))])
    assert [answer.outcome for answer in answers] == ["failed", "failed"]
    assert "torn.png" in answers[0].reason
    assert "none.png" in answers[1].reason
    assert not server.calls


class TestWhatServersDiffer:
    """A server that refuses a field is asked without it, from then on."""

    def test_no_json_schema(self, server):
        def picky(call: Call) -> Any:
            form = call.body.get("response_format", {}).get("type", "text")
            if form == "json_schema":
                return Status(400, message="unknown variant", param="response_format")
            return Say({**GOOD, "why": form})

        server.script("question", picky)
        model = open_model("openai:m", Settings())
        answers = answer_all([request("a"), request("b")], model, options=Options(concurrency=1))
        assert [a.value.why for a in answers] == ["json_object", "json_object"]
        assert len(server.calls) == 3
        assert '"required": ["verdict", "why"]' in server.calls[-1].system
        assert "enforces no JSON schema" in model.notes[0]

    def test_no_structured_output_at_all(self, server):
        server.script(
            "question a",
            lambda call: Status(422) if "response_format" in call.body else Say(GOOD),
        )
        assert ask([request()])[0].accepted

    def test_parameters_of_reasoning_models(self, server):
        def picky(call: Call) -> Any:
            if "max_tokens" in call.body:
                return Status(400, message="Unsupported: use 'max_completion_tokens' instead.")
            if "temperature" in call.body:
                return Status(400, message="Unsupported value", param="temperature")
            return Say(GOOD)

        server.script("question a", picky)
        model = open_model("openai:m", Settings(max_tokens=77))
        assert answer_all([request()], model)[0].accepted
        assert server.calls[-1].body["max_completion_tokens"] == 77
        assert "response_format" in server.calls[-1].body
        assert "temperature" in model.notes[0]

    def test_one_bad_question_spoils_nothing(self, server):
        server.script("question b", Status(400, message="image too small"))
        model = open_model("openai:m", Settings())
        answers = answer_all(
            [request("a"), request("b"), request("c")], model, options=Options(concurrency=1)
        )
        assert [a.outcome for a in answers] == ["accepted", "failed", "accepted"]
        assert not model.notes
        assert len(server.calls) == 3

    def test_content_in_parts_and_no_usage(self, server):
        said = {"content": [{"type": "text", "text": json.dumps(GOOD)}]}
        body = json.dumps({"choices": [{"message": said}]}).encode()
        answer = answer_to(Raw(body), server=server)
        assert answer.accepted
        assert answer.usage.input_tokens == 0


class TestTheEndOfARun:
    """What no later call can mend ends the run, and what was answered is kept."""

    @pytest.mark.parametrize(
        ("status", "error", "text"),
        [
            (Status(401, message="bad key"), ModelUnavailable, "does not accept the key"),
            (Status(404, message="no model m"), ModelUnavailable, "has no model 'm'"),
            (Status(429, kind="insufficient_quota"), CasError, "the quota is spent"),
            (Status(302, {"Location": "http://127.0.0.1:9/"}), ModelUnavailable, "sends elsewhere"),
        ],
    )
    def test_errors_for_all(self, server, store, status, error, text):
        server.script("question b", status)
        with pytest.raises(error, match=text):
            ask([request("a"), request("b")], cache=store, options=Options(concurrency=1))
        assert ask([request("a")], cache=store)[0].cached

    def test_nobody_there(self, server, monkeypatch):
        monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
        with pytest.raises(ModelUnavailable, match=r"cannot connect to http://127") as e:
            ask([request()])
        assert e.value.exit_code == 4

    def test_a_server_that_fell_silent_is_left_alone(self, server):
        server.script("question 0", Status(500))
        options = Options(concurrency=1, retries=0, backoff=0.001, give_up_after=3)
        answers = ask([request(f"{n:02}") for n in range(10)], options=options)
        assert {answer.outcome for answer in answers} == {"failed"}
        assert len(server.calls) == 3
        assert answers[-1].reason == "not asked: 3 questions in a row got no answer"


class TestTheKey:
    """It is in one header and nowhere else."""

    def test_it_never_comes_back(self, server, store, caplog, capfd):
        caplog.set_level(logging.DEBUG)
        server.script("question a", Say({"verdict": "yes", "why": f"the key is {KEY}"}))
        server.script("question b", Status(500, message=f"do not show {KEY}"))
        server.script("question c", Say(f"nothing but {KEY}"))
        answers = ask([request("a"), request("b"), request("c")], cache=store)
        assert answers[0].value.why == "the key is ***"
        assert KEY not in repr(answers)
        assert all(KEY not in file.read_text() for file in store_files(store))
        assert KEY not in caplog.text
        assert KEY not in "".join(capfd.readouterr())
        assert server.calls[0].headers["authorization"].endswith(KEY)

    def test_it_is_in_no_error(self, server):
        server.script("question a", Status(401, message=f"Incorrect API key provided: {KEY}"))
        model = open_model("openai:m", Settings())
        with pytest.raises(ModelUnavailable) as caught:
            answer_all([request()], model)
        assert KEY not in str(caught.value)
        assert KEY not in repr(model)
        assert KEY not in repr(vars(model)["_access"])
        assert KEY not in json.dumps(dict(model.identity))

    def test_the_key_of_openai_goes_to_no_other_address(self, server, monkeypatch):
        monkeypatch.delenv("OPENAI_BASE_URL")
        monkeypatch.setenv("CAS_MLLM_BASE_URL", server.url)
        ask([request()])
        assert "authorization" not in server.calls[0].headers
        monkeypatch.setenv("CAS_MLLM_API_KEY", "another-key")
        ask([request()])
        assert server.calls[1].headers["authorization"] == "Bearer another-key"

    @pytest.mark.parametrize(
        ("url", "text"),
        [
            ("https://user:hunter22222@host/v1", "holds a user name"),
            ("https://host/v1?api-key=hunter22222", "holds a user name"),
            ("https://host/v1?api-version=1&code=hunter22222", "holds a user name"),
            ("ftp://host/v1", "no http"),
            ("host/v1", "no http"),
            ("http://host:PORT/v1", "no http"),
            ("http://[::1/v1", "no http"),
            ("http://..:80/v1", "no http"),
        ],
    )
    def test_addresses_with_secrets_are_refused(self, monkeypatch, url, text):
        monkeypatch.setenv("CAS_MLLM_BASE_URL", url)
        with pytest.raises(CasError, match=text) as caught:
            open_model("openai:m")
        assert "hunter2" not in str(caught.value)

    def test_none_at_all(self, monkeypatch):
        for name in ("CAS_MLLM_BASE_URL", "CAS_MLLM_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_KEY"):
            monkeypatch.delenv(name, raising=False)
        with pytest.raises(ModelUnavailable, match="wants a key"):
            open_model("openai:gpt-4o")


@pytest.mark.parametrize("spec", ["gpt-4o", "openai:", "anthropic:x", "", ":m"])
def test_unknown_specs(spec):
    with pytest.raises(CasError, match="names no multimodal language model"):
        open_model(spec)
