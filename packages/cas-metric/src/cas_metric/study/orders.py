"""Which cases every rater meets, in which order, and where the images of each stand."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from cas_metric.errors import InputError
from cas_metric.study.cases import Case, draw_cases
from cas_metric.study.design import PAIRS, SINGLE, Design

MAIN: Final = "main"
PRACTICE: Final = "practice"
REPEAT: Final = "repeat"
#: Between the key of a case and what sets a second row of it apart; no key holds it.
_SEPARATOR: Final = "\x1e"
#: Orders to choose from, for the sake of a long way between a case and its repetition.
_TRIES: Final = 20


def lay_out(
    cases: Sequence[Case], practice: Sequence[Case], design: Design, seed: int
) -> list[Case]:
    """All cases of a study: those that count, then practice and repetitions.

    Args:
        cases: Those that count.
        practice: Others, shown first.
        design: How many repetitions, and whether images stand alone.
        seed: Draws the cases to repeat, stratified by label.

    Raises:
        InputError: More than half of the cases would be repeated.
    """
    main = _alone(cases) if design.layout == SINGLE else list(cases)
    if design.repeats > len(main) // 2:
        raise InputError(
            f"{design.repeats} repetitions of {len(main)} cases",
            fix=f"repeat at most {len(main) // 2}, so that a repetition can stand far off",
        )
    before = _alone(practice) if design.layout == SINGLE else practice
    again = draw_cases(main, design.repeats, seed) if design.repeats else []
    return [
        *main,
        *(replace(case, kind=PRACTICE) for case in before),
        *(
            replace(case, key=f"{case.key}{_SEPARATOR}{REPEAT}", origin=case.source, kind=REPEAT)
            for case in again
        ),
    ]


def _alone(cases: Sequence[Case]) -> list[Case]:
    """A case for every single image."""
    return [
        replace(
            case,
            key=f"{case.key}{_SEPARATOR}{one.method}",
            origin=case.source,
            candidates=(one,),
        )
        for case in cases
        for one in case.candidates
    ]


def assign(db: sqlite3.Connection, rater: int, seed: int) -> None:
    """Shuffle the cases, and the images of each, for one rater.

    Which pair a rater sees is decided when the case is opened (:mod:`cas_metric.study.pairs`).
    """
    rng = np.random.default_rng([seed, rater])
    rows = db.execute("SELECT id, key, kind FROM cases ORDER BY id").fetchall()
    main = [row["id"] for row in rows if row["kind"] == MAIN]
    order = [main[i] for i in rng.permutation(len(main))]
    original = {row["key"]: row["id"] for row in rows if row["kind"] == MAIN}
    repeats = {
        original[row["key"].rpartition(_SEPARATOR)[0]]: row["id"]
        for row in rows
        if row["kind"] == REPEAT
    }
    if repeats:
        order = with_repeats(order, repeats, rng)
    order = [row["id"] for row in rows if row["kind"] == PRACTICE] + order
    db.executemany(
        "INSERT INTO assignments (rater_id, number, case_id) VALUES (?, ?, ?)",
        [(rater, number, case) for number, case in enumerate(order, 1)],
    )
    if _layout(db) == PAIRS:
        return
    for row in rows:
        query = db.execute("SELECT id FROM candidates WHERE case_id = ? ORDER BY id", (row["id"],))
        images = [each["id"] for each in query]
        db.executemany(
            "INSERT INTO places VALUES (?, ?, ?, ?)",
            [
                (rater, row["id"], place, images[i])
                for place, i in enumerate(rng.permutation(len(images)), 1)
            ],
        )


def _layout(db: sqlite3.Connection) -> Any:
    query = "SELECT json_extract(value, '$.layout') FROM study WHERE key = 'design'"
    return (db.execute(query).fetchone() or (None,))[0]


def with_repeats(
    order: Sequence[int], repeats: Mapping[int, int], rng: np.random.Generator
) -> list[int]:
    """Put repetitions into the second half of an order, their originals into the first.

    Repetitions come in the order of their originals, so that each stands about half a study away.

    Args:
        order: Cases, shuffled.
        repeats: Case to its repetition, at most half of the cases.
        rng: Draws the places.

    Returns:
        The best of a few orders: the one with the longest shortest way.
    """
    drawn = [_one_order(order, repeats, rng) for _ in range(_TRIES)]
    return max(drawn, key=lambda one: shortest_way(one, repeats))


def _one_order(
    order: Sequence[int], repeats: Mapping[int, int], rng: np.random.Generator
) -> list[int]:
    half = (len(order) + 1) // 2
    others = [case for case in order if case not in repeats]
    early = [*repeats, *others[: half - len(repeats)]]
    early = [early[i] for i in rng.permutation(len(early))]
    late = others[half - len(repeats) :]
    again = [repeats[case] for case in early if case in repeats]
    places = set(rng.choice(len(late) + len(again), size=len(again), replace=False).tolist())
    waiting, coming = iter(late), iter(again)
    return early + [
        next(coming) if place in places else next(waiting)
        for place in range(len(late) + len(again))
    ]


def shortest_way(order: Sequence[int], repeats: Mapping[int, int]) -> int:
    """Fewest steps from a case to its repetition."""
    place = {case: number for number, case in enumerate(order)}
    return min(place[again] - place[case] for case, again in repeats.items())
