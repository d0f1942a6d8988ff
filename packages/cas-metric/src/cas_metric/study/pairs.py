"""Which two images of a case to show next, so that the strengths are known soonest.

Every comparison adds ``p (1 - p)`` along its pair to the information of the Bradley-Terry model.
The next pair is the one whose comparison raises the determinant of that information most
(D-optimality, one step ahead): pairs of which the model knows little, among methods of similar
strength.

Source: Bradley and Terry (1952) for the model; Glickman and Jensen (2005), "Adaptive paired
comparison design", for choosing pairs by the information they are expected to add.
"""

from __future__ import annotations

import sqlite3
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cas_metric.study.orders import REPEAT

Floats = NDArray[np.float64]

#: Precision of what is assumed before the first comparison: strengths spread by about 2 logits.
PRIOR: Final = 0.25
_STEPS: Final = 30


def strengths(wins: Floats, prior: float = PRIOR) -> Floats:
    """Bradley-Terry strengths under a normal prior, by Newton's method.

    Args:
        wins: ``(m, m)``, how often the row was preferred to the column; a tie is half a win each.
        prior: Precision of the prior, above 0.

    Returns:
        ``(m,)``, on the log scale; they sum to zero.
    """
    played = wins + wins.T
    found = np.zeros(len(wins))
    for _ in range(_STEPS):
        chance = _chances(found)
        slope = (wins - played * chance).sum(axis=1) - prior * found
        step = np.linalg.solve(information(found, played, prior), slope)
        found = found + np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < 1e-8:
            break
    return found - found.mean()


def _chances(found: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(found[None, :] - found[:, None])))


def information(found: Floats, played: Floats, prior: float = PRIOR) -> Floats:
    """``(m, m)`` information on the strengths after ``played`` comparisons of each pair."""
    chance = _chances(found)
    weight = played * chance * (1 - chance)
    return np.asarray(np.diag(weight.sum(axis=1) + prior) - weight)


def gains(wins: Floats, shown: Floats, prior: float = PRIOR) -> Floats:
    """``(m, m)`` what one more comparison of each pair is expected to add; -inf on the diagonal.

    Args:
        wins: As for :func:`strengths`: comparisons that were answered.
        shown: ``(m, m)``, symmetric: comparisons that were shown, answered or not. Those under way
            count as well, so that raters who begin together do not all get one pair.
        prior: As for :func:`strengths`.
    """
    found = strengths(wins, prior)
    spread = np.linalg.inv(information(found, shown, prior))
    variance = np.diag(spread)[:, None] + np.diag(spread)[None, :] - 2 * spread
    chance = _chances(found)
    added = np.asarray(np.log1p(chance * (1 - chance) * variance))
    np.fill_diagonal(added, -np.inf)
    return added


def choose_pair(
    wins: Floats, shown: Floats, here: Floats, rng: np.random.Generator
) -> tuple[int, int]:
    """The next pair, in random order.

    Args:
        wins: As for :func:`strengths`.
        shown: As for :func:`gains`.
        here: ``(m, m)``, how often other raters saw each pair of this case: the fewer the better,
            among pairs that are about as good.
        rng: Breaks ties, and says who stands first.
    """
    added = gains(wins, shown)
    pairs = list(combinations(range(len(wins)), 2))
    best = max(added[pair] for pair in pairs)
    good = [pair for pair in pairs if added[pair] >= 0.98 * best]
    fewest = min(here[pair] for pair in good)
    good = [pair for pair in good if here[pair] == fewest]
    left, right = good[int(rng.integers(len(good)))]
    return (left, right) if rng.random() < 0.5 else (right, left)


def show_pair(db: sqlite3.Connection, rater: int, case: sqlite3.Row, seed: int) -> None:
    """Decide which two images of a case a rater sees, within a transaction that writes.

    A repeated case shows the pair of its original, in an order of its own.
    """
    candidates = db.execute(
        "SELECT id, method FROM candidates WHERE case_id = ? ORDER BY id", (case["id"],)
    ).fetchall()
    methods = [row["method"] for row in candidates]
    rng = np.random.default_rng([seed, rater, case["id"]])
    seen = _pair_before(db, rater, case) if case["kind"] == REPEAT else []
    if len(seen) == 2:
        first = [methods.index(method) for method in seen]
        chosen = first if rng.random() < 0.5 else first[::-1]
    else:
        chosen = list(
            choose_pair(
                _wins(db, methods), _shown(db, methods), _shown(db, methods, case["id"]), rng
            )
        )
    db.executemany(
        "INSERT OR IGNORE INTO places VALUES (?, ?, ?, ?)",
        [(rater, case["id"], place, candidates[k]["id"]) for place, k in enumerate(chosen, 1)],
    )


def _pair_before(db: sqlite3.Connection, rater: int, case: sqlite3.Row) -> list[str]:
    rows = db.execute(
        "SELECT k.method FROM places p JOIN candidates k ON k.id = p.candidate_id"
        " JOIN cases c ON c.id = p.case_id"
        " WHERE p.rater_id = ? AND c.origin = ? AND c.kind = 'main' ORDER BY p.place",
        (rater, case["origin"]),
    )
    return [row["method"] for row in rows]


def _wins(db: sqlite3.Connection, methods: list[str]) -> Floats:
    rows = db.execute(
        "SELECT ka.method AS winner, kb.method AS loser,"
        " sum(iif(a.rank < b.rank, 1.0, iif(a.rank = b.rank, 0.5, 0.0))) AS wins"
        " FROM answers n JOIN cases c ON c.id = n.case_id AND c.kind = 'main'"
        " JOIN ranks a ON a.submission_id = n.submission_id"
        " JOIN ranks b ON b.submission_id = n.submission_id AND b.candidate_id != a.candidate_id"
        " JOIN candidates ka ON ka.id = a.candidate_id JOIN candidates kb ON kb.id = b.candidate_id"
        " GROUP BY 1, 2"
    )
    return _table(((row["winner"], row["loser"], row["wins"]) for row in rows), methods)


def _shown(db: sqlite3.Connection, methods: list[str], case: int | None = None) -> Floats:
    rows = db.execute(
        "SELECT ka.method, kb.method, count(*) FROM places a"
        " JOIN places b USING (rater_id, case_id)"
        " JOIN cases c ON c.id = a.case_id AND c.kind = 'main'"
        " JOIN candidates ka ON ka.id = a.candidate_id JOIN candidates kb ON kb.id = b.candidate_id"
        " WHERE a.place != b.place AND (?1 IS NULL OR a.case_id = ?1) GROUP BY 1, 2",
        (case,),
    )
    return _table((tuple(row) for row in rows), methods)


def _table(rows: object, methods: list[str]) -> Floats:
    table = np.zeros((len(methods), len(methods)))
    for one, other, count in rows:  # type: ignore[attr-defined]
        table[methods.index(one), methods.index(other)] = count
    return table
