"""A chat-completions server of the test's own: real HTTP on 127.0.0.1, and every call scripted.

    with MllmServer(Say({"verdict": "yes"})) as server:
        server.script("melanoma", Status(429, {"Retry-After": "0"}), Say("no JSON"), Say({...}))
        ...  # point OPENAI_BASE_URL at server.url

A call is answered by the first script whose text occurs in its conversation, else by the default.
The actions of a script are used up one a call; the last one is repeated. An action may also be a
function of the call.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class Call:
    """What the server was asked.

    Attributes:
        number: From 0, over the server's life.
        headers: Names in lower case; ``:path`` holds path and query.
        body: The parsed JSON.
    """

    number: int
    headers: Mapping[str, str]
    body: Mapping[str, Any]

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The conversation so far."""
        return self.body["messages"]

    @property
    def system(self) -> str:
        """The system prompt."""
        return "\n".join(_text(m["content"]) for m in self.messages if m["role"] == "system")

    @property
    def prompt(self) -> str:
        """What the user said last."""
        return _text(self.messages[-1]["content"])

    @property
    def text(self) -> str:
        """All that was said, by everybody."""
        return "\n".join(_text(message["content"]) for message in self.messages)

    @property
    def images(self) -> list[bytes]:
        """The files behind the data URLs, in order."""
        urls = [
            part["image_url"]["url"]
            for message in self.messages
            if isinstance(message["content"], list)
            for part in message["content"]
            if part["type"] == "image_url"
        ]
        return [base64.b64decode(url.partition(",")[2]) for url in urls]

    @property
    def turn(self) -> int:
        """0 for a first question, 1 for the first repair, …"""
        return sum(message["role"] == "assistant" for message in self.messages)


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", "") for part in content)


@dataclass(frozen=True)
class Say:
    """A completion; text as it is, anything else as JSON.

    Attributes:
        content: What the model says.
        finish: ``stop``, or ``length`` for an answer cut off, or ``content_filter``.
        tokens: Prompt and completion tokens that the server charges.
    """

    content: Any
    finish: str = "stop"
    tokens: tuple[int, int] = (100, 20)


@dataclass(frozen=True)
class Refuse:
    """A completion whose ``refusal`` is filled in place of its content."""

    text: str = "I can't help with that."


@dataclass(frozen=True)
class Status:
    """An HTTP error.

    Attributes:
        code: The status.
        headers: Headers besides the usual ones.
        message: In the form of the API's errors.
        kind: Their ``code``, e.g. ``insufficient_quota``.
        param: Their ``param``, e.g. ``response_format``.
    """

    code: int
    headers: Mapping[str, str] = field(default_factory=dict)
    message: str = "scripted error"
    kind: str | None = None
    param: str | None = None


@dataclass(frozen=True)
class Message:
    """A completion whose message has any fields at all, e.g. ``tool_calls``."""

    fields: Mapping[str, Any]
    finish: str = "stop"


@dataclass(frozen=True)
class Raw:
    """A response of status 200 with any body at all; a provider may charge it."""

    body: bytes


@dataclass(frozen=True)
class DripHeaders:
    """A response whose headers never end: one now and then."""


@dataclass(frozen=True)
class Drop:
    """The connection closed without a response."""


@dataclass(frozen=True)
class Slow:
    """Another action after a wait; ``drip`` sends a byte now and then meanwhile."""

    seconds: float
    then: Action
    drip: bool = False


Action = Say | Refuse | Message | Status | Raw | Drop | DripHeaders | Slow
Scripted = Action | Callable[[Call], Action]


class MllmServer:
    """The server; a context manager.

    Attributes:
        calls: Every call, in order of arrival.
        completed: The calls that were answered by a completion, which is what a provider charges.
    """

    def __init__(self, default: Scripted = Status(500)) -> None:
        self.calls: list[Call] = []
        self.completed: list[Call] = []
        self._default = default
        self._scripts: list[tuple[str, list[Scripted]]] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        outer = self

        class Handler(_Handler):
            server_of_test = outer

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._http.shutdown()
        self._http.server_close()

    @property
    def url(self) -> str:
        """What ``OPENAI_BASE_URL`` should be."""
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def script(self, text: str, *actions: Scripted, first: bool = False) -> None:
        """Answer conversations that hold ``text`` with these actions, one a call.

        ``first`` puts them before all earlier scripts.
        """
        self._scripts.insert(0 if first else len(self._scripts), (text, list(actions)))

    def wait(self, seconds: float) -> None:
        """Sleep, but not beyond the end of the server."""
        self._stopping.wait(seconds)

    def _receive(self, headers: Mapping[str, str], body: Mapping[str, Any]) -> tuple[Call, Action]:
        with self._lock:
            call = Call(len(self.calls), headers, body)
            self.calls.append(call)
            found: Scripted = self._default
            for text, actions in self._scripts:
                if text in call.text:
                    found = actions.pop(0) if len(actions) > 1 else actions[0]
                    break
        return call, found(call) if callable(found) else found


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of_test: MllmServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        if not self.path.partition("?")[0].endswith("/chat/completions"):
            self._send(404, {"error": {"message": f"no such path: {self.path}"}})
            return
        call, action = self.server_of_test._receive({**headers, ":path": self.path}, body)
        try:
            self._perform(action, call)
        except OSError:  # the client has gone
            self.close_connection = True

    def _perform(self, action: Action, call: Call) -> None:
        test = self.server_of_test
        if isinstance(action, Slow):
            if action.drip:
                self._drip(action.seconds)
                return
            test.wait(action.seconds)
            self._perform(action.then, call)
        elif isinstance(action, DripHeaders):
            self._drip_headers()
        elif isinstance(action, Drop):
            self.close_connection = True
        elif isinstance(action, Status):
            error = {"message": action.message, "code": action.kind, "param": action.param}
            self._send(action.code, {"error": error}, action.headers)
        elif isinstance(action, Raw):
            self._send_bytes(200, action.body, {})
        else:
            test.completed.append(call)
            self._send(200, _completion(action))

    def _drip(self, seconds: float) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.server_of_test._stopping.is_set():
            self.wfile.write(b" ")
            self.wfile.flush()
            self.server_of_test.wait(0.02)
        self.close_connection = True

    def _drip_headers(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(1_000):
            if self.server_of_test._stopping.is_set():
                break
            self.wfile.write(b"X-%d: a\r\n" % number)
            self.wfile.flush()
            self.server_of_test.wait(0.02)
        self.close_connection = True

    def _send(self, status: int, value: Any, headers: Mapping[str, str] | None = None) -> None:
        self._send_bytes(status, json.dumps(value).encode(), headers or {})

    def _send_bytes(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Say nothing on stderr."""


def _completion(action: Say | Refuse | Message) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
    finish, tokens = "stop", (100, 10)
    if isinstance(action, Message):
        message |= action.fields
        finish = action.finish
    elif isinstance(action, Refuse):
        message["refusal"] = action.text
    else:
        said = action.content
        message["content"] = said if isinstance(said, str) else json.dumps(said)
        finish, tokens = action.finish, action.tokens
    return {
        "id": "chatcmpl-test",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {
            "prompt_tokens": tokens[0],
            "completion_tokens": tokens[1],
            "total_tokens": sum(tokens),
        },
    }
