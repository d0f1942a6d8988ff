"""JSON out of whatever a model says: what is there is found, and nothing is made up."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from cas_metric.mllm.extraction import Malformed, extract_object, is_refusal, parse
from cas_metric.mllm.pacing import Pacer, backoff, retry_after
from cas_metric.mllm.schemas import json_schema

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=8), VALUES, max_size=4)
#: Talk around an answer; a brace would begin an object of its own.
PROSE = st.text(max_size=40).filter(lambda text: "{" not in text)


@settings(deadline=None)
@given(value=OBJECTS, before=PROSE, after=PROSE, ascii_only=st.booleans(), fence=st.booleans())
def test_an_object_is_found_in_any_prose(value, before, after, ascii_only, fence):
    said = json.dumps(value, ensure_ascii=ascii_only, indent=2 if fence else None)
    said = f"```json\n{said}\n```" if fence else said
    assert extract_object(f"{before}{said}{after}") == value


@settings(deadline=None)
@given(text=st.text(max_size=200) | st.text(alphabet='{}[]":,\\a1 ', max_size=200))
def test_any_text_gives_an_object_or_a_complaint(text):
    value, complaints = parse(text, Anything)
    assert (value is None) == bool(complaints)


@settings(deadline=None)
@given(first=OBJECTS, second=OBJECTS)
def test_of_two_objects_none_is_chosen(first, second):
    said = f"{json.dumps(first)} or {json.dumps(second)}"
    if first == second:
        assert extract_object(said) == first
    else:
        with pytest.raises(Malformed, match="different"):
            extract_object(said)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "empty"),
        ("<think>perhaps {}</think>", "empty"),
        ("yes", "no JSON object"),
        ('{"a": 1', "no JSON object"),
        ("[1, 2]", "no JSON object"),
        ('{"a": 1, "a": 2}', "a key twice"),
        ('{"a": NaN}', "NaN"),
        ('{"a": -Infinity}', "Infinity"),
        ("{'a': 1}", "no JSON object"),
        ('{"a":' * 100_000, "longer than"),
        ('{"a":' * 15_000 + "1" + "}" * 15_000, "nested too deep"),
        ('{"a": {"b": 1}', "no JSON object"),  # the inner one is no answer
        ('{verdict: {"b": 1}}', "no JSON object"),
    ],
)
def test_complaints(text, complaint):
    with pytest.raises(Malformed, match=complaint):
        extract_object(text)


def test_drafts_of_a_reasoning_model_do_not_count():
    said = '<think>maybe {"a": 1}, no</think>\nHere: {"a": 2}'
    assert extract_object(said) == {"a": 2}


class Anything(BaseModel):
    pass


class Inner(BaseModel):
    note: str | None = None


class Outer(BaseModel):
    title: str
    inner: list[Inner] = []


def test_every_fault_is_named():
    value, complaints = parse('{"inner": [{"note": 3}]}', Outer)
    assert value is None
    assert complaints == [
        "title: Field required",
        "inner.0.note: Input should be a valid string",
    ]


def test_schemas_are_closed_and_complete():
    schema = json_schema(Outer)
    assert schema["required"] == ["title", "inner"]  # a property may be called title
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["Inner"]["required"] == ["note"]
    assert "default" not in json.dumps(schema)


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("I'm sorry, but I can't assist with that request.", True),
        ("As an AI language model, I do not diagnose.", True),
        ("I am unable to analyze medical images.", True),
        ("Unfortunately I cannot provide a diagnosis.", True),
        ('{"why": "I cannot describe more"}', False),
        ("clear lungs", False),
        ("The lungs are clear. " * 20 + "I cannot help.", False),
    ],
)
def test_refusals(text, refused):
    assert is_refusal(text) is refused


class TestPacing:
    def test_calls_are_spaced_evenly_and_held_for_all(self):
        now = [100.0]
        pacer = Pacer(30, clock=lambda: now[0])
        assert [pacer.book() for _ in range(3)] == [0.0, 2.0, 4.0]
        now[0] = 150.0
        assert pacer.book() == 0.0
        pacer.hold(10)
        assert [pacer.book() for _ in range(2)] == [10.0, 12.0]

    @given(attempt=st.integers(0, 10_000), draw=st.floats(0, 1, exclude_max=True))
    def test_back_off_doubles_and_is_bounded(self, attempt, draw):
        seconds = backoff(attempt, 1.0, 60.0, lambda: draw)
        whole = min(60.0, 2.0 ** min(attempt, 20))
        assert whole / 2 <= seconds <= whole

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            ("3", 3.0),
            ("0.5", 0.5),
            ("-1", 0.0),
            ("Wed, 21 Oct 2026 07:28:10 GMT", 10.0),
            ("Wed, 21 Oct 2026 07:27:00 GMT", 0.0),
            ("soon", None),
            ("nan", None),
            ("inf", None),
            ("", None),
            (None, None),
        ],
    )
    def test_retry_after(self, value, seconds):
        now = datetime(2026, 10, 21, 7, 28, tzinfo=UTC)
        assert retry_after(value, lambda: now) == seconds
