"""From what a model says to an object of the schema, or to what is wrong with it.

Nothing is guessed: of several different objects none is taken, and JSON with mistakes is not
mended. The model is told and answers again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from pydantic import BaseModel, ValidationError

#: No answer to a question of this package is near it.
MAX_CHARACTERS: Final = 100_000

_NAMES: Final = r"(?:think(?:ing)?|thoughts?|reasoning|analysis)"
#: How reasoning models mark what they think aloud, drafts of the answer among it: most, MedGemma,
#: Magistral, Kimi-VL, Gemma 4 and gpt-oss.
_OPENING_MARK = re.compile(
    rf"<{_NAMES}\s*>|<unused94>|\[THINK\]|◁think▷|<\|channel>{_NAMES}|"
    rf"<\|channel\|>(?:analysis|commentary)",
    re.IGNORECASE,
)
_CLOSING_MARK = re.compile(
    rf"</{_NAMES}\s*>|<unused95>|\[/THINK\]|◁/think▷|<channel\|>|"
    r"<\|channel\|>final(?:<\|message\|>)?",
    re.IGNORECASE,
)
#: Tokens of which the marks of Gemma 4 and gpt-oss begin.
_PARTS: Final = ("<|channel>", "<|channel|>", "<|message|>")
_REFUSAL = re.compile(
    r"\b(?:I(?:['’]m| am) (?:sorry|unable|not able)|(?:I )?(?:cannot|can(?:no|['’])t|won['’]t) "
    r"(?:assist|help|provide|comply|fulfil|analy[sz]e|describe|diagnose|answer|do that)|"
    r"as an AI(?: language model)?,? I)\b",
    re.IGNORECASE,
)
#: A refusal says so at once.
_OPENING: Final = 200
#: A whole answer: an object, at most in a Markdown fence.
_WHOLE = re.compile(r"(?:```(?:json)?\s*)?\{.*\}\s*(?:```)?", re.DOTALL)
#: Said of a text that ends inside of a block of thinking.
UNFINISHED: Final = "it ends inside of a block of thinking, which holds no answer"


class Malformed(ValueError):
    """A text that holds no usable JSON object; the message is for the model."""


def spoken(text: str) -> str:
    """What a text says once thinking has ended.

    Everything up to the last mark that closes a block of thinking is thinking, also where no mark
    opened it: chat templates put that one into the question. A block that is never closed holds no
    answer, and neither does what stands before it, which the model went on to think over.

    Examples:
        >>> spoken('a draft {"a": 1} </think> {"a": 2}')
        '{"a": 2}'
        >>> spoken('<think>perhaps {"a": 1}')
        ''
    """
    said = text[_end_of_thinking(text) :]
    return "" if _OPENING_MARK.search(said) else said.strip()


def is_unfinished(text: str) -> bool:
    """Whether a text ends inside of a block of thinking."""
    return _OPENING_MARK.search(text, _end_of_thinking(text)) is not None


def is_mark(token: str) -> bool:
    """Whether a token opens or closes a block of thinking, or is a part of such a mark."""
    marks = (_OPENING_MARK, _CLOSING_MARK)
    return any(mark.fullmatch(token) for mark in marks) or token in _PARTS


def is_whole(text: str) -> bool:
    """Whether a text is one object from its first character to its last, fence aside."""
    return _WHOLE.fullmatch(spoken(text)) is not None


def _end_of_thinking(text: str) -> int:
    return max((mark.end() for mark in _CLOSING_MARK.finditer(text)), default=0)


def extract_object(text: str) -> dict[str, Any]:
    """The one JSON object in a text, with prose or a Markdown fence around it.

    Raises:
        Malformed: No object, several different ones, or one with a repeated key, NaN or Infinity.
    """
    said = spoken(text)
    if len(said) > MAX_CHARACTERS:
        raise Malformed(f"it is longer than {MAX_CHARACTERS:,} characters")
    if not said:
        raise Malformed(UNFINISHED if is_unfinished(text) else "it is empty")
    found = list(_objects(said))
    if not found:
        raise Malformed("it holds no JSON object")
    if any(other != found[0] for other in found[1:]):
        raise Malformed(f"it holds {len(found)} different JSON objects; give one")
    return found[0]


def parse(text: str, schema: type[BaseModel]) -> tuple[BaseModel | None, list[str]]:
    """The object that a text holds, as an instance of ``schema``, or what is wrong, a line each."""
    try:
        return schema.model_validate(extract_object(text)), []
    except Malformed as error:
        return None, [str(error)]
    except ValidationError as error:
        return None, [_explain(item) for item in error.errors(include_url=False)]


def is_refusal(text: str) -> bool:
    """Whether a text without a JSON object reads as if the model declined."""
    said = spoken(text)
    return "{" not in said and _REFUSAL.search(said[:_OPENING]) is not None


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Every outermost object of a text, from left to right.

    Each brace outside of an object has to begin one: what stands inside of a broken object is a
    part of an answer, and no answer.
    """
    decoder = json.JSONDecoder(object_pairs_hook=_unique_keys, parse_constant=_no_constant)
    position = text.find("{")
    while position >= 0:
        try:
            value, position = decoder.raw_decode(text, position)
        except Malformed:
            raise
        except RecursionError:
            raise Malformed("it is nested too deep") from None
        except ValueError as error:
            raise Malformed(f"it holds no JSON object ({error})") from None
        yield value
        position = text.find("{", position)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise Malformed("it gives a key twice")
    return value


def _no_constant(name: str) -> Any:
    raise Malformed(f"it holds {name}, which is not JSON")


def _explain(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
