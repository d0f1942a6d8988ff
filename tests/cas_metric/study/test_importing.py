"""Answers that went through REDCap come back as they are, or not at all."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pandas as pd
import pytest
from tests.support.studies import Study, opened_study

from cas_metric.errors import InputError, PreflightError
from cas_metric.study import Design
from cas_metric.study.redcap import records
from cas_metric.study.results import details, ratings, revisions
from cas_metric.study.store import CANNOT_JUDGE, RANKED, Answer
from cas_metric.verbs.study import export, import_answers
from cas_metric.verbs.study_export import _csv

TIES = Design(ties=True, points=5, items=("Realism",))


def answer(study: Study, rater: int, number: int, ranks: dict[int, int], **rest: object) -> None:
    who = study.store.rater(study.links[rater].token)
    rated = {(place, "item1"): place for place in (1, 2, 3)} if ranks else {}
    verdict = RANKED if ranks else CANNOT_JUDGE
    study.store.open_case(who, number)
    name = f"submission-{rater}-{number}"
    study.store.submit(who, number, Answer(name, verdict, ranks, ratings=rated, **rest))


def table(study: Study) -> pd.DataFrame:
    store = study.store
    return records(details(store), ratings(store), store.methods())


def send(study: Study, frame: pd.DataFrame, path: Path) -> dict:
    path.write_bytes(_csv(frame))
    return import_answers(study.store.folder, path).summary


def test_what_was_exported_changes_nothing(tmp_path: Path) -> None:
    with opened_study(tmp_path, cases=3, design=TIES) as study:
        answer(study, 0, 1, {1: 1, 2: 1, 3: 3}, note="=1+1")
        answer(study, 0, 2, {}, reason="blank")
        before = table(study)
        found = send(study, before, tmp_path / "r.csv")
        assert (found["changed"], found["unchanged"], found["unanswered"]) == ([], 2, 4)
        pd.testing.assert_frame_equal(table(study), before)
        assert set(revisions(study.store)["revision"]) == {1}


@pytest.mark.parametrize("text", ["=1+1", "'=1+1", "''-x", "'fine'", "@you, me", '+\n"a"', "'"])
def test_no_text_is_a_formula_and_all_come_back_exactly(tmp_path: Path, text: str) -> None:
    with opened_study(tmp_path, cases=2, raters=1, design=TIES) as study:
        answer(study, 0, 1, {1: 1, 2: 1, 3: 3}, note=text)
        answer(study, 0, 2, {}, reason=text, note=text)
        before = table(study)
        for frame in (before, revisions(study.store)):
            cells = [one for row in csv.reader(io.StringIO(_csv(frame).decode())) for one in row]
            assert not [one for one in cells if one[:1] in ("=", "+", "-", "@")]
        assert send(study, before, tmp_path / "r.csv")["unchanged"] == 2
        edited = before.assign(kind=1, reason=before["reason"])
        edited.loc[1, "note"] = "another"
        assert send(study, edited, tmp_path / "r.csv")["changed"] == ["1-2"]
        stored = study.store.database.connection().execute(
            "SELECT DISTINCT reason FROM submissions"
        )
        assert {row["reason"] for row in stored} == {"", text}


def test_names_are_no_formulas_either_and_are_found_again(tmp_path: Path) -> None:
    name = '=HYPERLINK("http://evil","x")'
    with opened_study(tmp_path, cases=2, raters=[name], design=TIES) as study:
        answer(study, 0, 1, {1: 1, 2: 2, 3: 3})
        out = tmp_path / "rankings.csv"
        for _ in range(2):  # an earlier export is known again
            export(study.store.folder, out, redcap=True)
        files = sorted(tmp_path.glob("rankings*.csv"))
        assert len(files) == 6
        for file in files:
            cells = [one for row in csv.reader(io.StringIO(file.read_text())) for one in row]
            assert not [one for one in cells if one.startswith(tuple("=+-@"))], file
        again = import_answers(study.store.folder, tmp_path / "rankings-redcap.csv").summary
        assert (again["changed"], again["unchanged"]) == ([], 1)


def test_a_correction_is_a_further_revision_and_comes_out_again(tmp_path: Path) -> None:
    with opened_study(tmp_path, cases=3, design=TIES) as study:
        answer(study, 0, 1, {1: 1, 2: 2, 3: 3})
        answer(study, 0, 2, {}, reason="blank")
        edited = table(study)
        # As REDCap gives it back: text, a column of its own, and two records changed.
        edited = edited.astype(object).where(edited.notna(), "")
        edited["reader_study_complete"] = 2
        ranks, marks = ["rank_1", "rank_2", "rank_3"], ["item1_1", "item1_2", "item1_3"]
        edited.loc[0, [*ranks, *marks, "note"]] = [3, 1, 1, 5, 4, 3, "second look"]
        edited.loc[1, ["verdict", "reason"]] = [1, ""]
        edited.loc[1, [*ranks, *marks]] = [1, 2, 3, 1, 1, 1]
        found = send(study, edited, tmp_path / "r.csv")
        assert found["changed"] == ["1-1", "1-2"]
        after = table(study).astype(object)
        shared = [*ranks, *marks, "note", "verdict", "reason", "rater", "case_key"]
        for row in (0, 1):
            assert after.loc[row, shared].tolist() == edited.loc[row, shared].tolist()
        assert after["revision"].tolist()[:3] == [2, 2, 0]
        assert send(study, edited, tmp_path / "r.csv")["changed"] == []  # twice is once
        edited.loc[0, ranks] = [1, 2, 3]
        assert send(study, edited, tmp_path / "r.csv")["changed"] == ["1-1"]
        edited.loc[0, ranks] = [3, 1, 1]  # back to what it said before
        assert send(study, edited, tmp_path / "r.csv")["changed"] == ["1-1"]
        assert table(study)["revision"].tolist()[:2] == [4, 2]


#: Column, what stands there, and what is said.
WRONG = (
    ("rater", "nobody", "no rater is called 'nobody'"),
    ("case_number", "9", "has no case '9'"),
    ("case_key", "case-999", "not 'case-999'"),
    ("verdict", "ranked", "verdict 'ranked' is not one of"),
    ("rank_1", "first", "rank_1 is 'first'"),
    ("rank_1", "", "1 image still without a rank"),
    ("rank_1", "7", "a rank that does not exist"),
    ("position_1", "9", "position_1 is 9"),
    ("item1_2", "6", "a rating that does not exist"),
    ("seconds", "long", "seconds is 'long'"),
)


def test_one_wrong_row_keeps_all_out(tmp_path: Path) -> None:
    with opened_study(tmp_path, cases=2, design=TIES) as study:
        answer(study, 0, 1, {1: 1, 2: 2, 3: 3})
        answer(study, 0, 2, {1: 1, 2: 2, 3: 3})
        right = table(study).astype(object)
        right = right.where(right.notna(), "")
        right.loc[0, "note"] = "a good change"
        for column, value, told in WRONG:
            edited = right.copy()
            edited.loc[1, column] = value
            with pytest.raises(PreflightError) as caught:
                send(study, edited, tmp_path / "r.csv")
            assert [one for one in caught.value.problems if told in one and "line 3" in one]
        assert set(revisions(study.store)["revision"]) == {1}


def test_strict_ranks_twice_and_finished_raters(tmp_path: Path) -> None:
    with opened_study(tmp_path, cases=1, raters=2) as study:
        study.store.open_case(who := study.store.rater(study.links[0].token), 1)
        study.store.submit(who, 1, Answer("submission-1", RANKED, {1: 1, 2: 2, 3: 3}))
        edited = table(study).astype(object)
        tied = edited.where(edited.notna(), "")
        tied.loc[0, ["rank_1", "rank_2", "rank_3"]] = 1
        with pytest.raises(PreflightError, match="same rank"):
            send(study, tied, tmp_path / "r.csv")
        with pytest.raises(PreflightError, match="the same rater and case as line 2"):
            send(study, pd.concat([edited[:1]] * 2), tmp_path / "r.csv")
        study.store.finish(who)
        assert send(study, edited, tmp_path / "r.csv")["unchanged"] == 1
        edited.loc[0, "note"] = "too late"
        with pytest.raises(PreflightError, match="has finished"):
            send(study, edited, tmp_path / "r.csv")
        with pytest.raises(InputError, match="no column verdict"):
            send(study, edited.drop(columns="verdict"), tmp_path / "r.csv")
