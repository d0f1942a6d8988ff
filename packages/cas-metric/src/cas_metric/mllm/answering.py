"""Putting questions: cache, rate limit, repetition, repair, until each has its one answer."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from cas_metric.errors import CasError, ImageError, ModelUnavailable
from cas_metric.images import sha256_file
from cas_metric.mllm.cache import AnswerCache, conversation_key
from cas_metric.mllm.dialect import form_in_words
from cas_metric.mllm.extraction import is_refusal, is_unfinished, is_whole, parse, spoken
from cas_metric.mllm.pacing import Pacer, Stopped, backoff
from cas_metric.mllm.schemas import json_schema
from cas_metric.mllm.types import (
    Answer,
    Conversation,
    Model,
    NoAnswer,
    Options,
    Outcome,
    ProgressCallback,
    Reply,
    Request,
    Usage,
)
from cas_metric.mllm.yes_no import ONE_WORD, read_yes_no

#: Unusable responses in a row, of a server that has given usable ones, after which the run ends.
_FAULTS: Final = 3


def answer_all(
    requests: Iterable[Request],
    model: Model,
    *,
    cache: AnswerCache | None = None,
    options: Options | None = None,
    progress: ProgressCallback | None = None,
) -> list[Answer]:
    """Put every question; each ends in exactly one answer.

    An answer that the schema or the check of its request does not accept goes back to the model
    with the complaints. A call that got no answer is repeated. A killed run is continued by the
    same call: every answer that arrived is in the cache. Until the first usable answer, calls are
    made one at a time, so that what is wrong with the server is paid for once.

    Args:
        requests: The questions.
        model: Whom to ask.
        cache: Where answers are looked up and kept; None keeps none.
        options: How they are put.
        progress: Told after each answer.

    Returns:
        One answer a request, in the same order.

    Raises:
        ModelUnavailable: Nobody answers, or not this key or model, or what comes is no answer of a
            model. What was answered is kept.
        CasError: The cache cannot be written, or the quota is spent.
    """
    questions = list(requests)
    options = options or Options()
    asker = _Asker(model, cache, options)
    if asker.read_ahead(questions, progress):
        progress = None
    answers: list[Answer | None] = [None] * len(questions)
    workers = max(1, options.concurrency) if model.concurrent else 1
    with ThreadPoolExecutor(workers, thread_name_prefix="mllm") as pool:
        futures: dict[Future[Answer], int] = {
            pool.submit(asker.answer, request): i for i, request in enumerate(questions)
        }
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                answers[futures[future]] = future.result()
                if progress is not None:
                    progress(done, len(questions))
        except BaseException:
            asker.pacer.stop()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return [answer for answer in answers if answer is not None]


#: Questions whose P(yes) is read together.
_TOGETHER: Final = 256


@dataclass
class _Course:
    """How far a question has come."""

    conversation: Conversation
    fresh: bool
    attempts: int = 0
    cached: bool = True
    usage: Usage = Usage()  # noqa: RUF009 - immutable
    whole_usage: Usage = Usage()  # noqa: RUF009
    text: str = ""


class _Asker:
    """Answers one question at a time, in as many threads as may be."""

    def __init__(self, model: Model, cache: AnswerCache | None, options: Options) -> None:
        self.pacer = Pacer(options.requests_per_minute)
        self._model = model
        self._cache = cache
        self._options = options
        self._lock = threading.Lock()
        self._reached = False
        self._usable = False
        self._unanswered = 0
        self._faults = 0
        self._over = ""
        self._first = threading.Lock()
        self._ready: dict[str, Reply] = {}
        # Equal questions wait for one another, so that the second finds the answer of the first.
        self._same: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def read_ahead(self, requests: list[Request], progress: ProgressCallback | None) -> bool:
        """Have a model that can read P(yes) off its logits do so for many questions at once."""
        replies = getattr(self._model, "replies", None)
        if replies is None or not all(request.yes_no for request in requests):
            return False
        for start in range(0, len(requests), _TOGETHER):
            missing: dict[str, Request] = {}
            for request in requests[start : start + _TOGETHER]:
                try:
                    key = self._key(request)
                    kept = self._cache.get(key) if self._cache is not None else None
                except ImageError:
                    continue  # :meth:`answer` lists it
                if kept is None or (self._options.ask_again and _judge(request, kept)[1]):
                    missing[key] = request
            with suppress(ImageError):  # asked one by one, each has its own outcome
                self._ready |= zip(missing, replies(list(missing.values())), strict=True)
            if progress is not None:
                progress(min(start + _TOGETHER, len(requests)), len(requests))
        return True

    def _key(self, request: Request) -> str:
        images = [sha256_file(path) for path in request.images]
        return conversation_key(self._model.identity, Conversation(request), images)

    def answer(self, request: Request) -> Answer:
        """Put one question to its end."""
        conversation = Conversation(request)
        try:
            images = [sha256_file(path) for path in request.images]
        except ImageError as error:
            return Answer(request.key, "failed", reason=error.problem)
        with self._lock:
            same = self._same[conversation_key(self._model.identity, conversation, images)]
        with same:
            answer = self._converse(_Course(conversation, fresh=False), images)
            if self._options.ask_again and answer.cached and not answer.accepted:
                answer = self._converse(_Course(conversation, fresh=True), images)
        return answer

    def _converse(self, course: _Course, images: list[str]) -> Answer:
        """Ask, and ask for corrections, until an answer is accepted or patience ends."""
        request = course.conversation.request
        complaints: list[str] = []
        try:
            while course.attempts <= self._options.repairs:
                reply = self._reply(course, images)
                if reply.fault:
                    self._end_if_hopeless(course, reply)
                    return _ended(course, "failed", reply.fault)
                if reply.shares is None and (spent := _spent(reply)):
                    return _ended(course, "rejected", spent)
                refusal = reply.refusal or (reply.text if is_refusal(reply.text) else "")
                if refusal:
                    return _ended(course, "refused", f"the model declined: {_short(refusal)}")
                value, complaints = _judge(request, reply)
                if not complaints:
                    return _ended(course, "accepted", value=value)
                course.conversation = course.conversation.with_turn(
                    reply.text, _complaint(request, complaints)
                )
        except (NoAnswer, ImageError) as error:
            return _ended(course, "failed", error.problem)
        return _ended(course, "rejected", "; ".join(complaints))

    def _reply(self, course: _Course, images: list[str]) -> Reply:
        """The next reply, from the cache or from the model."""
        key = conversation_key(self._model.identity, course.conversation, images)
        reply = self._cache.get(key) if self._cache is not None and not course.fresh else None
        if reply is None:
            reply = self._ready.pop(key, None) or self._ask(course.conversation)
            course.cached = False
            course.usage += reply.usage
            _require_unchanged(course.conversation.request, images)
            if self._cache is not None:
                self._cache.put(key, reply)
        if not reply.fault:
            self._usable, self._faults = True, 0
        course.attempts += 1
        course.whole_usage += reply.usage
        course.text = reply.text or reply.refusal
        return reply

    def _ask(self, conversation: Conversation) -> Reply:
        """Call the model, again and again where that may help."""
        self._refuse_if_hopeless()
        for attempt in range(self._options.retries + 1):
            try:
                self.pacer.take()
                reply = self._call(conversation)
            except Stopped as error:
                raise NoAnswer("the run was stopped", retry=False) from error
            except NoAnswer as error:
                self._reached |= not error.unreachable
                if not error.retry:  # this question is at fault, not the server
                    self._note(answered=True)
                    raise
                if attempt == self._options.retries:
                    self._give_up(error, attempt + 1)
                self._wait(error, attempt)
            else:
                self._note(answered=True)
                return reply
        raise AssertionError("the last attempt returns or raises")

    def _call(self, conversation: Conversation) -> Reply:
        """One call; alone, until a usable answer has come. None once the run is over."""
        if self._usable:
            return self._reply_unless_over(conversation)
        with self._first:
            reply = self._reply_unless_over(conversation)
            if reply.fault and not self._usable:
                self._over = reply.fault
            self._usable |= not reply.fault
            return reply

    def _reply_unless_over(self, conversation: Conversation) -> Reply:
        if self._over:
            raise NoAnswer(f"not asked: {self._over}", retry=False)
        try:
            return self._model.reply(conversation)
        except (NoAnswer, ImageError):
            raise
        except CasError as error:
            self._over = error.problem
            raise

    def _end_if_hopeless(self, course: _Course, reply: Reply) -> None:
        """Raise what is wrong with a response, unless other questions fare better.

        It ends the run where it is the first thing that the server says, or one of several in a
        row. Kept from an earlier run, it does so only where it is of another interface: a question
        that the server cannot answer does not stand in the way of the rest twice.
        """
        if course.cached and (self._options.ask_again or not reply.foreign):
            return
        with self._lock:
            self._faults += 1
            if self._usable and self._faults < _FAULTS:
                return
            self._over = reply.fault
        raise ModelUnavailable(
            f"{self._model.name}: {reply.fault}",
            fix="check the base URL and the server's log; then run the same command again with "
            "--ask-again, since the response is kept and not paid for twice",
        )

    def _wait(self, error: NoAnswer, attempt: int) -> None:
        longest = self._options.longest_wait
        seconds = backoff(attempt, self._options.backoff, longest)
        if error.retry_after is not None:
            seconds = max(seconds, min(error.retry_after, longest))
            self.pacer.hold(min(error.retry_after, longest))
        try:
            self.pacer.sleep(seconds)
        except Stopped:
            raise NoAnswer("the run was stopped", retry=False) from error

    def _give_up(self, error: NoAnswer, calls: int) -> None:
        """Raise the last error of a question, as the end of the run if nobody ever answered."""
        if error.unreachable and not self._reached:
            raise ModelUnavailable(
                f"{self._model.name}: {error.problem}",
                fix="check that the server runs and the base URL (CAS_MLLM_BASE_URL or "
                "OPENAI_BASE_URL)",
            ) from error
        self._note(answered=False)
        times = f" ({calls} calls)" if calls > 1 else ""
        raise NoAnswer(f"{error.problem}{times}", retry=False) from error

    def _note(self, *, answered: bool) -> None:
        with self._lock:
            self._reached |= answered
            self._unanswered = 0 if answered else self._unanswered + 1

    def _refuse_if_hopeless(self) -> None:
        if self._unanswered >= self._options.give_up_after:
            raise NoAnswer(
                f"not asked: {self._unanswered} questions in a row got no answer", retry=False
            )


def _require_unchanged(request: Request, images: list[str]) -> None:
    """The answer is about what was hashed: a model reads the files after that.

    Raises:
        ImageError: One is another since.
    """
    for path, digest in zip(request.images, images, strict=True):
        if sha256_file(path) != digest:
            raise ImageError(
                f"{path}: the file changed while a model was asked about it",
                fix="wait until it is complete, then ask again",
            )


def _spent(reply: Reply) -> str:
    """Why it is no use to ask again: all tokens went into thinking, or into nothing."""
    if not reply.truncated or (spoken(reply.text) and not is_unfinished(reply.text)):
        return ""
    where = f" (in {reply.elsewhere})" if reply.elsewhere else ""
    return f"the limit of tokens was spent before an answer began{where}: raise --max-tokens"


def _judge(request: Request, reply: Reply) -> tuple[object, list[str]]:
    """The value of a reply, or what is wrong with it."""
    if request.yes_no:
        found = read_yes_no(reply)
        return found, [] if found else [ONE_WORD]
    value, complaints = parse(reply.text, request.schema)
    if reply.truncated and (complaints or not is_whole(reply.text)):
        return None, ["it was cut off at the limit of tokens (--max-tokens): answer more briefly"]
    if complaints and reply.elsewhere:
        return None, [f"it is empty: all that was said stands in {reply.elsewhere}"]
    if value is not None and request.check is not None:
        complaints = list(request.check(value))
    return value, complaints


def _complaint(request: Request, complaints: list[str]) -> str:
    lines = "\n".join(f"- {line}" for line in complaints)
    form = "" if request.yes_no else form_in_words(json_schema(request.schema))
    return f"Your answer was not accepted:\n{lines}\nCorrect it. {form}"


def _ended(
    course: _Course, outcome: Outcome, reason: str = "", *, value: object | None = None
) -> Answer:
    return Answer(
        key=course.conversation.request.key,
        outcome=outcome,
        value=value,
        reason=reason,
        text=course.text,
        attempts=course.attempts,
        cached=course.cached and course.attempts > 0,
        usage=course.usage,
        whole_usage=course.whole_usage,
    )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else f"{line[:199]}…"
