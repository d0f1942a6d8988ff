"""Answers that were given or corrected in REDCap, back into the study.

A table that REDCap exports (raw values, not labels) from a project made of the study's codebook.
Everything is checked before anything is stored, and all of it is stored or nothing. A row becomes
a further revision of its case, as if its rater had answered again; one that says what the study
knows already changes nothing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cas_metric.errors import InputError, PreflightError
from cas_metric.study import answers
from cas_metric.study.answers import CANNOT_JUDGE, RANKED, Answer, Refused
from cas_metric.study.design import competition_ranks
from cas_metric.study.formulas import unguarded
from cas_metric.study.redcap import VERDICTS
from cas_metric.study.store import Store
from cas_metric.study.views import Rated
from cas_metric.tables import read_table

_NEEDED: Final = ("rater", "case_number", "case_key", "verdict")


@dataclass(frozen=True)
class Imported:
    """What became of a table's rows.

    Attributes:
        changed: Answers that were added, as ``record_id`` of the rows.
        unchanged: Rows that say what the study knew.
        unanswered: Rows without an answer, which are passed over.
    """

    changed: tuple[str, ...]
    unchanged: int
    unanswered: int


def import_redcap(store: Store, path: Path) -> Imported:
    """Store the answers of a table.

    Args:
        store: The study; the server may keep running.
        path: Records as ``cas study export --redcap`` writes them and REDCap exports them; columns
            that REDCap adds are passed over.

    Raises:
        InputError: The table cannot be read or lacks columns.
        PreflightError: Rows that are no answers of this study; all are listed.
    """
    table = read_table(path)
    if lacking := [name for name in _NEEDED if name not in table.columns]:
        raise InputError(
            f"{path} has no column {', '.join(lacking)}",
            fix="give the table of `cas study export --redcap`, or REDCap's export of its project",
        )
    rows = [
        {name: unguarded(cells[place]) for name, cells in table.columns.items()}
        for place in range(len(table.places))
    ]
    methods = store.methods()
    with store.database.writing() as db:
        read = [_Row(db, store, methods, row) for row in rows]
        problems = [
            f"{place}: {problem}"
            for place, row in zip(table.places, read, strict=True)
            for problem in row.problems
        ]
        seen: dict[tuple[int, int], str] = {}
        for place, row in zip(table.places, read, strict=True):
            first = seen.setdefault((row.rater, row.number), place)
            if first != place:
                problems.append(f"{place}: the same rater and case as {first}")
        if problems:
            raise PreflightError(
                problems, fix="correct these rows; nothing was imported. Raw values, not labels"
            )
        changed = [row.store(db) for row in read if row.answer is not None]
    names = tuple(name for name in changed if name)
    return Imported(names, len(changed) - len(names), len(read) - len(changed))


class _Row:
    """A row of the table, held against the study.

    Attributes:
        rater: Id of the rater, 0 for an unknown one.
        number: Place of the case in their order.
        answer: What it says; None where it says nothing or is wrong.
        problems: What is wrong with it.
    """

    def __init__(
        self, db: sqlite3.Connection, store: Store, methods: list[str], row: Mapping[str, str]
    ) -> None:
        self.rater = self.number = self._case = 0
        self.answer: Answer | None = None
        self.problems: list[str] = []
        self._ties = store.design.ties
        try:
            self._find(db, row)
            self._read(db, store, methods, row)
        except (Refused, InputError) as error:
            self.problems.append(error.problem)

    def _find(self, db: sqlite3.Connection, row: Mapping[str, str]) -> None:
        """The rater and the case, and whether an answer may be given."""
        found = db.execute(
            "SELECT id, finished_at FROM raters WHERE name = ?", (row["rater"],)
        ).fetchone()
        if found is None:
            raise InputError(f"no rater is called {row['rater']!r}")
        self.rater, self.number = found["id"], _whole(row, "case_number") or 0
        case = db.execute(
            'SELECT c.id, coalesce(c.origin, c.key) AS "key" FROM assignments a'
            " JOIN cases c ON c.id = a.case_id WHERE a.rater_id = ? AND a.number = ?",
            (self.rater, self.number),
        ).fetchone()
        if case is None:
            raise InputError(f"{row['rater']} has no case {row['case_number']!r}")
        if case["key"] != row["case_key"]:
            raise InputError(
                f"case {self.number} of {row['rater']} is {case['key']!r}, not {row['case_key']!r}"
            )
        self._case = case["id"]
        self._finished = found["finished_at"] is not None
        self._name = row.get("record_id") or f"{row['rater']}, case {self.number}"

    def _read(
        self, db: sqlite3.Connection, store: Store, methods: list[str], row: Mapping[str, str]
    ) -> None:
        codes = {str(code): verdict for verdict, code in VERDICTS.items()}
        verdict = codes.get(row["verdict"].removesuffix(".0") or "0")
        if verdict is None:
            raise InputError(f"verdict {row['verdict']!r} is not one of {', '.join(codes)}")
        if verdict not in (RANKED, CANNOT_JUDGE):
            return
        places = _places(db, self.rater, self._case)
        ranks: dict[int, int] = {}
        ratings: dict[Rated, int] = {}
        for number, method in enumerate(methods, 1):
            place = places.get(method)
            if place is None:
                continue
            told = _whole(row, f"position_{number}")
            if told is not None and told != place:
                raise InputError(f"position_{number} is {told}, and {method} was shown at {place}")
            if (rank := _whole(row, f"rank_{number}")) is not None:
                ranks[place] = rank
            for question in store.design.questions:
                value = _whole(row, f"{question.key}_{number}")
                if value is not None:
                    ratings[place, question.key] = value
        if verdict == RANKED:
            if not places:
                raise InputError("this case has not been opened, so no images of it were shown")
            answers.check(store.design, ranks, ratings, len(places), complete=True)
            ranks = competition_ranks(ranks) if self._ties else ranks
        known = current(db, self.rater, self._case)
        answer = Answer(
            submission="",
            verdict=verdict,
            ranks=ranks if verdict == RANKED else {},
            note=row.get("note", ""),
            seconds=_number(row.get("seconds", "")),
            wording=known["wording"] if known else _wording(db),
            ratings=ratings if verdict == RANKED else {},
            reason=row.get("reason", ""),
        )
        self._same = known is not None and _said(answer) == known["said"]
        if self._finished and not self._same:
            raise InputError(f"{row['rater']} has finished; nothing can be changed any more")
        self.answer = answer

    def store(self, db: sqlite3.Connection) -> str:
        """Add the answer; the name of the record, empty where nothing is new."""
        assert self.answer is not None
        if self._same:
            return ""
        revision = answers.revision_of(db, self.rater, self._case)
        told = json.dumps([self._case, revision, _said(self.answer)], sort_keys=True)
        submission = f"redcap-{hashlib.sha256(told.encode()).hexdigest()[:40]}"
        answer = dataclasses.replace(self.answer, submission=submission)
        answers.store_answer(db, self.rater, self._case, answer, ties=self._ties)
        return self._name


def current(db: sqlite3.Connection, rater: int, case: int) -> dict[str, Any] | None:
    """The answer that counts; None where there is none."""
    row = db.execute(
        "SELECT s.* FROM answers n JOIN submissions s ON s.id = n.submission_id"
        " WHERE n.rater_id = ? AND n.case_id = ?",
        (rater, case),
    ).fetchone()
    if row is None:
        return None
    joined = (
        "SELECT p.place, t.* FROM {} t JOIN places p ON p.candidate_id = t.candidate_id"
        " AND p.rater_id = ? AND p.case_id = ? WHERE t.submission_id = ?"
    )
    given = (rater, case, row["id"])
    ranks = {one["place"]: one["rank"] for one in db.execute(joined.format("ranks"), given)}
    ratings = {
        (one["place"], one["item"]): one["value"]
        for one in db.execute(joined.format("ratings"), given)
    }
    answer = Answer(
        "", row["verdict"], ranks, note=row["note"], ratings=ratings, reason=row["reason"]
    )
    return {"wording": row["wording"], "said": _said(answer)}


def _said(answer: Answer) -> list[Any]:
    """What two equal answers have in common; times and page are not part of it."""
    ratings = sorted([place, item, value] for (place, item), value in answer.ratings.items())
    return [answer.verdict, sorted(map(list, answer.ranks.items())), answer.note.strip(),
            ratings, answer.reason.strip()]  # fmt: skip


def _places(db: sqlite3.Connection, rater: int, case: int) -> dict[str, int]:
    """Method to the place at which its image was shown."""
    rows = db.execute(
        "SELECT k.method, p.place FROM places p JOIN candidates k ON k.id = p.candidate_id"
        " WHERE p.rater_id = ? AND p.case_id = ?",
        (rater, case),
    )
    return {row["method"]: row["place"] for row in rows}


def _wording(db: sqlite3.Connection) -> str:
    """Digest of the texts that were served last; empty where none were."""
    row = db.execute("SELECT digest FROM wordings ORDER BY served_at DESC LIMIT 1").fetchone()
    return str(row["digest"]) if row else ""


def _whole(row: Mapping[str, str], name: str) -> int | None:
    """A whole number, which spreadsheets may have written as ``2.0``; None where it is empty."""
    text = row.get(name, "").strip().removesuffix(".0")
    if not text:
        return None
    if not text.isascii() or not text.isdecimal():
        raise InputError(f"{name} is {row[name]!r}, which is no whole number")
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text or 0)
    except ValueError:
        raise InputError(f"seconds is {text!r}, which is no number") from None
