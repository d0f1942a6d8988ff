"""Which parts of the chat-completions interface a server takes.

Servers differ: some enforce a JSON schema while they decode, some only promise JSON, some refuse
the field; some models have a temperature of their own. The first call finds out.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from cas_metric.mllm.schemas import json_schema
from cas_metric.mllm.yes_no import TOP

if TYPE_CHECKING:
    from cas_metric.mllm.types import Request

Structure = Literal["json_schema", "json_object", "text"]

_WEAKER: Final[dict[Structure, Structure]] = {"json_schema": "json_object", "json_object": "text"}
#: Words by which servers speak of structured output.
_STRUCTURED: Final = ("response_format", "schema", "json_object", "json mode", "structured output")
_NAME = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True)
class Dialect:
    """One way of asking.

    Attributes:
        structure: How the form of the answer is asked for.
        limit: The field that bounds an answer's tokens.
        temperature: Whether a temperature is sent.
        logprobs: Whether probabilities are asked for, of questions that want them.
    """

    structure: Structure = "json_schema"
    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    temperature: bool = True
    logprobs: bool = True

    @property
    def notes(self) -> tuple[str, ...]:
        """What was given up, for people."""
        notes = []
        if self.structure != "json_schema":
            notes.append(
                "the server enforces no JSON schema: the form of answers is asked for and checked"
            )
        if not self.temperature:
            notes.append("the model takes no temperature: answers are drawn with its own")
        if not self.logprobs:
            notes.append("the server gives no probabilities: yes and no count as 1 and 0")
        return tuple(notes)

    def parameters(self, request: Request, max_tokens: int) -> dict[str, Any]:
        """The fields of a call that depend on the dialect."""
        fields: dict[str, Any] = {self.limit: max_tokens}
        if request.yes_no:
            return {**fields, "logprobs": True, "top_logprobs": TOP} if self.logprobs else fields
        if self.structure == "json_schema":
            fields["response_format"] = {
                "type": "json_schema",
                "json_schema": {
                    "name": _NAME.sub("_", request.schema.__name__)[:64],
                    "strict": True,
                    "schema": json_schema(request.schema),
                },
            }
        elif self.structure == "json_object":
            fields["response_format"] = {"type": "json_object"}
        return fields


def form_in_words(schema: dict[str, Any]) -> str:
    """The form of an answer, for the words of a question.

    It stands there whatever the server is asked to enforce: several take ``response_format`` and
    ignore it, and a model that is forced into a form answers better when it knows it.
    """
    return (
        "Answer with one JSON object, and nothing else, that follows this JSON schema:\n"
        f"{json.dumps(schema, ensure_ascii=False)}"
    )


def whole_system(request: Request) -> str:
    """The system prompt of a question as the model reads it, with the form of its answer."""
    if request.yes_no:
        return request.system
    return f"{request.system}\n\n{form_in_words(json_schema(request.schema))}".strip()


def weaker(dialect: Dialect, message: str, *, guess: bool) -> Dialect | None:
    """What to try after the server has refused a call; None if nothing is left.

    Args:
        dialect: The one that was refused.
        message: What the server said.
        guess: Whether to take structured output for the cause although the message does not name
            it: as long as no call has succeeded.
    """
    said = message.lower()
    if "max_completion_tokens" in said and dialect.limit == "max_tokens":
        return replace(dialect, limit="max_completion_tokens")
    if "temperature" in said and dialect.temperature:
        return replace(dialect, temperature=False)
    if "logprobs" in said and dialect.logprobs:
        return replace(dialect, logprobs=False)
    named = any(word in said for word in _STRUCTURED)
    if dialect.structure != "text" and (named or guess):
        return replace(dialect, structure=_WEAKER[dialect.structure])
    return None
