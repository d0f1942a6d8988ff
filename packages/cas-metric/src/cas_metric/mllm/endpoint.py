"""Servers with OpenAI's chat-completions interface: OpenAI itself, vLLM, Ollama, llama.cpp.

The key is read from the environment, sent in one header, and never shown: it is cut out of every
response before anything else looks at it, so that it can reach no message, cache or file.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from cas_metric.errors import CasError, InputError, MissingDependency, ModelUnavailable
from cas_metric.mllm.dialect import Dialect, weaker
from cas_metric.mllm.pacing import retry_after
from cas_metric.mllm.pictures import data_url, picture
from cas_metric.mllm.schemas import json_schema
from cas_metric.mllm.types import Conversation, NoAnswer, Reply, Request, Usage

OPENAI: Final = "https://api.openai.com/v1"

#: Seconds for a connection to stand; the answer itself has :attr:`Settings.timeout`.
_CONNECT: Final = 10.0
#: An answer of this many bytes is none.
_MAX_BYTES: Final = 10_000_000
#: Shorter keys ("EMPTY", as local servers want it) are no secret, and their text occurs by chance.
_SECRET_LENGTH: Final = 8
_RETRIED: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
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


@dataclass(frozen=True)
class Access:
    """Where a server is, and the key to it, which ``repr`` does not show."""

    base_url: str
    key: str = ""

    def __repr__(self) -> str:
        return f"Access(base_url={self.base_url!r}, key={'***' if self.key else ''!r})"


def access_from(environment: Mapping[str, str], base_url: str | None = None) -> Access:
    """Base URL and key.

    ``CAS_MLLM_BASE_URL`` with ``CAS_MLLM_API_KEY`` come before ``OPENAI_BASE_URL`` with
    ``OPENAI_API_KEY``. The latter key goes to no address that was given for this package alone.

    Raises:
        InputError: The URL is none, or holds a user name, a password or a query.
        ModelUnavailable: OpenAI's own server is meant, and there is no key.
    """
    own = base_url or environment.get("CAS_MLLM_BASE_URL")
    url = (own or environment.get("OPENAI_BASE_URL") or OPENAI).rstrip("/")
    key = environment.get("CAS_MLLM_API_KEY") or ""
    if not key and not own:
        key = environment.get("OPENAI_API_KEY") or ""
    parts = _address(url)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InputError(
            f"the base URL of {parts.hostname} holds a user name, a password or a query",
            fix="set the address alone as CAS_MLLM_BASE_URL, and the key as CAS_MLLM_API_KEY",
        )
    if not key.isascii() or not key.isprintable():
        raise InputError(
            "the API key holds characters that no header can carry",
            fix="set CAS_MLLM_API_KEY or OPENAI_API_KEY again, without quotes and line breaks",
        )
    if url == OPENAI and not key:
        raise ModelUnavailable(
            f"{OPENAI} wants a key, and neither CAS_MLLM_API_KEY nor OPENAI_API_KEY is set",
            fix="export OPENAI_API_KEY=…; or CAS_MLLM_BASE_URL for a server of your own",
        )
    return Access(url, key)


def _address(url: str) -> SplitResult:
    """The parts of an http(s) address that can be connected to."""
    try:
        parts = urlsplit(url)
        # Wrong ports and host names would otherwise be noticed at the first call.
        usable = parts.scheme in ("http", "https") and parts.port != 0
        usable = usable and bool((parts.hostname or "").encode("idna"))
    except ValueError:
        usable = False
    if not usable:
        raise InputError(
            "the base URL of the model server is no http(s) address",
            fix="set CAS_MLLM_BASE_URL, e.g. http://localhost:8000/v1",
        )
    return parts


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
        try:
            import httpx2
        except ImportError as error:
            raise MissingDependency(
                "httpx2", extra="mllm", purpose="models behind an HTTP endpoint"
            ) from error
        self._model = model
        self._access = access
        self._settings = settings
        self._dialect = Dialect()
        self._settled = False
        self._errors = httpx2
        headers = {"Authorization": f"Bearer {access.key}"} if access.key else {}
        self._client = httpx2.Client(
            headers=headers,
            # Certificates take longer to load than a local server to answer.
            verify=access.base_url.startswith("https:"),
            timeout=httpx2.Timeout(settings.timeout, connect=min(_CONNECT, settings.timeout)),
            limits=httpx2.Limits(max_connections=256, max_keepalive_connections=256),
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
        return self._dialect.notes

    def reply(self, conversation: Conversation) -> Reply:
        """Answer the last turn; see :meth:`cas_metric.mllm.types.Model.reply`."""
        content = self._content(conversation.request)
        dialect = self._dialect
        while True:
            body = self._body(conversation, content, dialect)
            status, headers, answer = self._post(body)
            if status == 200:
                self._dialect, self._settled = dialect, True
                return _reply(answer)
            simpler = None
            if status in (400, 404, 422, 501):
                simpler = weaker(dialect, _message(answer), guess=not self._settled)
            if simpler is None:
                return self._refused(status, headers, answer)
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
        schema = json_schema(request.schema)
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": dialect.system(request.system, schema)},
            {"role": "user", "content": content},
        ]
        for turn in conversation.turns:
            messages.append({"role": "assistant", "content": turn.answer})
            messages.append({"role": "user", "content": turn.complaint})
        return {
            "model": self._model,
            "messages": messages,
            **dialect.parameters(request.schema.__name__, schema, settings.max_tokens),
            **({"temperature": settings.temperature} if dialect.temperature else {}),
            **({"seed": settings.seed} if settings.seed is not None else {}),
        }

    def _post(self, body: dict[str, Any]) -> tuple[int, Mapping[str, str], Any]:
        """Status, headers and JSON of a call, without the key; an empty object for no JSON."""
        errors = self._errors
        end = time.monotonic() + self._settings.timeout
        received = bytearray()
        try:
            with self._client.stream(
                "POST",
                f"{self._access.base_url}/chat/completions",
                # ASCII: an answer that is quoted back may hold halves of surrogates.
                content=json.dumps(body).encode("ascii"),
                headers={"Content-Type": "application/json"},
            ) as response:
                for chunk in response.iter_bytes():
                    received += chunk
                    if len(received) > _MAX_BYTES:
                        raise NoAnswer("the server's answer does not end", retry=False)
                    if time.monotonic() > end:
                        raise errors.ReadTimeout("too slow")
                status, headers = response.status_code, dict(response.headers)
        except errors.TimeoutException as error:
            unreachable = isinstance(error, errors.ConnectTimeout)
            limit = f"{self._settings.timeout:g} s"
            raise NoAnswer(
                f"no answer within {limit}", retry=True, unreachable=unreachable
            ) from None
        except errors.ConnectError as error:
            raise NoAnswer(
                self._without_key(f"cannot connect to {self._access.base_url}: {error}"),
                retry=True,
                unreachable=True,
            ) from None
        except errors.HTTPError as error:
            problem = self._without_key(f"the connection broke: {error}")
            raise NoAnswer(problem, retry=True) from None
        return status, headers, _json(self._without_key(received.decode("utf-8", "replace")))

    def _refused(self, status: int, headers: Mapping[str, str], answer: Any) -> Reply:
        """Raise what an HTTP error means; a filter's verdict is the one that is an answer."""
        message = _message(answer) or f"HTTP status {status}"
        code = _error(answer).get("code")
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

    def _without_key(self, text: str) -> str:
        key = self._access.key
        return text.replace(key, "***") if len(key) >= _SECRET_LENGTH else text


def open_endpoint(model: str, settings: Settings, *, base_url: str | None = None) -> Endpoint:
    """The model of that name, at the address and with the key of the environment."""
    return Endpoint(model, access_from(os.environ, base_url), settings)


def _reply(answer: Any) -> Reply:
    """The reply in a chat completion.

    Raises:
        NoAnswer: It has another form, or reports an error in spite of its status.
    """
    if message := _message(answer):
        raise NoAnswer(f"the server reports: {message}", retry=True)
    try:
        choice = answer["choices"][0]
        said = choice["message"]
        content = said.get("content") or ""
        if isinstance(content, list):
            content = "".join(part.get("text") or "" for part in content)
        finish = choice.get("finish_reason")
        refusal = said.get("refusal") or ""
        if finish == "content_filter" and not refusal:
            refusal = "stopped by the server's content filter"
        return Reply(str(content), str(refusal), finish == "length", _usage(answer))
    except (KeyError, IndexError, TypeError, AttributeError):
        raise NoAnswer("the server's answer is no chat completion", retry=True) from None


def _usage(answer: Mapping[str, Any]) -> Usage:
    usage = answer.get("usage") or {}
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
    return Usage(*(count if isinstance(count, int) else 0 for count in counts))


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {}


def _error(answer: Any) -> Mapping[str, Any]:
    """The error object of a response; servers write it as an object or as text."""
    error = answer.get("error") if isinstance(answer, dict) else None
    if isinstance(error, str):
        return {"message": error}
    return error if isinstance(error, dict) else {}


def _message(answer: Any) -> str:
    error = _error(answer)
    parts = [str(error.get("message") or ""), str(error.get("param") or "")]
    if not any(parts) and isinstance(answer, dict):  # FastAPI's form
        parts = [str(answer.get("detail") or answer.get("message") or "")]
    return " ".join(" ".join(part for part in parts if part).split())[:500]


def _milliseconds(headers: Mapping[str, str]) -> float | None:
    seconds = retry_after(headers.get("retry-after-ms"))
    return seconds / 1000 if seconds is not None else None
