"""What one rater may see and do: cases in their order, drafts, answers, the end."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from cas_metric.errors import CasError
from cas_metric.study.schema import FILE_NAME, Database, now, open_database
from cas_metric.study.wording import Wording

RANKED: Final = "ranked"
CANNOT_JUDGE: Final = "cannot-judge"
MAX_NOTE: Final = 4000
#: No sitting over one case is longer than a day.
MAX_SECONDS: Final = 86_400.0
_SUBMISSION: Final = re.compile(r"[A-Za-z0-9_-]{8,64}")

#: State of a case for its rater.
State = Literal["ranked", "cannot-judge", "draft", "open"]


class Refused(CasError):
    """An answer that cannot be taken as it is; the message is for the rater."""


class Closed(CasError):
    """The rater has finished; nothing can be changed any more."""


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
    """

    states: tuple[State, ...]

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


@dataclass(frozen=True)
class CaseView:
    """One case as its rater sees it.

    Attributes:
        number: Place in the rater's order, from 1.
        label: Target diagnosis.
        images: File names of the copies, in the order in which they are shown.
        ranks: Place (from 1) to rank, as far as chosen.
        verdict: What was answered; empty so far.
        note: The rater's note.
        seconds: Active time so far.
        revision: How many answers were given.
    """

    number: int
    label: str
    images: tuple[str, ...]
    ranks: Mapping[int, int]
    verdict: str
    note: str
    seconds: float
    revision: int


@dataclass(frozen=True)
class Answer:
    """What a page sends.

    Attributes:
        submission: Chosen by the page; the same twice is the same answer.
        verdict: :data:`RANKED` or :data:`CANNOT_JUDGE`.
        ranks: Place (from 1) to rank.
        note: Free text.
        seconds: Active time on the case.
        wording: Digest of the texts that were shown.
    """

    submission: str
    verdict: str
    ranks: Mapping[int, int]
    note: str = ""
    seconds: float = 0.0
    wording: str = ""


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

    def images(self) -> frozenset[str]:
        """Names of all copies: the only files that are ever handed out."""
        rows = self.database.connection().execute("SELECT image FROM candidates")
        return frozenset(row["image"] for row in rows)

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
            if not 1 <= number <= _progress(db, rater.id).frontier:
                return None
            case = _case(db, rater.id, number)
            view = None if case is None else _view(db, rater.id, case)
        if view is not None and case is not None and case["opened_at"] is None:
            with self.database.writing() as db:
                db.execute(
                    "UPDATE assignments SET opened_at = ?"
                    " WHERE rater_id = ? AND number = ? AND opened_at IS NULL",
                    (now(), rater.id, number),
                )
        return view

    def save_draft(
        self,
        rater: Rater,
        number: int,
        *,
        ranks: Mapping[int, int],
        note: str,
        seconds: float,
        revision: int,
    ) -> bool:
        """Keep an unfinished answer.

        Args:
            rater: Whose it is.
            number: Of the case.
            ranks: Place to rank, as far as chosen.
            note: The note so far.
            seconds: Active time so far.
            revision: Answers that the page knew of. A draft that was overtaken by an answer, which
                happens when a request is slow, is dropped.

        Returns:
            Whether it was kept.

        Raises:
            Refused: Impossible ranks, or no such case.
            Closed: The rater has finished.
        """
        with self.database.writing() as db:
            case, size = _writable(db, rater.id, number)
            _check_ranks(ranks, size, complete=False)
            if _revision(db, rater.id, case["id"]) != revision:
                return False
            db.execute(
                "INSERT OR REPLACE INTO drafts VALUES (?, ?, ?, ?, ?, ?)",
                (
                    *(rater.id, case["id"], json.dumps({str(p): r for p, r in ranks.items()})),
                    *(note[:MAX_NOTE], _clamp(seconds), now()),
                ),
            )
            return True

    def submit(self, rater: Rater, number: int, answer: Answer) -> bool:
        """Store an answer; it replaces an earlier one of the same case.

        Returns:
            False if this very submission had been stored before, and nothing was done.

        Raises:
            Refused: Not a strict ranking of all images, or no such case.
            Closed: The rater has finished.
        """
        if not _SUBMISSION.fullmatch(answer.submission):
            raise Refused("the page sent no valid submission number", fix="reload the page")
        if answer.verdict not in (RANKED, CANNOT_JUDGE):
            raise Refused("the page sent an unknown verdict", fix="reload the page")
        with self.database.writing() as db:
            known = db.execute(
                "SELECT 1 FROM submissions WHERE rater_id = ? AND submission = ?",
                (rater.id, answer.submission),
            ).fetchone()
            if known:
                return False
            case, size = _writable(db, rater.id, number)
            if answer.verdict == RANKED:
                _check_ranks(answer.ranks, size, complete=True)
            _store_answer(db, rater.id, case["id"], answer)
        return True

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
        "SELECT coalesce(s.verdict, iif(d.case_id IS NULL, 'open', 'draft')) AS state"
        " FROM assignments a"
        " LEFT JOIN answers USING (rater_id, case_id)"
        " LEFT JOIN submissions s ON s.id = answers.submission_id"
        " LEFT JOIN drafts d ON d.rater_id = a.rater_id AND d.case_id = a.case_id"
        " WHERE a.rater_id = ? ORDER BY a.number",
        (rater,),
    )
    return Progress(tuple(row["state"] for row in rows))


def _case(db: sqlite3.Connection, rater: int, number: int) -> sqlite3.Row | None:
    row: sqlite3.Row | None = db.execute(
        "SELECT c.id, c.label, a.number, a.opened_at FROM assignments a"
        " JOIN cases c ON c.id = a.case_id WHERE a.rater_id = ? AND a.number = ?",
        (rater, number),
    ).fetchone()
    return row


def _view(db: sqlite3.Connection, rater: int, case: sqlite3.Row) -> CaseView:
    key = (rater, case["id"])
    shown = db.execute(
        "SELECT p.place, c.image, r.rank FROM places p"
        " JOIN candidates c ON c.id = p.candidate_id"
        " LEFT JOIN answers a ON a.rater_id = p.rater_id AND a.case_id = p.case_id"
        " LEFT JOIN ranks r ON r.submission_id = a.submission_id AND r.candidate_id = c.id"
        " WHERE p.rater_id = ? AND p.case_id = ? ORDER BY p.place",
        key,
    ).fetchall()
    answer = db.execute(
        "SELECT s.verdict, s.note, s.seconds, a.revision FROM answers a"
        " JOIN submissions s ON s.id = a.submission_id WHERE a.rater_id = ? AND a.case_id = ?",
        key,
    ).fetchone()
    draft = db.execute("SELECT * FROM drafts WHERE rater_id = ? AND case_id = ?", key).fetchone()
    latest = draft or answer  # an answer deletes the draft before it, so a draft is the newer one
    if draft:
        ranks = {int(place): rank for place, rank in json.loads(draft["ranks"]).items()}
    else:
        ranks = {row["place"]: row["rank"] for row in shown if row["rank"] is not None}
    return CaseView(
        number=case["number"],
        label=case["label"],
        images=tuple(row["image"] for row in shown),
        ranks=ranks,
        verdict=answer["verdict"] if answer else "",
        note=latest["note"] if latest else "",
        seconds=latest["seconds"] if latest else 0.0,
        revision=answer["revision"] if answer else 0,
    )


def _writable(db: sqlite3.Connection, rater: int, number: int) -> tuple[sqlite3.Row, int]:
    """A case that the rater may answer now, and how many images it has."""
    (finished,) = db.execute("SELECT finished_at FROM raters WHERE id = ?", (rater,)).fetchone()
    if finished is not None:
        raise Closed("you have finished the study; nothing can be changed any more")
    case = _case(db, rater, number)
    if case is None or number > _progress(db, rater).frontier:
        raise Refused("this case is not open yet", fix="answer the cases in their order")
    (size,) = db.execute(
        "SELECT count(*) FROM candidates WHERE case_id = ?", (case["id"],)
    ).fetchone()
    return case, size


def _check_ranks(ranks: Mapping[int, int], size: int, *, complete: bool) -> None:
    allowed = set(range(1, size + 1))
    if not (set(ranks) <= allowed and set(ranks.values()) <= allowed):
        raise Refused("the page sent an image or a rank that does not exist", fix="reload it")
    if len(set(ranks.values())) < len(ranks):
        raise Refused("two images have the same rank", fix="give every image a rank of its own")
    if complete and len(ranks) < size:
        left = size - len(ranks)
        raise Refused(f"{left} image{'s' if left > 1 else ''} still without a rank")


def _revision(db: sqlite3.Connection, rater: int, case: int) -> int:
    row = db.execute(
        "SELECT revision FROM answers WHERE rater_id = ? AND case_id = ?", (rater, case)
    ).fetchone()
    return row["revision"] if row else 0


def _store_answer(db: sqlite3.Connection, rater: int, case: int, answer: Answer) -> None:
    stored = db.execute(
        "INSERT INTO submissions (rater_id, case_id, submission, verdict, note, seconds, wording,"
        " submitted_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(rater, case, answer.submission, answer.verdict, answer.note[:MAX_NOTE]),
            *(_clamp(answer.seconds), answer.wording, now()),
        ),
    ).lastrowid
    if answer.verdict == RANKED:
        db.executemany(
            "INSERT INTO ranks SELECT ?, candidate_id, ? FROM places"
            " WHERE rater_id = ? AND case_id = ? AND place = ?",
            [(stored, rank, rater, case, place) for place, rank in answer.ranks.items()],
        )
    db.execute(
        "INSERT INTO answers VALUES (?, ?, ?, 1) ON CONFLICT (rater_id, case_id)"
        " DO UPDATE SET submission_id = excluded.submission_id, revision = revision + 1",
        (rater, case, stored),
    )
    db.execute("DELETE FROM drafts WHERE rater_id = ? AND case_id = ?", (rater, case))


def _clamp(seconds: float) -> float:
    """Seconds within a day; what is no number counts as none."""
    return min(max(seconds, 0.0), MAX_SECONDS) if seconds == seconds else 0.0
