"""Models that think aloud: what they think is never taken for what they answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.support.mllm_server import Message, Say
from tests.support.questions import GOOD, ask, request, store_files

from cas_metric.mllm.extraction import Malformed, extract_object, is_whole, spoken

OBJECT = json.dumps(GOOD)
DRAFT = json.dumps({"verdict": "no", "why": "a draft"})


@pytest.mark.parametrize(
    "text",
    [
        f"<think>perhaps {DRAFT}",
        f"<think>perhaps {DRAFT}</think>",
        f"{DRAFT}</think>",
        f"{DRAFT}\n<think>or rather",
        f"<think>a</think>{DRAFT}<think>wait",
        f"<unused94>thought\n{DRAFT}",
        f"[THINK]{DRAFT}",
        f"◁think▷{DRAFT}",
        f"<THINKING >{DRAFT}",
        f"<|channel>thought\n{DRAFT}",
        f"<|channel|>analysis<|message|>{DRAFT}<|end|>",
    ],
)
def test_a_draft_is_no_answer(text):
    with pytest.raises(Malformed):
        extract_object(text)


@pytest.mark.parametrize(
    "before",
    [
        f"<think>perhaps {DRAFT}</think>",
        f"perhaps {DRAFT}</think>",
        f"<think>a <think>b</think> {DRAFT}</think>",
        f"<think>{DRAFT}</think><think>{DRAFT}</think>",
        f"<unused94>thought\n{DRAFT}<unused95>",
        f"[THINK]{DRAFT}[/THINK]",
        f"◁think▷{DRAFT}◁/think▷",
        f"<|channel>thought\n{DRAFT}<channel|>",
        f"<|channel|>analysis<|message|>{DRAFT}<|end|><|start|>assistant<|channel|>final<|message|>",
    ],
)
def test_the_answer_stands_after_the_last_thought(before):
    assert extract_object(f"{before}\nHere it is: {OBJECT}") == GOOD
    assert spoken(before) == ""


def test_long_thoughts_do_not_count_as_length():
    assert extract_object(f"<think>{'x' * 200_000}</think>{OBJECT}") == GOOD


def test_whole_answers():
    assert is_whole(f" {OBJECT}\n")
    assert is_whole(f"```json\n{OBJECT}\n```")
    assert not is_whole(f"Perhaps {OBJECT}")


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (Say("", finish="length"), "raise --max-tokens"),
        (Say(f"<think>perhaps {DRAFT}", finish="length"), "raise --max-tokens"),
        (Message({"reasoning_content": f"so {DRAFT}"}, "length"), "(in reasoning_content)"),
        (Message({"reasoning": "so"}, "max_tokens"), "(in reasoning): raise --max-tokens"),
    ],
)
def test_tokens_spent_on_thinking_are_paid_once(server, store, action, reason):
    server.script("question a", action)
    for times in range(2):
        (answer,) = ask([request()], cache=store)
        assert (answer.outcome, answer.cached) == ("rejected", times == 1)
        assert reason in answer.reason
    assert len(server.calls) == len(store_files(store)) == 1


def test_a_cut_off_text_is_no_answer_unless_it_is_whole(server):
    """Without its mark, which stood in the question, a thought reads like a text with an object."""
    server.script("question a", Say(f"perhaps {DRAFT}, but then", finish="length"), Say(GOOD))
    server.script("question b", Say(f"{OBJECT}\n\n\n", finish="length"))
    first, second = ask([request("a"), request("b")])
    assert (first.value.verdict, first.attempts) == ("yes", 2)
    assert "--max-tokens" in server.calls[-1].text or "--max-tokens" in server.calls[1].text
    assert (second.accepted, second.attempts) == (True, 1)


def called(*arguments: Any) -> dict[str, Any]:
    return {
        "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "answer", "arguments": one}}
            for one in arguments
        ]
    }


@pytest.mark.parametrize(
    "fields",
    [
        called(OBJECT),
        called(GOOD),
        {**called(OBJECT), "content": "Let me record that."},
        {**called(OBJECT), "content": f"<think>first {DRAFT}"},
        {"function_call": {"name": "answer", "arguments": OBJECT}},
        {"content": None, "reasoning_content": f"\n{OBJECT}\n"},
        {"content": OBJECT, "reasoning_content": f"a draft {DRAFT}"},
        {"content": [{"type": "thinking", "thinking": DRAFT}, {"type": "text", "text": OBJECT}]},
    ],
)
def test_an_answer_is_found_wherever_a_server_puts_it(server, fields):
    server.script("question a", Message(fields))
    (answer,) = ask([request()])
    assert (answer.value.model_dump(), answer.attempts) == (GOOD, 1)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (
            {"reasoning_content": f"perhaps {DRAFT}"},
            "all that was said stands in reasoning_content",
        ),
        ({"content": "", "thinking": "hm"}, "all that was said stands in thinking"),
        (called(OBJECT, DRAFT), "2 different JSON objects"),
        ({"content": f"<think>{DRAFT}"}, "inside of a block of thinking"),
        ({"content": 3}, "it is empty"),
    ],
)
def test_what_is_no_answer_is_named(server, fields, reason):
    server.script("question a", Message(fields))
    (answer,) = ask([request()])
    assert (answer.outcome, answer.attempts) == ("rejected", 3)
    assert reason in answer.reason
    assert all(message["content"] for call in server.calls for message in call.messages)
