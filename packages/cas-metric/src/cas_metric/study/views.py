"""One case as its rater sees it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field

#: Place (from 1) and key of a question.
Rated = tuple[int, str]


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
        prompt: What the images were made from; empty where it is not shown.
        reference: File name of the copy of the real image to compare with; empty for none.
        practice: Whether the case does not count.
        ratings: Place and question to value, as far as chosen.
        reason: Why the case cannot be judged.
        page: Page that wrote the draft that is shown; empty for none.
    """

    number: int
    label: str
    images: tuple[str, ...]
    ranks: Mapping[int, int]
    verdict: str
    note: str
    seconds: float
    revision: int
    prompt: str = ""
    reference: str = ""
    practice: bool = False
    ratings: Mapping[Rated, int] = field(default_factory=dict)
    reason: str = ""
    page: str = ""


def case_row(db: sqlite3.Connection, rater: int, number: int) -> sqlite3.Row | None:
    """The case at a place of a rater's order."""
    row: sqlite3.Row | None = db.execute(
        "SELECT c.*, a.number, a.opened_at FROM assignments a"
        " JOIN cases c ON c.id = a.case_id WHERE a.rater_id = ? AND a.number = ?",
        (rater, number),
    ).fetchone()
    return row


def case_view(db: sqlite3.Connection, rater: int, case: sqlite3.Row) -> CaseView:
    """What a rater sees of a case: its draft, where there is one, else its answer."""
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
        "SELECT s.verdict, s.note, s.seconds, s.reason, a.revision FROM answers a"
        " JOIN submissions s ON s.id = a.submission_id WHERE a.rater_id = ? AND a.case_id = ?",
        key,
    ).fetchone()
    draft = db.execute("SELECT * FROM drafts WHERE rater_id = ? AND case_id = ?", key).fetchone()
    latest = draft or answer  # an answer deletes the draft before it, so a draft is the newer one
    if draft:
        ranks = {int(place): rank for place, rank in json.loads(draft["ranks"]).items()}
        ratings = read_ratings(draft["ratings"])
    else:
        ranks = {row["place"]: row["rank"] for row in shown if row["rank"] is not None}
        ratings = _ratings(db, key)
    return CaseView(
        number=case["number"],
        label=case["label"],
        images=tuple(row["image"] for row in shown),
        ranks=ranks,
        verdict=answer["verdict"] if answer else "",
        note=latest["note"] if latest else "",
        seconds=latest["seconds"] if latest else 0.0,
        revision=answer["revision"] if answer else 0,
        prompt=case["prompt"],
        reference=case["reference"] or "",
        practice=case["kind"] == "practice",
        ratings=ratings,
        reason=answer["reason"] if answer else "",
        page=draft["page"] if draft else "",
    )


def _ratings(db: sqlite3.Connection, key: tuple[int, int]) -> dict[Rated, int]:
    rows = db.execute(
        "SELECT p.place, r.item, r.value FROM answers a"
        " JOIN ratings r ON r.submission_id = a.submission_id"
        " JOIN places p ON p.rater_id = a.rater_id AND p.case_id = a.case_id"
        " AND p.candidate_id = r.candidate_id WHERE a.rater_id = ? AND a.case_id = ?",
        key,
    )
    return {(row["place"], row["item"]): row["value"] for row in rows}


def write_ratings(ratings: Mapping[Rated, int]) -> str:
    """Ratings as the JSON of a draft.

    >>> write_ratings({(2, "item1"): 4})
    '{"2 item1": 4}'
    """
    return json.dumps({f"{place} {item}": value for (place, item), value in ratings.items()})


def read_ratings(text: str) -> dict[Rated, int]:
    """The reverse of :func:`write_ratings`."""
    split = {tuple(key.split(" ", 1)): value for key, value in json.loads(text).items()}
    return {(int(place), item): value for (place, item), value in split.items()}
