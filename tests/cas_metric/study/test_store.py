"""Answers, drafts and the end, against the rules of a strict ranking."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.studies import Study, opened_study

from cas_metric.errors import CasError
from cas_metric.study.store import CANNOT_JUDGE, RANKED, Answer, Closed, Draft, Rater, Refused
from cas_metric.study.wording import Wording

GOOD = {1: 2, 2: 1, 3: 3}


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Study]:
    with opened_study(tmp_path, cases=3) as opened:
        yield opened


def rater_of(study: Study, number: int = 0) -> Rater:
    rater = study.store.rater(study.links[number].token)
    assert rater is not None
    return rater


def answer(
    name: str = "submission-1", ranks: dict[int, int] | None = None, **more: object
) -> Answer:
    return Answer(name, str(more.pop("verdict", RANKED)), GOOD if ranks is None else ranks, **more)  # type: ignore[arg-type]


def test_an_answer_is_shown_again_and_belongs_to_its_rater_alone(study: Study) -> None:
    first, second = rater_of(study, 0), rater_of(study, 1)
    study.store.submit(first, 1, answer(note="hm", seconds=3.5))
    view = study.store.open_case(first, 1)
    assert (view.ranks, view.note, view.seconds, view.verdict, view.revision) == (
        *(GOOD, "hm", 3.5, RANKED, 1),
    )
    assert study.store.progress(first).states == (RANKED, "open", "open")
    assert study.store.progress(second).states == ("open",) * 3
    assert study.store.open_case(second, 1).ranks == {}


def test_the_same_submission_twice_changes_nothing(study: Study) -> None:
    rater = rater_of(study)
    assert study.store.submit(rater, 1, answer("submission-1"))
    other = {1: 1, 2: 2, 3: 3}
    assert study.store.submit(rater, 1, answer("submission-2", other))
    # A late repetition of the first must not undo the second.
    assert not study.store.submit(rater, 1, answer("submission-1"))
    assert study.store.open_case(rater, 1).ranks == other
    (count,) = (
        study.store.database.connection().execute("SELECT count(*) FROM submissions").fetchone()
    )
    assert count == 2


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    """One study for all examples of a property."""
    with opened_study(tmp_path_factory.mktemp("shared"), cases=1) as opened:
        yield opened


@settings(deadline=None)
@given(
    st.permutations([1, 2, 3]).map(lambda order: dict(enumerate(order, 1)))
    | st.dictionaries(st.integers(-1, 5), st.integers(-1, 5), max_size=5)
)
def test_only_permutations_are_rankings(shared: Study, ranks: dict[int, int]) -> None:
    valid = sorted(ranks) == [1, 2, 3] and sorted(ranks.values()) == [1, 2, 3]
    rater = rater_of(shared)
    try:
        shared.store.submit(rater, 1, answer(secrets.token_hex(8), ranks))
        accepted = True
    except Refused:
        accepted = False
    assert accepted == valid
    if valid:
        assert shared.store.open_case(rater, 1).ranks == ranks


def test_the_database_itself_refuses_equal_ranks(study: Study) -> None:
    study.store.submit(rater_of(study), 1, answer())
    with pytest.raises(sqlite3.IntegrityError), study.store.database.writing() as db:
        db.execute("UPDATE ranks SET rank = 1")


def test_cases_open_in_their_order(study: Study) -> None:
    rater = rater_of(study)
    assert study.store.open_case(rater, 2) is None
    with pytest.raises(Refused, match="not open yet"):
        study.store.submit(rater, 2, answer())
    study.store.submit(rater, 1, answer())
    assert study.store.open_case(rater, 2) is not None
    assert study.store.open_case(rater, 99) is None


def test_drafts_come_back_and_are_replaced_by_the_answer(study: Study) -> None:
    rater = rater_of(study)
    keep = {"note": "", "seconds": 1.0}
    assert study.store.save_draft(rater, 1, Draft(ranks={3: 1}, revision=0, **keep))
    assert study.store.open_case(rater, 1).ranks == {3: 1}
    assert study.store.progress(rater).states[0] == "draft"
    study.store.submit(rater, 1, answer())
    assert study.store.open_case(rater, 1).ranks == GOOD
    # This one was on its way when the answer was given.
    assert not study.store.save_draft(rater, 1, Draft(ranks={3: 1}, revision=0, **keep))
    assert study.store.open_case(rater, 1).ranks == GOOD
    # This one is the beginning of a revision; the answer still counts.
    assert study.store.save_draft(rater, 1, Draft(ranks={3: 1}, revision=1, **keep))
    assert study.store.open_case(rater, 1).ranks == {3: 1}
    assert study.store.progress(rater).states[0] == RANKED
    with pytest.raises(Refused, match="same rank"):
        study.store.save_draft(rater, 1, Draft(ranks={3: 1, 2: 1}, revision=1, **keep))


def test_cannot_judge_needs_no_ranks_and_can_be_revised(study: Study) -> None:
    rater = rater_of(study)
    study.store.submit(rater, 1, answer("unjudged-1", {}, verdict=CANNOT_JUDGE, note="blank"))
    assert study.store.progress(rater).states[0] == CANNOT_JUDGE
    study.store.submit(rater, 1, answer("judged-0002"))
    view = study.store.open_case(rater, 1)
    assert (view.verdict, view.revision) == (RANKED, 2)


def test_after_the_end_nothing_changes(study: Study) -> None:
    rater = rater_of(study)
    for number in (1, 2, 3):
        with pytest.raises(Refused, match="no answer yet"):
            study.store.finish(rater)
        study.store.submit(rater, number, answer(f"submission-{number}"))
    study.store.finish(rater)
    assert rater_of(study).finished
    with pytest.raises(Closed):
        study.store.submit(rater, 1, answer("submission-9"))
    with pytest.raises(Closed):
        study.store.save_draft(rater, 1, Draft(ranks={}, note="", seconds=0, revision=1))
    assert not study.store.submit(rater, 1, answer("submission-1"))  # a repetition is no change
    study.store.finish(rater)


@pytest.mark.parametrize("seconds", [float("nan"), -5.0, 1e12])
def test_impossible_durations_are_bounded(study: Study, seconds: float) -> None:
    rater = rater_of(study)
    study.store.submit(rater, 1, answer(seconds=seconds))
    assert 0 <= study.store.open_case(rater, 1).seconds <= 86_400


@pytest.mark.parametrize("name", ["", "short", "x" * 65, "has space 1", "semi;colon"])
def test_strange_submission_numbers_are_refused(study: Study, name: str) -> None:
    with pytest.raises(Refused):
        study.store.submit(rater_of(study), 1, answer(name))


def test_a_full_disk_is_said_and_the_next_answer_is_stored(study: Study) -> None:
    database = study.store.database.connection()
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count = {pages}")
    texts = Wording(title="t", instruction="i", digest="d")
    with pytest.raises(CasError, match="cannot be written"):
        study.store.remember_wording(texts, "x" * 100_000)
    database.execute(f"PRAGMA max_page_count = {pages + 100}")
    study.store.remember_wording(texts, "x" * 100_000)
