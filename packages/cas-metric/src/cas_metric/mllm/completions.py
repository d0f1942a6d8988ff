"""What a chat completion says, in the many forms that servers give it.

An answer is looked for where servers are known to put it: in ``content`` as text or in parts, in
the arguments of a tool call, and in the field of the reasoning where a server's parser has put the
whole answer there. Reasoning itself is never an answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from cas_metric.mllm.extraction import is_whole, spoken
from cas_metric.mllm.types import Reply, Usage
from cas_metric.mllm.yes_no import logprob_shares

#: Fields in which servers keep what a model thinks aloud: DeepSeek, llama.cpp and older vLLM;
#: OpenRouter, newer vLLM and Ollama; some proxies.
_REASONING: Final = ("reasoning_content", "reasoning", "thinking")
#: ``finish_reason`` of an answer that the limit of tokens cut off.
_CUT_OFF: Final = frozenset({"length", "max_tokens", "MAX_TOKENS", "model_length"})
_FILTERED: Final = frozenset({"content_filter", "SAFETY", "refusal"})


def read_completion(answer: Any) -> Reply | None:
    """The reply in the body of a response of status 200.

    Args:
        answer: Its JSON; None where it is none.

    Returns:
        A reply, with ``fault`` where it holds no message of a model; None where the body is of
        another interface.
    """
    if not isinstance(answer, dict) or not ("choices" in answer or message_of(answer)):
        return None
    usage = _usage(answer)
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    choice = choice if isinstance(choice, dict) else {}
    message, finish = choice.get("message"), choice.get("finish_reason")
    reported = message_of(choice) or message_of(answer)
    if not isinstance(message, dict) or finish == "error":
        said = f"the server reports: {reported}" if reported else "the server gave no choices"
        return Reply("", fault=said, usage=usage)
    text, elsewhere = _words(message)
    refusal = str(message.get("refusal") or "")
    if finish in _FILTERED and not refusal:
        refusal = "stopped by the server's content filter"
    # What a model thinks aloud comes first, and its first token tells nothing of the answer.
    aloud = any(_text(message.get(name)).strip() for name in _REASONING)
    aloud |= text.strip() != spoken(text)
    shares = None if aloud else logprob_shares(choice)
    return Reply(
        text,
        refusal,
        finish in _CUT_OFF,
        usage,
        elsewhere=elsewhere,
        shares=shares,
        shares_from="logprobs" if shares else None,
    )


def error_of(answer: Any) -> Mapping[str, Any]:
    """The error object of a response; servers write it as an object or as text."""
    error = answer.get("error") if isinstance(answer, dict) else None
    if isinstance(error, str):
        return {"message": error}
    return error if isinstance(error, dict) else {}


def message_of(answer: Any) -> str:
    """What a response says of an error, on one line; empty where it reports none."""
    error = error_of(answer)
    parts = [str(error.get("message") or ""), str(error.get("param") or "")]
    if not any(parts) and error:
        parts = [json.dumps(dict(error))]
    if not any(parts) and isinstance(answer, dict):  # FastAPI's form
        said = answer.get("detail") or answer.get("message")
        parts = [said if isinstance(said, str) else json.dumps(answer.get("detail") or "")[1:-1]]
    return " ".join(" ".join(part for part in parts if part).split())[:500]


def _words(message: Mapping[str, Any]) -> tuple[str, str]:
    """What a message answers, and the field that holds words though it answers nothing."""
    content = _text(message.get("content"))
    calls = _arguments(message)
    if calls:
        return "\n".join(filter(None, [spoken(content), *calls])), ""
    if content.strip():
        return content, ""
    for name in _REASONING:
        thought = _text(message.get(name))
        if thought.strip():
            # Some parsers take an answer that was forced into the schema for reasoning.
            return (thought, "") if is_whole(thought) else ("", name)
    return content, ""


def _text(content: Any) -> str:
    """Text as it is, or that of the parts that hold some."""
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict)]
        return "".join(str(part.get("text") or "") for part in parts)
    return content if isinstance(content, str) else ""


def _arguments(message: Mapping[str, Any]) -> list[str]:
    """Arguments of the functions that the model called in place of answering."""
    called = message.get("tool_calls") or []
    functions = [call.get("function") for call in called if isinstance(call, dict)]
    functions.append(message.get("function_call"))
    given = [f.get("arguments") for f in functions if isinstance(f, dict)]
    return [one if isinstance(one, str) else json.dumps(one) for one in given if one]


def _usage(answer: Mapping[str, Any]) -> Usage:
    usage = answer.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    tokens = [counts.get(name) for name in ("prompt_tokens", "completion_tokens")]
    return Usage(*(count if isinstance(count, int) else 0 for count in tokens))
