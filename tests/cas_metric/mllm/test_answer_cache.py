"""Answers are paid for once: what is kept, and what makes a question another one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import pytest
from tests.support.mllm_server import Say, Status
from tests.support.questions import GOOD, Verdict, ask, request, store_files

from cas_metric.errors import InputError
from cas_metric.images import Window, sha256_file
from cas_metric.mllm import Options, Request, Settings, answer_all, usage_of
from cas_metric.mllm.asking import Asking, put_questions
from cas_metric.mllm.cache import conversation_key
from cas_metric.mllm.types import Conversation, Reply
from cas_metric.mllm.yes_no import YesNo


def test_nothing_is_asked_twice(server, store, photo):
    server.script("question b", Say("nothing"), Say(GOOD))
    server.script("question c", Say("nothing"))
    questions = [request("a", images=(photo,)), request("b"), request("c")]
    first = ask(questions, cache=store)
    paid = len(server.completed)
    assert paid == 1 + 2 + 3
    second = ask(questions, cache=store)
    assert len(server.completed) == paid
    assert [a.cached for a in second] == [True] * 3
    assert [(a.outcome, a.value, a.reason, a.text, a.attempts) for a in first] == [
        (a.outcome, a.value, a.reason, a.text, a.attempts) for a in second
    ]
    assert usage_of(second).input_tokens == 0
    ask(questions, cache=store, options=Options(ask_again=True, backoff=0.001))
    assert len(server.completed) == paid + 3  # only the one that was not accepted


def test_failures_are_not_kept(server, store):
    server.script("question a", Status(500), Status(500), Status(500), Say(GOOD))
    assert ask([request()], cache=store)[0].outcome == "failed"
    assert ask([request()], cache=store)[0].accepted


def test_equal_questions_are_asked_once(server, store):
    answers = ask([request("a"), request("b", prompt="question a")] * 4, cache=store)
    assert all(answer.accepted for answer in answers)
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    "other",
    [
        lambda question, photo: request(system="You judge otherwise."),
        lambda question, photo: request(prompt="question a, again"),
        lambda question, photo: request(images=(photo,)),
        lambda question, photo: request(images=(photo,), captions=("A:",)),
        lambda question, photo: request(schema=Other),
    ],
)
def test_whatever_decides_an_answer_is_in_its_key(
    server, store, photo, other: Callable[[Request, Path], Request]
):
    ask([request()], cache=store)
    ask([other(request(), photo)], cache=store)
    assert len(server.calls) == 2


class Other(Verdict):
    """The same keys and one more."""

    sure: bool | None = None


def test_a_changed_image_or_parameter_is_another_question(server, store, photo):
    question = request(images=(photo,))
    ask([question], cache=store)
    photo.write_bytes(photo.read_bytes() + b"\0")
    ask([question], cache=store)
    assert len(server.calls) == 2
    ask([question], cache=store, settings=Settings(timeout=1))  # decides no answer
    assert len(server.calls) == 2
    ask([question], cache=store, settings=Settings(temperature=0.5))
    assert len(server.calls) == 3


def test_a_damaged_entry_is_asked_for_again(server, store):
    ask([request()], cache=store)
    (file,) = store_files(store)
    file.write_bytes(file.read_bytes()[:20])
    assert ask([request()], cache=store)[0].accepted
    assert len(server.calls) == 2
    assert ask([request()], cache=store)[0].cached


def test_where_answers_cannot_be_kept_nothing_is_asked(server, tmp_path):
    """A file in the way stands for a read-only folder, in which root may write all the same."""
    taken = tmp_path / "cache"
    taken.touch()
    asking = Asking("openai:m", cache=str(taken))
    with pytest.raises(InputError, match="cannot be written to") as caught:
        put_questions([request()], asking)
    assert "--cache" in caught.value.fix
    assert not server.calls


def test_windows_that_differ_in_their_last_digits_and_readings_are_other_questions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def key(window: Window | None = None, images: tuple[str, ...] = ("ab",)) -> str:
        return conversation_key({}, Conversation(request(window=window)), images)

    windows = [Window(1e7, 1e7 + 10), Window(1e7, 1e7 + 20), Window(1e7 + 1, 1e7 + 20), None]
    keys, of_text = {key(window) for window in windows}, key(images=())
    assert len(keys) == 4
    monkeypatch.setattr("cas_metric.mllm.cache.READING", 2)
    assert not keys & {key(window) for window in windows}
    assert key(images=()) == of_text


class Plain:
    """A model that reads the file when it is asked; something may happen to it just before."""

    name, concurrent, notes = "reader", False, ()
    identity: ClassVar[dict[str, str]] = {"model": "reader"}

    def __init__(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        self.calls = 0
        self._meanwhile = meanwhile

    def reply(self, conversation: Conversation) -> Reply:
        self.calls += 1
        self._meanwhile()
        share = len(conversation.request.images[0].read_bytes()) / 1e6
        return Reply("", shares=(share, 1 - share), shares_from="logits")


class Batched(Plain):
    """One that answers many questions at once."""

    def replies(self, requests: Sequence[Request]) -> list[Reply]:
        return [self.reply(Conversation(one)) for one in requests]


def test_an_answer_about_another_picture_is_not_kept(store, photo):
    old = photo.read_bytes()
    question = request(images=(photo,), schema=YesNo, yes_no=True)
    (answer,) = answer_all([question], Plain(lambda: photo.write_bytes(old + b"1")), cache=store)
    assert (answer.outcome, store_files(store)) == ("failed", [])
    assert "changed while a model was asked about it" in answer.reason
    photo.write_bytes(old)
    (answer,) = answer_all([question], Plain(), cache=store)
    assert answer.value.p_yes == pytest.approx(len(old) / 1e6)


def test_what_was_accepted_is_not_computed_again(store, photo):
    model, again = Batched(), Options(ask_again=True)
    questions = [request(str(n), images=(photo,), schema=YesNo, yes_no=True) for n in range(5)]
    answer_all(questions[:3], model, cache=store)
    answers = answer_all(questions, model, cache=store, options=again)
    assert all(answer.accepted for answer in answers)
    assert model.calls == 5
    key = conversation_key(model.identity, Conversation(questions[0]), [sha256_file(photo)])
    store.put(key, Reply("", refusal="I may not"))
    assert answer_all(questions, model, cache=store, options=again)[0].accepted
    assert model.calls == 6
