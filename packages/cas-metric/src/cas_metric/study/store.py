"""What one rater may see and do: cases in their order, drafts, answers, the end."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

from cas_metric.study import answers, views
from cas_metric.study.answers import CANNOT_JUDGE, RANKED, Answer, Closed, Conflict, Draft, Refused
from cas_metric.study.design import PAIRS, Design
from cas_metric.study.orders import PRACTICE
from cas_metric.study.pairs import show_pair
from cas_metric.study.schema import FILE_NAME, Database, now, open_database
from cas_metric.study.views import CaseView
from cas_metric.study.wording import Wording

__all__ = [
    "CANNOT_JUDGE",
    "RANKED",
    "Answer",
    "CaseView",
    "Closed",
    "Conflict",
    "Draft",
    "Progress",
    "Rater",
    "Refused",
    "Store",
    "hash_token",
    "open_study",
]

#: Whoever gave no answer for so long has rested.
REST_SECONDS: Final = 1800
#: State of a case for its rater.
State = Literal["ranked", "cannot-judge", "draft", "open"]


@dataclass(frozen=True)
class Rater:
    """Who holds a link."""

    id: int
    name: str
    finished: bool


@dataclass(frozen=True)
class Progress:
    """How far a rater is.

    Attributes:
        states: Of every case, in the rater's order.
        practice: How many of the first cases do not count.
    """

    states: tuple[State, ...]
    practice: int = 0

    @property
    def total(self) -> int:
        """Cases."""
        return len(self.states)

    @property
    def answered(self) -> int:
        """Cases with an answer."""
        return sum(state in (RANKED, CANNOT_JUDGE) for state in self.states)

    @property
    def frontier(self) -> int:
        """Number of the first case without an answer; ``total + 1`` when there is none.

        Cases are answered in order, so that no later one may be seen yet.
        """
        waiting = (i for i, state in enumerate(self.states, 1) if state in ("draft", "open"))
        return next(waiting, self.total + 1)


def hash_token(token: str) -> str:
    """What is stored of a link's token. It has 256 random bits, so a plain hash suffices."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def open_study(folder: Path) -> Store:
    """The study in ``folder``.

    Raises:
        InputError: There is none.
    """
    return Store(folder, open_database(folder / FILE_NAME))


class Store:
    """The raters' side of a study."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder = folder
        self.database = database

    def close(self) -> None:
        """Close all connections."""
        self.database.close()

    def settings(self) -> dict[str, Any]:
        """What was decided at creation."""
        rows = self.database.connection().execute("SELECT key, value FROM study")
        return {row["key"]: json.loads(row["value"]) for row in rows}

    @cached_property
    def design(self) -> Design:
        """How the study asks; decided at creation."""
        return Design.of(self.settings())

    def images(self) -> frozenset[str]:
        """Names of all copies: the only files that are ever handed out."""
        rows = self.database.connection().execute(
            "SELECT image FROM candidates UNION"
            " SELECT reference FROM cases WHERE reference IS NOT NULL"
        )
        return frozenset(row["image"] for row in rows)

    def methods(self) -> list[str]:
        """Names of all methods, sorted: for whoever runs the study alone."""
        rows = self.database.connection().execute(
            "SELECT DISTINCT method FROM candidates ORDER BY 1"
        )
        return [row["method"] for row in rows]

    def remember_wording(self, wording: Wording, content: str) -> None:
        """Keep the texts that are being served, so that the export can name them."""
        with self.database.writing() as db:
            db.execute(
                "INSERT OR IGNORE INTO wordings VALUES (?, ?, ?)", (wording.digest, content, now())
            )

    def rater(self, token: str) -> Rater | None:
        """Whose link this is; None for a forged or revoked one."""
        row = (
            self.database.connection()
            .execute(
                "SELECT id, name, finished_at FROM raters WHERE token_hash = ?",
                (hash_token(token),),
            )
            .fetchone()
        )
        return (
            None if row is None else Rater(row["id"], row["name"], row["finished_at"] is not None)
        )

    def progress(self, rater: Rater) -> Progress:
        """State of every case, in the rater's order."""
        return _progress(self.database.connection(), rater.id)

    def open_case(self, rater: Rater, number: int) -> CaseView | None:
        """A case to show; None if there is no such number, or its turn has not come."""
        with self.database.reading() as db:
            case = self._reachable(db, rater, number)
            if case is None:
                return None
            if case["opened_at"] is not None:
                return views.case_view(db, rater.id, case)
        with self.database.writing() as db:
            if self.design.layout == PAIRS:
                show_pair(db, rater.id, case, self.settings()["seed"])
            db.execute(
                "UPDATE assignments SET opened_at = ?"
                " WHERE rater_id = ? AND number = ? AND opened_at IS NULL",
                (now(), rater.id, number),
            )
            return views.case_view(db, rater.id, case)

    def _reachable(self, db: sqlite3.Connection, rater: Rater, number: int) -> sqlite3.Row | None:
        if not 1 <= number <= _progress(db, rater.id).frontier:
            return None
        return views.case_row(db, rater.id, number)

    def save_draft(self, rater: Rater, number: int, draft: Draft) -> bool:
        """Keep an unfinished answer.

        Returns:
            False if it was not kept: an answer had overtaken it, which happens when a request is
            slow, or another page has written a draft that this one has not seen.

        Raises:
            Refused: Impossible ranks or ratings, or no such case.
            Closed: The rater has finished.
        """
        with self.database.writing() as db:
            case, size = self._writable(db, rater.id, number)
            answers.check(self.design, draft.ranks, draft.ratings, size, complete=False)
            return answers.store_draft(db, rater.id, case["id"], draft)

    def submit(self, rater: Rater, number: int, answer: Answer) -> bool:
        """Store an answer; it replaces an earlier one of the same case.

        Returns:
            False if this very submission had been stored before, and nothing was done.

        Raises:
            Refused: Not a ranking of all images, an answer of a case that does not exist, or the
                submission number of another case.
            Conflict: The case was answered elsewhere after the page was loaded.
            Closed: The rater has finished.
        """
        answers.check_form(answer)
        with self.database.writing() as db:
            known = db.execute(
                "SELECT a.number FROM submissions s JOIN assignments a USING (rater_id, case_id)"
                " WHERE s.rater_id = ? AND s.submission = ?",
                (rater.id, answer.submission),
            ).fetchone()
            if known:
                if known["number"] != number:
                    raise Refused(
                        "this page's submission number belongs to another case",
                        fix="reload the page",
                    )
                return False
            case, size = self._writable(db, rater.id, number)
            if answer.verdict == RANKED:
                answers.check(self.design, answer.ranks, answer.ratings, size, complete=True)
            found = answers.revision_of(db, rater.id, case["id"])
            if answer.revision is not None and answer.revision != found:
                raise Conflict(found)
            answers.store_answer(db, rater.id, case["id"], answer, ties=self.design.ties)
        return True

    def _writable(self, db: sqlite3.Connection, rater: int, number: int) -> tuple[sqlite3.Row, int]:
        """A case that the rater may answer now, and how many images of it are shown."""
        (finished,) = db.execute("SELECT finished_at FROM raters WHERE id = ?", (rater,)).fetchone()
        if finished is not None:
            raise Closed("you have finished the study; nothing can be changed any more")
        case = views.case_row(db, rater, number)
        if case is None or number > _progress(db, rater).frontier:
            raise Refused("this case is not open yet", fix="answer the cases in their order")
        (size,) = db.execute(
            "SELECT count(*) FROM places WHERE rater_id = ? AND case_id = ?", (rater, case["id"])
        ).fetchone()
        if not size:
            raise Refused("this case is not open yet", fix="open its page first")
        return case, size

    def session_minutes(self, rater: Rater) -> tuple[float, float]:
        """How long the rater has been at it without a rest: before the last answer, and after it.

        A sitting ends with half an hour without an answer.
        """
        rows = self.database.connection().execute(
            "SELECT unixepoch(submitted_at) AS at FROM submissions WHERE rater_id = ?"
            " ORDER BY id DESC",
            (rater.id,),
        )
        times = [row["at"] for row in rows]
        rested = (i for i in range(len(times) - 1) if times[i] - times[i + 1] > REST_SECONDS)
        sitting = times[: next(rested, len(times) - 1) + 1]
        if len(sitting) < 2:
            return 0.0, 0.0
        return (sitting[1] - sitting[-1]) / 60, (sitting[0] - sitting[-1]) / 60

    def finish(self, rater: Rater) -> None:
        """End the study for a rater; once ended, it stays so.

        Raises:
            Refused: Some case has no answer.
        """
        with self.database.writing() as db:
            left = (found := _progress(db, rater.id)).total - found.answered
            if left:
                raise Refused(f"{left} cases have no answer yet")
            db.execute(
                "UPDATE raters SET finished_at = ? WHERE id = ? AND finished_at IS NULL",
                (now(), rater.id),
            )


def _progress(db: sqlite3.Connection, rater: int) -> Progress:
    rows = db.execute(
        "SELECT coalesce(s.verdict, iif(d.case_id IS NULL, 'open', 'draft')) AS state, c.kind"
        " FROM assignments a JOIN cases c ON c.id = a.case_id"
        " LEFT JOIN answers n ON n.rater_id = a.rater_id AND n.case_id = a.case_id"
        " LEFT JOIN submissions s ON s.id = n.submission_id"
        " LEFT JOIN drafts d ON d.rater_id = a.rater_id AND d.case_id = a.case_id"
        " WHERE a.rater_id = ? ORDER BY a.number",
        (rater,),
    ).fetchall()
    practice = sum(row["kind"] == PRACTICE for row in rows)
    return Progress(tuple(row["state"] for row in rows), practice)
