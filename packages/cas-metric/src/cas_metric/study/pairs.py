"""Which two images of a case to show next: every pair of methods equally often, over all raters.

For methods of about equal strength balance is D-optimal for the Bradley-Terry model. Choosing each
pair by the information that it is expected to add, given the answers so far, gains only where
strengths are far apart, and loses where they are close (``benchmarks/study/pair_choice.py``).

Source: Bradley and Terry (1952) for the model; Glickman and Jensen (2005), "Adaptive paired
comparison design", for the choice by information.
"""

from __future__ import annotations

import sqlite3
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from cas_metric.study.orders import REPEAT

Floats = NDArray[np.float64]


def choose_pair(shown: Floats, here: Floats, rng: np.random.Generator) -> tuple[int, int]:
    """The next pair, in random order: one of those that were shown least.

    Args:
        shown: ``(m, m)``, symmetric: how often each pair was shown, answered or not, so that raters
            who begin together do not all get one pair.
        here: ``(m, m)``, the same of this case alone: it decides among equals.
        rng: Decides what is left, and who stands first.

    Examples:
        >>> shown = np.array([[0, 2, 1], [2, 0, 2], [1, 2, 0]])
        >>> sorted(choose_pair(shown, np.zeros((3, 3)), np.random.default_rng(0)))
        [0, 2]
    """
    pairs = list(combinations(range(len(shown)), 2))
    least = min((shown[pair], here[pair]) for pair in pairs)
    good = [pair for pair in pairs if (shown[pair], here[pair]) == least]
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
        chosen = list(choose_pair(_shown(db, methods), _shown(db, methods, case["id"]), rng))
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


def _shown(db: sqlite3.Connection, methods: list[str], case: int | None = None) -> Floats:
    rows = db.execute(
        "SELECT ka.method, kb.method, count(*) FROM places a"
        " JOIN places b USING (rater_id, case_id)"
        " JOIN cases c ON c.id = a.case_id AND c.kind = 'main'"
        " JOIN candidates ka ON ka.id = a.candidate_id JOIN candidates kb ON kb.id = b.candidate_id"
        " WHERE a.place != b.place AND (?1 IS NULL OR a.case_id = ?1) GROUP BY 1, 2",
        (case,),
    )
    table = np.zeros((len(methods), len(methods)))
    for one, other, count in rows:
        table[methods.index(one), methods.index(other)] = count
    return table
