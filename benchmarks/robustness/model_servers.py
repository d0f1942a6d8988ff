"""Servers of language models that misbehave, one after another, and what becomes of each question.

``python -m benchmarks.robustness.model_servers`` runs every case twice against a server of its own
on loopback, first with an empty cache. Held against what the case expects are the outcome and its
reason; that no question is paid for twice (no body gets a second answer, and the second run of
questions that have all ended asks nothing); and that the key, which the servers echo, is in no file
in any of the usual encodings.
"""

from __future__ import annotations

import base64
import json
import math
import os
import socketserver
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel

from cas_metric.errors import CasError
from cas_metric.mllm import Request
from cas_metric.mllm.asking import Asked, Asking, put_questions
from cas_metric.mllm.yes_no import YesNo

KEY = "sk-Zt/9+qV\u00377-secret_Kz=="  # with characters that encodings change
GOOD = '{"side": "left", "grade": "mild"}'
DRAFT = '{"side": "right", "grade": "none"}'


class Finding(BaseModel):
    """What is asked for."""

    side: str
    grade: str


@dataclass
class Reply:
    """A response as bytes after the status line; ``drip`` sends its headers a byte a time."""

    body: bytes
    status: int = 200
    kind: str = "application/json"
    drip: float = 0.0


def said(content: Any, reason: str = "stop", **message: Any) -> Reply:
    """A chat completion."""
    choice = {"message": {"role": "assistant", "content": content, **message},
              "finish_reason": reason, "index": 0}  # fmt: skip
    extra = {"logprobs": message.pop("logprobs")} if "logprobs" in message else {}
    choice["message"].pop("logprobs", None)
    return plain({"choices": [{**choice, **extra}],
                  "usage": {"prompt_tokens": 9, "completion_tokens": 5}})  # fmt: skip


def plain(value: Any, status: int = 200) -> Reply:
    """JSON of another kind."""
    return Reply(json.dumps(value).encode(), status)


@dataclass
class Case:
    """One misbehaviour.

    Attributes:
        name: What it is.
        answer: Of the number of a call (from 0) and its body.
        outcome: How every question must end; ``ended`` if the run must end with an error.
        says: What the reason, or the error, must hold.
        calls: Most calls that a question may cost.
        questions: How many are put.
        yes_no: Whether they ask for one word.
        query: Of the base URL.
        timeout: Seconds for an answer.
        value: What an accepted answer must hold.
        check: Further demands on calls and answers; says what is wrong.
    """

    name: str
    answer: Callable[[int, dict[str, Any]], Reply]
    outcome: str = "accepted"
    says: str = ""
    calls: int = 1
    questions: int = 2
    yes_no: bool = False
    query: str = ""
    timeout: float = 5.0
    value: str = GOOD
    check: Callable[[list[Call], Asked | None], str] = lambda calls, asked: ""


@dataclass
class Call:
    """What reached the server, and whether it was answered with 200."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    paid: bool = False

    @property
    def words(self) -> str:
        """Everything that the model reads."""
        return json.dumps(self.body["messages"])


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        line = self.rfile.readline().decode().split()
        headers = {}
        while (text := self.rfile.readline().decode().strip()) != "":
            name, _, value = text.partition(":")
            headers[name.lower()] = value.strip()
        body = json.loads(self.rfile.read(int(headers["content-length"])))
        server: Any = self.server
        call = Call(line[1], headers, body)
        with server.lock:
            number = len(server.calls)
            server.calls.append(call)
        reply = server.case.answer(number, body)
        head = f"HTTP/1.1 {reply.status} X\r\nContent-Type: {reply.kind}\r\n"
        head += f"Content-Length: {len(reply.body)}\r\nConnection: close\r\n\r\n"
        try:
            if reply.drip:
                for byte in head.encode():
                    self.wfile.write(bytes([byte]))
                    time.sleep(reply.drip)
            else:
                self.wfile.write(head.encode())
            self.wfile.write(reply.body)
            call.paid = reply.status == 200
        except OSError:
            return


@contextmanager
def serving(case: Case) -> Iterator[tuple[str, list[Call]]]:
    """The case's server: its base URL and what it is sent."""
    socketserver.ThreadingTCPServer.daemon_threads = True
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Handler) as server:
        server.case, server.calls = case, []  # type: ignore[attr-defined]
        server.lock = threading.Lock()  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_address[1]}/v1{case.query}"
        yield base, server.calls  # type: ignore[attr-defined]
        server.shutdown()


# -- what is held against it ----------------------------------------------------------------------


@dataclass
class Verdict:
    """What a case came to."""

    name: str
    ended: str
    calls: int
    problems: list[str] = field(default_factory=list)


def run(case: Case) -> Verdict:
    """Both runs of a case."""
    with tempfile.TemporaryDirectory() as folder, serving(case) as (base, calls):
        asking = Asking(
            "openai:m", base, concurrency=2, retries=1, timeout=case.timeout, cache=folder
        )
        first, told = _ask(case, asking)
        count = len(calls)
        second, told_again = _ask(case, asking)
        verdict = Verdict(case.name, _ending(first, told), count)
        verdict.problems = [
            *_wrong(case, first, told),
            *([f"the second run says other than the first: {told_again}"]
              if _ending(second, told_again) != _ending(first, told) else []),
            *_paid_twice(calls, count, case),
            *_keys(Path(folder), [told, told_again, repr(first), repr(second)]),
            *filter(None, [case.check(calls, first)]),
        ]  # fmt: skip
        return verdict


def _ask(case: Case, asking: Asking) -> tuple[Asked | None, str]:
    schema: type[BaseModel] = YesNo if case.yes_no else Finding
    requests = [
        Request(key=str(n), system="s", prompt=f"question {n}?", schema=schema, yes_no=case.yes_no)
        for n in range(case.questions)
    ]
    try:
        return put_questions(requests, asking), ""
    except CasError as error:
        return None, str(error)


def _ending(asked: Asked | None, told: str) -> str:
    if asked is None:
        return f"ended: {told.splitlines()[0]}"
    return ", ".join(f"{one.outcome}{': ' + one.reason if one.reason else ''}"
                     for one in asked.answers)  # fmt: skip


def _wrong(case: Case, asked: Asked | None, told: str) -> list[str]:
    if asked is None:
        fine = case.outcome == "ended" and case.says in told
        return [] if fine else [f"the run ended: {told}"]
    found = []
    for one in asked.answers:
        if one.outcome != case.outcome or case.says not in one.reason:
            found.append(f"wanted {case.outcome} ({case.says}), was {one.outcome}: {one.reason}")
        wanted = json.loads(case.value)
        if one.accepted and not case.yes_no and one.value.model_dump() != wanted:
            found.append(f"took {one.value}, which is no answer")
    return found


def _paid_twice(calls: Sequence[Call], first: int, case: Case) -> list[str]:
    bodies = Counter(json.dumps(one.body, sort_keys=True) for one in calls if one.paid)
    found = [f"{n} answers to one body" for n in bodies.values() if n > 1]
    again = [one for one in calls[first:] if one.paid] if case.outcome != "ended" else []
    found += [f"the second run was answered {len(again)} times"] if again else []
    most = case.calls * case.questions
    return [*found, f"{first} calls, at most {most} allowed"] if first > most else found


def forms(key: str) -> dict[str, bytes]:
    """A key as text is usually written."""
    raw = key.encode()
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in key)
    return {
        "plain": raw,
        "JSON": json.dumps(key)[1:-1].encode(),
        "JSON, slashes": key.replace("/", "\\/").encode(),
        "JSON, first letter": (f"\\u{ord(key[0]):04x}" + key[1:]).encode(),
        "JSON, all": escaped.encode(),
        "JSON, all, upper": escaped.upper().replace("\\U", "\\u").encode(),
        "URL": quote(key, safe="").encode(),
        "base64": base64.b64encode(raw),
        "base64, URL": base64.urlsafe_b64encode(raw),
        "hex": raw.hex().encode(),
        "hex, upper": raw.hex().upper().encode(),
        "UTF-16": key.encode("utf-16-le"),
        "reversed": raw[::-1],
        "middle": raw[3:-3],
    }


def _keys(folder: Path, texts: Sequence[str]) -> list[str]:
    written = {str(path.name): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    written |= {f"text {n}": text.encode() for n, text in enumerate(texts)}
    return [
        f"{name} holds the key ({form})"
        for name, content in written.items()
        for form, bytes_ in forms(KEY).items()
        if bytes_ in content
    ]


# -- cases ----------------------------------------------------------------------------------------


def _later(first: Reply, then: Reply) -> Callable[[int, dict[str, Any]], Reply]:
    """``first`` to a question, ``then`` to its correction."""
    return lambda number, body: first if len(body["messages"]) < 4 else then


def _call(arguments: Any) -> dict[str, Any]:
    return {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}


def _probable(word: str, logprob: float, *others: tuple[str, float]) -> Reply:
    top = [{"token": token, "logprob": value} for token, value in ((word, logprob), *others)]
    return said(word, logprobs={"content": [{"token": word, "logprob": logprob,
                                             "top_logprobs": top}]})  # fmt: skip


def _knows_the_keys(calls: list[Call], asked: Asked | None) -> str:
    missing = [one for one in calls if "side" not in one.words or "grade" not in one.words]
    corrected = [one.body["messages"][-1] for one in calls if len(one.body["messages"]) > 2]
    blind = [one for one in corrected if "grade" not in json.dumps(one)]
    return "a question or correction does not name the keys" if missing or blind else ""


def _azure(calls: list[Call], asked: Asked | None) -> str:
    one = calls[0]
    fine = one.path == "/v1/chat/completions?api-version=2024-10-21"
    return "" if fine and one.headers.get("api-key") == KEY else f"{one.path} {one.headers}"


def _scores(*wanted: float, source: str) -> Callable[[list[Call], Asked | None], str]:
    def check(calls: list[Call], asked: Asked | None) -> str:
        found = [one.value.score for one in asked.answers] if asked else []
        sources = {one.value.source for one in asked.answers} if asked else set()
        close = all(abs(a - b) < 1e-12 for a, b in zip(found, wanted * 2, strict=False))
        return "" if close and sources == {source} else f"scores {found} from {sources}"

    return check


ECHOES = {
    "plain": json.dumps({"side": "left", "grade": KEY}),
    "escaped letter": '{"side": "left", "grade": "\\u0073' + KEY[1:] + '"}',
    "escaped slash": '{"side": "left", "grade": "' + KEY.replace("/", "\\/") + '"}',
    "all escaped": '{"side": "left", "grade": "' + "".join(f"\\u{ord(c):04x}" for c in KEY) + '"}',
}

#: P(yes) among the two words, of the logprobs case.
_SHARE = (math.exp(-0.2) + math.exp(-4)) / (math.exp(-0.2) + math.exp(-4) + math.exp(-2))

CASES = (
    Case("a good answer", lambda n, b: said(GOOD), check=_knows_the_keys),
    Case("a draft in thinking that never ends", lambda n, b: said(f"<think>so {DRAFT}"),
         "rejected", "thinking", 3),
    Case("the same, then corrected", _later(said(f"<think>{GOOD}"), said(GOOD)), calls=2),
    Case("two drafts, two closing marks", lambda n, b: said(
        f"{DRAFT} </think> no {DRAFT} </think> {GOOD}")),
    Case("no tokens left, empty content", lambda n, b: said("", "length"), "rejected",
         "--max-tokens"),
    Case("no tokens left in reasoning", lambda n, b: said(None, "length", reasoning_content="hm"),
         "rejected", "--max-tokens"),
    Case("answer in a tool call", lambda n, b: said(None, "tool_calls", tool_calls=[_call(GOOD)])),
    Case("answer in a tool call, as an object",
         lambda n, b: said(None, "tool_calls", tool_calls=[_call(json.loads(GOOD))])),
    Case("answer in function_call",
         lambda n, b: said(None, function_call=_call(GOOD)["function"])),
    Case("answer in reasoning_content", lambda n, b: said("", reasoning_content=GOOD)),
    Case("words in reasoning_content alone", lambda n, b: said("", reasoning_content="hm, left"),
         "rejected", "reasoning_content", 3),
    Case("response_format is ignored", _later(said("The left side."), said(GOOD)), calls=2,
         check=_knows_the_keys),
    Case("response_format is refused", lambda n, b: plain(
        {"error": {"message": "response_format is not supported"}}, 400)
        if "response_format" in b else said(GOOD), calls=3, check=_knows_the_keys),
    Case("a stream of events", lambda n, b: Reply(b"data: {}\n\ndata: [DONE]\n\n",
         kind="text/event-stream"), "ended", "stream"),
    Case("a page of HTML", lambda n, b: Reply(b"<html>Welcome</html>", kind="text/html"),
         "ended", "HTML"),
    Case("no choices", lambda n, b: plain({"choices": []}), "ended", "choices"),
    Case("an error in 200", lambda n, b: plain({"error": {"message": "model overloaded"}}),
         "ended", "model overloaded"),
    Case("an error in 200 after a good answer", lambda n, b: said(GOOD) if "question 0" in
         b["messages"][1]["content"] or n == 0 else plain({"error": {"message": "overloaded"}}),
         questions=1),
    *(Case(f"the key is echoed, {name}", lambda n, b, text=text: said(text),
           value='{"side": "left", "grade": "***"}') for name, text in ECHOES.items()),
    Case("the key is echoed in an error", lambda n, b: plain(
        {"error": {"message": f"wrong key {KEY} \\u0073{KEY[1:]}"}}, 401), "ended", "401"),
    Case("headers a byte a time", lambda n, b: Reply(b"{}", drip=0.3), "failed", "", 2,
         questions=1, timeout=1.0),
    Case("Azure's address", lambda n, b: said(GOOD), query="?api-version=2024-10-21",
         check=_azure),
    Case("logprobs", lambda n, b: _probable("Yes", -0.2, ("No", -2.0), (" yes", -4.0)),
         yes_no=True, check=_scores(_SHARE, source="logprobs")),
    Case("no logprobs", lambda n, b: said("No."), yes_no=True,
         check=_scores(0.0, source="answer")),
    Case("logprobs are refused", lambda n, b: plain(
        {"error": {"message": "logprobs is not supported with this model"}}, 400)
        if "logprobs" in b else said("yes"), calls=2, yes_no=True,
        check=_scores(1.0, source="answer")),
    Case("neither yes nor no", lambda n, b: said("perhaps"), "rejected", "yes or no", 3,
         yes_no=True),
    Case("it declines", lambda n, b: said("I'm sorry, I can't help with that."), "refused",
         "declined"),
)  # fmt: skip


def main() -> None:
    """Run all cases and print a table."""
    os.environ["CAS_MLLM_API_KEY"] = KEY
    bad = 0
    for case in CASES:
        started = time.perf_counter()
        verdict = run(case)
        bad += bool(verdict.problems)
        state = "; ".join(verdict.problems) or "as wanted"
        seconds = time.perf_counter() - started
        print(f"{case.name} | {verdict.calls} calls | {seconds:.1f} s | {state}", flush=True)
        if verdict.problems:
            print(f"    {verdict.ended[:300]}")
    print(f"{len(CASES)} cases, {bad} not as wanted")


if __name__ == "__main__":
    main()
