"""Servers with OpenAI's chat-completions interface: OpenAI itself, vLLM, Ollama, llama.cpp.

The key is read from the environment, sent in one header, and never shown: it is cut out of every
response before anything else looks at it, so that it can reach no message, cache or file.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from cas_metric.errors import CasError, ModelUnavailable
from cas_metric.mllm.access import Access, access_from
from cas_metric.mllm.completions import error_of, message_of, read_completion
from cas_metric.mllm.dialect import Dialect, weaker, whole_system
from cas_metric.mllm.pacing import retry_after
from cas_metric.mllm.pictures import data_url, picture
from cas_metric.mllm.transport import MAX_BYTES, Transport
from cas_metric.mllm.types import Conversation, NoAnswer, Reply, Request

_RETRIED: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
#: What errors call themselves that gateways send with another status.
_CODES: Final = {
    "insufficient_quota": 402,
    "invalid_api_key": 401,
    "model_not_found": 404,
    "rate_limit_exceeded": 429,
}
_FILTERED: Final = ("content_filter", "content_policy_violation", "moderation_blocked")


@dataclass(frozen=True)
class Settings:
    """What decides an answer, besides the question, and how long to wait for it.

    Attributes:
        temperature: 0 for the most likely answer.
        max_tokens: Of an answer.
        longest_side: Images are scaled down to it, in pixels.
        timeout: Seconds for a whole answer.
        seed: For servers that sample reproducibly; None leaves it out.
    """

    temperature: float = 0.0
    max_tokens: int = 1024
    longest_side: int = 1024
    timeout: float = 120.0
    seed: int | None = None


class _Response(NamedTuple):
    """What a server sent: ``answer`` is its JSON, None for none."""

    status: int
    headers: Mapping[str, str]
    answer: Any
    text: str


class Endpoint:
    """One model of one server. See :class:`cas_metric.mllm.types.Model`.

    Args:
        model: Its name on the server.
        access: Address and key.
        settings: Parameters of every call.

    Raises:
        MissingDependency: The extra ``mllm`` is not installed.
    """

    concurrent = True

    def __init__(self, model: str, access: Access, settings: Settings) -> None:
        self._model = model
        self._access = access
        self._settings = settings
        self._dialect = Dialect()
        self._settled = False
        self._counted = False
        self._transport = Transport(
            access.headers,
            timeout=settings.timeout,
            verify=access.base_url.startswith("https:"),
        )

    def __repr__(self) -> str:
        return f"Endpoint({self._model!r}, {self._access!r})"

    @property
    def name(self) -> str:
        """The spec."""
        return f"openai:{self._model}"

    @property
    def identity(self) -> Mapping[str, Any]:
        """Server, model and parameters."""
        settings = self._settings
        return {
            "kind": "openai",
            "base_url": self._access.base_url,
            "model": self._model,
            "temperature": settings.temperature,
            "max_tokens": settings.max_tokens,
            "longest_side": settings.longest_side,
            "seed": settings.seed,
        }

    @property
    def notes(self) -> tuple[str, ...]:
        """What the server did not take."""
        counted = dataclasses.replace(self._dialect, logprobs=not self._counted)
        return counted.notes if self._counted else self._dialect.notes

    def reply(self, conversation: Conversation) -> Reply:
        """Answer the last turn; see :meth:`cas_metric.mllm.types.Model.reply`."""
        content = self._content(conversation.request)
        dialect = self._dialect
        while True:
            response = self._post(self._body(conversation, content, dialect))
            if response.status == 200:
                self._dialect, self._settled = dialect, True
                reply = read_completion(response.answer) or _foreign(response)
                if conversation.request.yes_no and not (reply.fault or reply.shares):
                    # Some servers refuse the field, others take it and give nothing.
                    self._counted = True
                return reply
            simpler = None
            if response.status in (400, 404, 422, 501):
                said = message_of(response.answer)
                simpler = weaker(dialect, said, guess=not self._settled)
            if simpler is None:
                return self._refused(response)
            dialect = simpler

    def _content(self, request: Request) -> list[dict[str, Any]]:
        """Captions, images and the question, as parts of one message."""
        parts: list[dict[str, Any]] = []
        captions = request.captions or ("",) * len(request.images)
        for path, caption in zip(request.images, captions, strict=True):
            if caption:
                parts.append({"type": "text", "text": caption})
            image = picture(path, longest_side=self._settings.longest_side, window=request.window)
            parts.append({"type": "image_url", "image_url": {"url": data_url(image)}})
        return [*parts, {"type": "text", "text": request.prompt}]

    def _body(
        self, conversation: Conversation, content: list[dict[str, Any]], dialect: Dialect
    ) -> dict[str, Any]:
        request, settings = conversation.request, self._settings
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": whole_system(request)},
            {"role": "user", "content": content},
        ]
        for turn in conversation.turns:
            # Several servers refuse a message without text.
            messages.append({"role": "assistant", "content": turn.answer or "(no answer)"})
            messages.append({"role": "user", "content": turn.complaint})
        return {
            "model": self._model,
            "messages": messages,
            "stream": False,
            **dialect.parameters(request, settings.max_tokens),
            **({"temperature": settings.temperature} if dialect.temperature else {}),
            **({"seed": settings.seed} if settings.seed is not None else {}),
        }

    def _post(self, body: dict[str, Any]) -> _Response:
        """The response to a call, without the key."""
        secret, url = self._access.secret, self._access.base_url
        errors = self._transport.errors
        # ASCII: an answer that is quoted back may hold halves of surrogates.
        content = json.dumps(body).encode("ascii")
        try:
            status, headers, received = self._transport.post(self._access.chat_url, content)
        except (TimeoutError, errors.TimeoutException) as error:
            unreachable = isinstance(error, errors.ConnectTimeout)
            limit = f"{self._settings.timeout:g} s"
            raise NoAnswer(
                f"no answer within {limit}", retry=True, unreachable=unreachable
            ) from None
        except errors.ConnectError as error:
            problem = secret.hide(f"cannot connect to {url}: {error}")
            raise NoAnswer(problem, retry=True, unreachable=True) from None
        except errors.HTTPError as error:
            problem = secret.hide(f"the connection broke: {error}")
            raise NoAnswer(problem, retry=True) from None
        text = secret.hide(received.decode("utf-8", "replace"))
        # What was escaped in the text comes out of hiding when it is parsed.
        answer = secret.hide_all(_json(text))
        return _Response(_status_within(answer) or status, headers, answer, text)

    def _refused(self, response: _Response) -> Reply:
        """Raise what an HTTP error means; a filter's verdict is the one that is an answer."""
        status, headers, answer = response.status, response.headers, response.answer
        message = message_of(answer) or f"HTTP status {status}"
        code = error_of(answer).get("code")
        server = urlsplit(self._access.base_url).netloc
        if code in _FILTERED:
            return Reply(text="", refusal=message)
        if code == "insufficient_quota" or status == 402:
            raise CasError(
                f"{server}: the quota is spent: {message}",
                fix="add credit, then run the same command again: what was answered is kept",
            )
        if status in (401, 403):
            raise ModelUnavailable(
                f"{server} does not accept the key ({status}): {message}",
                fix="set CAS_MLLM_API_KEY or OPENAI_API_KEY to a key that may use this model",
            )
        if status == 404 or code == "model_not_found":
            raise ModelUnavailable(
                f"{server} has no model {self._model!r}: {message}",
                fix="check the model's name, and that the base URL ends as the server wants (/v1)",
            )
        if 300 <= status < 400:
            raise ModelUnavailable(
                f"{server} sends elsewhere ({status}), and the key is not to follow",
                fix="set the final address as CAS_MLLM_BASE_URL",
            )
        wait = _milliseconds(headers) or retry_after(headers.get("retry-after"))
        raise NoAnswer(
            f"HTTP {status}: {message}",
            retry=status in _RETRIED,
            retry_after=wait if status in (429, 503, 529) else None,
        )


def open_endpoint(model: str, settings: Settings, *, base_url: str | None = None) -> Endpoint:
    """The model of that name, at the address and with the key of the environment."""
    return Endpoint(model, access_from(os.environ, base_url), settings)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _status_within(answer: Any) -> int | None:
    """The status that an error means which comes with status 200, as gateways send it."""
    if not isinstance(answer, dict) or answer.get("choices"):
        return None
    code = error_of(answer).get("code")
    try:
        status = _CODES.get(str(code)) or int(str(code))
    except (TypeError, ValueError):
        return None
    return status if 400 <= status < 600 else None


def _foreign(response: _Response) -> Reply:
    """A reply that says what was sent in place of a chat completion."""
    start = response.text.lstrip()[:200].lower()
    if len(response.text) > MAX_BYTES:
        what = "does not end"
    elif not start:
        what = "is empty"
    elif start.startswith(("data:", "event:", ":")):
        what = "is a stream of events, although none was asked for"
    elif start.startswith("<"):
        what = "is a page of HTML or XML"
    else:
        what = f"is no chat completion: {' '.join(start.split())[:80]!r}"
    return Reply("", fault=f"the server's answer {what}", foreign=True)


def _milliseconds(headers: Mapping[str, str]) -> float | None:
    seconds = retry_after(headers.get("retry-after-ms"))
    return seconds / 1000 if seconds is not None else None
