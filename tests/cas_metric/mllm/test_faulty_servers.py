"""Servers whose 200 cannot be used, that are slow by the byte, or that send the key back."""

from __future__ import annotations

import base64
import html
import json
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.support.mllm_server import Call, DripHeaders, MllmServer, Raw, Say, Status
from tests.support.questions import GOOD, KEY, QUICK, ask, request, store_files

from cas_metric.errors import CasError, ModelUnavailable
from cas_metric.mllm import Options, Settings, open_model
from cas_metric.mllm.secrets import Secret

SSE = b'data: {"choices": [{"delta": {"content": "{"}}]}\n\ndata: [DONE]\n\n'
FAULTS = [
    (SSE, "is a stream of events"),
    (b": keep-alive\n\n" + SSE, "is a stream of events"),
    (b"<!doctype html><title>Log in</title>", "is a page of HTML"),
    (b"", "is empty"),
    (b"OK", "is no chat completion: 'ok'"),
    (b'{"object": "list"}', "is no chat completion"),
    (b"[]", "is no chat completion"),
    (b'{"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 0}}', "gave no choices"),
    (b'{"choices": null}', "gave no choices"),
    (b'{"choices": [{"message": null}]}', "gave no choices"),
    (b'{"error": {"message": "upstream failed"}}', "the server reports: upstream failed"),
    (b'{"error": "overloaded"}', "the server reports: overloaded"),
    (b'{"detail": "Not Found"}', "the server reports: Not Found"),
    (
        b'{"choices": [{"finish_reason": "error", "message": {"content": "half"}, '
        b'"error": {"message": "the provider broke off"}}]}',
        "the server reports: the provider broke off",
    ),
]
SERIAL = Options(concurrency=1, backoff=0.001, retries=2)


@pytest.mark.parametrize(("body", "cause"), FAULTS)
def test_a_useless_200_ends_the_run_with_its_cause_and_is_paid_once(server, store, body, cause):
    server.script("question", Raw(body))
    questions = [request(f"{n:02}") for n in range(8)]
    with pytest.raises(ModelUnavailable, match=cause) as caught:
        ask(questions, cache=store)
    assert "--ask-again" in caught.value.fix
    assert len(server.calls) == len(store_files(store)) == 1


@pytest.mark.parametrize("body", [SSE, b"<html>"])
def test_the_same_command_again_asks_a_foreign_server_nothing(server, store, body):
    server.script("question", Raw(body))
    for _ in range(3):
        with pytest.raises(ModelUnavailable):
            ask([request("a"), request("b")], cache=store, options=SERIAL)
    assert len(server.calls) == 1


@pytest.mark.parametrize(("body", "cause"), FAULTS)
def test_once_answers_have_come_it_is_listed(server, store, body, cause):
    server.script("question b", Raw(body))
    questions = [request(key) for key in "abc"]
    answers = ask(questions, cache=store, options=SERIAL)
    assert [answer.outcome for answer in answers] == ["accepted", "failed", "accepted"]
    assert cause in answers[1].reason
    assert len(server.calls) == 3
    again = ask(questions, cache=store, options=SERIAL)
    assert [answer.cached for answer in again] == [True, True, True]
    assert len(server.calls) == 3


def test_a_question_that_cannot_be_answered_stands_in_the_way_once(server, store):
    """It is the first of the run, and the rest is answered by the next run of the same command."""
    server.script("question a", Raw(b'{"choices": []}'))
    questions = [request(key) for key in "abc"]
    with pytest.raises(ModelUnavailable):
        ask(questions, cache=store, options=SERIAL)
    answers = ask(questions, cache=store, options=SERIAL)
    assert [answer.outcome for answer in answers] == ["failed", "accepted", "accepted"]
    assert len(server.calls) == 3


def test_several_in_a_row_end_the_run(server, store):
    server.script("question 0", Say(GOOD), Raw(b"{}"))
    with pytest.raises(ModelUnavailable, match="no chat completion"):
        ask([request(f"{n:02}") for n in range(9)], cache=store, options=SERIAL)
    assert len(server.calls) == 4


def test_a_body_without_end_is_no_answer(server, store):
    server.script("question", Raw(b" " * 10_000_001))
    with pytest.raises(ModelUnavailable, match="does not end"):
        ask([request()], cache=store)


def test_ask_again_puts_it_again(server, store):
    server.script("question a", Raw(b"<html>"), Say(GOOD))
    with pytest.raises(ModelUnavailable):
        ask([request()], cache=store)
    (answer,) = ask([request()], cache=store, options=Options(ask_again=True))
    assert answer.accepted
    assert len(server.calls) == 2


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        ({"code": "insufficient_quota", "message": "paid up?"}, CasError, "the quota is spent"),
        ({"code": 401, "message": "who?"}, ModelUnavailable, "does not accept the key"),
        ({"code": "402", "message": "pay"}, CasError, "the quota is spent"),
    ],
)
def test_an_error_that_names_its_status_is_that_error(server, error, kind, text):
    server.script("question", Raw(json.dumps({"error": error}).encode()))
    with pytest.raises(kind, match=text):
        ask([request()])
    assert len(server.calls) == 1


def test_headers_that_never_end_are_cut_off(server):
    server.script("question a", DripHeaders())
    began = time.monotonic()
    (answer,) = ask(
        [request()], settings=Settings(timeout=0.2), options=Options(backoff=0.001, retries=1)
    )
    assert answer.outcome == "failed"
    assert answer.reason == "no answer within 0.2 s (2 calls)"
    assert time.monotonic() - began < 15  # the headers would go on for 20 s a call


def test_the_form_is_in_the_words_of_question_and_repair(server):
    """A server that takes ``response_format`` and ignores it tells the model nothing of it."""

    def ignorant(call: Call) -> Say:
        named = all(name in message for name in ("verdict", "why") for message in said(call))
        return Say(GOOD if named and call.turn else "nothing of the kind")

    def said(call: Call) -> list[str]:
        return [call.system, *([call.prompt] if call.turn else [])]

    server.script("question a", ignorant)
    (answer,) = ask([request()])
    assert (answer.accepted, answer.attempts) == (True, 2)
    assert all("json_schema" in str(call.body["response_format"]) for call in server.calls)


class TestAzure:
    def test_the_version_stays_behind_the_path(self, server, monkeypatch):
        address = f"{server.url}/openai/deployments/d?api-version=2024-10-21"
        monkeypatch.setenv("CAS_MLLM_BASE_URL", address)
        monkeypatch.setenv("CAS_MLLM_API_KEY", KEY)
        assert ask([request()])[0].accepted
        (call,) = server.calls
        path = "/v1/openai/deployments/d/chat/completions?api-version=2024-10-21"
        assert call.headers[":path"] == path
        assert call.headers["api-key"] == KEY
        assert "authorization" not in call.headers

    @pytest.mark.parametrize(
        ("url", "header"),
        [
            ("https://x.openai.azure.com/openai/v1", "api-key"),
            ("https://x.services.ai.azure.com/openai/v1/", "api-key"),
            ("https://api.anthropic.com/v1/", "Authorization"),
            ("https://azure.com.example.org/v1", "Authorization"),
        ],
    )
    def test_which_header_holds_the_key(self, monkeypatch, url, header):
        monkeypatch.setenv("CAS_MLLM_BASE_URL", url)
        monkeypatch.setenv("CAS_MLLM_API_KEY", KEY)
        model = open_model("openai:m")
        assert list(vars(model)["_access"].headers) == [header]


# -- the key ------------------------------------------------------------------------------------

ODD_KEY = 'sk-pr/oj+"1\\2&<x>=='
WAYS = {
    "plain": lambda key: key,
    "upper": str.upper,
    "unicode": lambda key: "".join(f"\\u{ord(c):04x}" for c in key),
    "one escape": lambda key: f"\\u{ord(key[0]):04X}{key[1:]}",
    "slashes": lambda key: key.replace("/", "\\/"),
    "json": lambda key: json.dumps(key)[1:-1],
    "json in json": lambda key: json.dumps(json.dumps(key))[1:-1],
    "hex escapes": lambda key: "".join(f"\\x{ord(c):02x}" for c in key),
    "url": lambda key: quote(key, safe=""),
    "url of all": lambda key: "".join(f"%{ord(c):02X}" for c in key),
    "url twice": lambda key: quote(quote(key, safe=""), safe=""),
    "html": html.escape,
    "html numbers": lambda key: "".join(f"&#{ord(c)};" for c in key),
    "html hex": lambda key: "".join(f"&#x{ord(c):X};" for c in key),
    "base64": lambda key: base64.b64encode(key.encode()).decode(),
    "base64 of the header": lambda key: base64.b64encode(f"Bearer {key}".encode()).decode(),
    "base64 for URLs": lambda key: base64.urlsafe_b64encode(f"a:{key}".encode()).decode(),
    "hex": lambda key: key.encode().hex(),
    "backwards": lambda key: key[::-1],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("key", [KEY, ODD_KEY])
def test_a_key_is_found_however_it_is_written(way, key):
    written = WAYS[way](key)
    hidden = Secret(key).hide(f"before {written} after")
    assert hidden.startswith("before ")
    assert hidden.endswith(" after")
    # Of base64 the characters at either end also hold bits of what stands around the key.
    assert len(hidden) < len("before  after") + len(written) * 0.6
    assert Secret(key).hide("a text without it") == "a text without it"


def test_no_text_takes_long_to_search():
    for text in ("\\" * 30_000, "%25" * 10_000, "&amp;" * 6_000, "sk-secret" * 3_000):
        Secret(KEY).hide(text)


def traces(folder: Path, key: str) -> list[Path]:
    """Files that hold the key in any of the ways, after any undoing of JSON."""
    found = []
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        text = path.read_text(errors="replace")
        undone = [
            text,
            text.replace("\\\\", "\\"),
            text.encode().decode("unicode_escape", "replace"),
        ]
        if any(WAYS[way](key) in each for way in WAYS for each in undone):
            found.append(path)
    return found


@pytest.mark.parametrize("way", WAYS)
def test_no_form_of_the_key_reaches_a_file_or_a_message(store, monkeypatch, way):
    written = WAYS[way](KEY)
    answer = json.dumps({"verdict": "yes", "why": f"it is {written} indeed"})
    echoes = {
        "question a": Say({"verdict": "yes", "why": f"it is {written}"}),
        "question b": Say(answer.replace("\\\\", "\\")),
        "question c": Raw(
            b'{"choices": [{"message": {"content": "'
            + json.dumps(answer)[1:-1].replace("\\\\\\\\", "\\\\").encode()
            + b'"}, "finish_reason": "stop"}]}'
        ),
        "question d": Status(400, message=f"no: {written}"),
        "question e": Raw(f"echo {written}".encode()),
    }
    with MllmServer(Say(GOOD)) as server:
        monkeypatch.setenv("CAS_MLLM_BASE_URL", server.url)
        monkeypatch.setenv("CAS_MLLM_API_KEY", KEY)
        for text, action in echoes.items():
            server.script(text, action)
        answers = ask([request(key) for key in "zabcde"], cache=store, options=SERIAL)
    assert not traces(store.path, KEY)
    shown = repr(answers)
    assert KEY not in shown
    assert WAYS[way](KEY) not in shown


def test_a_run_that_ends_shows_no_key_either(server, store):
    server.script("question", Raw(b'{"error": "who is \\u0073k-secret-0123456789?"}'))
    with pytest.raises(ModelUnavailable) as caught:
        ask([request()], cache=store, options=QUICK)
    assert "who is ***?" in str(caught.value)
    assert not traces(store.path, KEY)
