"""What a rater answered: the rules that it has to keep, and how it is stored."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cas_metric.errors import CasError
from cas_metric.study.design import Design, competition_ranks
from cas_metric.study.schema import now
from cas_metric.study.views import Rated, write_ratings

RANKED: Final = "ranked"
CANNOT_JUDGE: Final = "cannot-judge"
MAX_NOTE: Final = 4000
MAX_REASON: Final = 300
#: No sitting over one case is longer than a day.
MAX_SECONDS: Final = 86_400.0
_SUBMISSION: Final = re.compile(r"[A-Za-z0-9_-]{8,64}")


class Refused(CasError):
    """An answer that cannot be taken as it is; the message is for the rater."""


class Closed(CasError):
    """The rater has finished; nothing can be changed any more."""


class Conflict(Refused):
    """The case was answered in another window; ``revision`` is how often by now."""

    def __init__(self, revision: int) -> None:
        super().__init__("this case was answered in another window", fix="reload the page")
        self.revision = revision


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
        ratings: Place and question to value.
        reason: Why the case cannot be judged.
        revision: Answers that the page knew of; None does not ask.
    """

    submission: str
    verdict: str
    ranks: Mapping[int, int]
    note: str = ""
    seconds: float = 0.0
    wording: str = ""
    ratings: Mapping[Rated, int] = field(default_factory=dict)
    reason: str = ""
    revision: int | None = None


@dataclass(frozen=True)
class Draft:
    """An unfinished answer.

    Attributes:
        ranks: Place to rank, as far as chosen.
        note: The note so far.
        seconds: Active time so far.
        revision: Answers that the page knew of.
        ratings: Place and question to value, as far as chosen.
        page: Submission number of the page.
        seen: Page whose draft this page was loaded with.
    """

    ranks: Mapping[int, int]
    note: str
    seconds: float
    revision: int
    ratings: Mapping[Rated, int] = field(default_factory=dict)
    page: str = ""
    seen: str = ""


def check_form(answer: Answer) -> None:
    """Refuse what no page of ours sends.

    Raises:
        Refused: A strange submission number or verdict.
    """
    if not _SUBMISSION.fullmatch(answer.submission):
        raise Refused("the page sent no valid submission number", fix="reload the page")
    if answer.verdict not in (RANKED, CANNOT_JUDGE):
        raise Refused("the page sent an unknown verdict", fix="reload the page")


def check(
    design: Design,
    ranks: Mapping[int, int],
    ratings: Mapping[Rated, int],
    size: int,
    *,
    complete: bool,
) -> None:
    """Hold ranks and ratings against the design.

    Args:
        design: Whether there are ties, and what is asked.
        ranks: Place to rank.
        ratings: Place and question to value.
        size: How many images are shown.
        complete: Whether everything has to be answered.

    Raises:
        Refused: Something that does not exist, a tie where there are none, or something missing.
    """
    allowed = set(range(1, size + 1))
    choices = {question.key: question.choices for question in design.questions}
    if not (set(ranks) <= allowed and set(ranks.values()) <= allowed):
        raise Refused("the page sent an image or a rank that does not exist", fix="reload it")
    for (place, item), value in ratings.items():
        if place not in allowed or value not in choices.get(item, {}):
            raise Refused("the page sent a rating that does not exist", fix="reload it")
    if not design.ties and len(set(ranks.values())) < len(ranks):
        raise Refused("two images have the same rank", fix="give every image a rank of its own")
    if not complete:
        return
    if left := size - len(ranks):
        raise Refused(f"{left} image{'s' if left > 1 else ''} still without a rank")
    if left := size * len(choices) - len(ratings):
        raise Refused(f"{left} question{'s' if left > 1 else ''} still without an answer")


def revision_of(db: sqlite3.Connection, rater: int, case: int) -> int:
    """How many answers a rater has given to a case."""
    row = db.execute(
        "SELECT revision FROM answers WHERE rater_id = ? AND case_id = ?", (rater, case)
    ).fetchone()
    return row["revision"] if row else 0


def store_draft(db: sqlite3.Connection, rater: int, case: int, draft: Draft) -> bool:
    """Keep a draft, unless an answer or a draft that its page has not seen would be lost."""
    if revision_of(db, rater, case) != draft.revision:
        return False
    row = db.execute(
        "SELECT page FROM drafts WHERE rater_id = ? AND case_id = ?", (rater, case)
    ).fetchone()
    if row and row["page"] not in ("", draft.page, draft.seen):
        return False
    db.execute(
        "INSERT OR REPLACE INTO drafts VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(rater, case, json.dumps({str(p): r for p, r in draft.ranks.items()})),
            *(draft.note[:MAX_NOTE], _clamp(draft.seconds), now()),
            *(write_ratings(draft.ratings), draft.page),
        ),
    )
    return True


def store_answer(
    db: sqlite3.Connection, rater: int, case: int, answer: Answer, *, ties: bool
) -> None:
    """Add an answer, make it the one that counts, and drop the draft."""
    stored = db.execute(
        "INSERT INTO submissions (rater_id, case_id, submission, verdict, note, seconds, wording,"
        " submitted_at, reason) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(rater, case, answer.submission, answer.verdict, answer.note[:MAX_NOTE]),
            *(_clamp(answer.seconds), answer.wording, now(), answer.reason[:MAX_REASON]),
        ),
    ).lastrowid
    if answer.verdict == RANKED:
        ranks = competition_ranks(answer.ranks) if ties else answer.ranks
        db.executemany(
            "INSERT INTO ranks SELECT ?, candidate_id, ? FROM places"
            " WHERE rater_id = ? AND case_id = ? AND place = ?",
            [(stored, rank, rater, case, place) for place, rank in ranks.items()],
        )
        db.executemany(
            "INSERT INTO ratings SELECT ?, candidate_id, ?, ? FROM places"
            " WHERE rater_id = ? AND case_id = ? AND place = ?",
            [
                (stored, item, value, rater, case, place)
                for (place, item), value in answer.ratings.items()
            ],
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
