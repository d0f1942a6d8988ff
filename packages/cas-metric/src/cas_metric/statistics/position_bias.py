"""Whether the place in which an image was shown moved its rank.

A method that is better and happens to stand in one place more often makes that place look lucky,
and raters who saw one order of a case are no independent witnesses. The test therefore exchanges
the orders themselves, as a study that draws them at random could have drawn them: whole cases
exchange their orders, and within a case the rankings do. What a method is worth stays where it is.

Source: ours; a randomisation test in the sense of Edgington and Onghena (2007).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cas_metric.protocol import BOOTSTRAP_SEED, RESAMPLES
from cas_metric.statistics.preference import Rankings
from cas_metric.statistics.uncertainty import Floats

#: A method that stood in one place in this share of its rankings is confounded with it.
CONFOUNDED = 0.95
#: Exchanges evaluated together.
_BLOCK = 200


class PositionBias(NamedTuple):
    """Whether the place in which an image was shown went with its rank.

    Attributes:
        top1: Place to the share of rankings whose first choice was shown there.
        mean_rank: Place to the mean rank of what was shown there.
        p: Randomisation p-value that the first choice does not depend on the place; NaN where the
            orders are confounded.
        n: Rankings that entered.
        cases: Cases that they are of.
        confounded: Methods that stood in one place nearly always: their worth and that of the
            place cannot be told apart.
    """

    top1: dict[int, float]
    mean_rank: dict[int, float]
    p: float
    n: int
    cases: int
    confounded: tuple[str, ...]


def position_bias(
    rankings: Rankings, *, exchanges: int = RESAMPLES, seed: int = BOOTSTRAP_SEED
) -> PositionBias | None:
    """Test whether the first choice depends on where it was shown; None without positions.

    Of the rankings whose places are known for two images or more, those enter that show the
    commonest number of images, so that every place is equally likely to hold the first choice when
    the order of showing was random. A shared first place counts in equal parts.

    Args:
        rankings: With positions.
        exchanges: Random exchanges of orders.
        seed: Of the exchanges.
    """
    if rankings.positions is None:
        return None
    shown = np.isfinite(rankings.ranks) & np.isfinite(rankings.positions)
    sizes = shown.sum(axis=1)
    choices = sizes[sizes > 1]
    if not len(choices):
        return None
    kept = sizes == np.bincount(choices).argmax()
    ranks = np.where(shown, rankings.ranks, np.nan)[kept]
    positions = np.where(shown, rankings.positions, np.nan)[kept]
    places, number = np.unique(positions[np.isfinite(positions)], return_inverse=True)
    orders = np.full(positions.shape, -1)
    orders[np.isfinite(positions)] = number
    first = ranks == np.nanmin(ranks, axis=1, keepdims=True)
    share = first / first.sum(axis=1, keepdims=True)
    counts = _counts(share, orders[None], len(places))[0]
    cases = np.unique(rankings.cases[kept], return_inverse=True)[1]
    confounded = _confounded(rankings.methods, orders)
    p = math.nan if confounded else _p_value(share, orders, cases, len(places), exchanges, seed)
    means = [float(np.nanmean(ranks[orders == k])) for k in range(len(places))]
    return PositionBias(
        top1={int(p): float(c / kept.sum()) for p, c in zip(places, counts, strict=True)},
        mean_rank={int(p): mean for p, mean in zip(places, means, strict=True)},
        p=p,
        n=int(kept.sum()),
        cases=int(cases.max()) + 1,
        confounded=confounded,
    )


def _confounded(methods: tuple[str, ...], orders: NDArray[np.intp]) -> tuple[str, ...]:
    found = []
    for name, column in zip(methods, orders.T, strict=True):
        seen = column[column >= 0]
        if len(seen) and np.bincount(seen).max() >= CONFOUNDED * len(seen):
            found.append(name)
    return tuple(found)


def _p_value(
    share: Floats,
    orders: NDArray[np.intp],
    cases: NDArray[np.intp],
    places: int,
    exchanges: int,
    seed: int,
) -> float:
    """How often exchanged orders leave the first choices as uneven as they are."""
    drawn = np.concatenate(
        [
            _counts(share, block, places)
            for block in _exchanged(orders, cases, exchanges, np.random.default_rng(seed))
        ]
    )
    # What each place is expected to win with these methods and these orders.
    expected = drawn.mean(axis=0)
    scale = np.maximum(expected, 1e-9)
    observed = (((_counts(share, orders[None], places)[0] - expected) ** 2) / scale).sum()
    statistics = (((drawn - expected) ** 2) / scale).sum(axis=1)
    return float((1 + (statistics >= observed - 1e-9).sum()) / (1 + len(drawn)))


def _counts(share: Floats, orders: NDArray[np.intp], places: int) -> Floats:
    """``(B, places)`` first choices by place under each of ``(B, R, m)`` orders."""
    return np.stack([((orders == k) * share).sum(axis=(1, 2)) for k in range(places)], axis=1)


def _exchanged(
    orders: NDArray[np.intp], cases: NDArray[np.intp], exchanges: int, rng: np.random.Generator
) -> Iterator[NDArray[np.intp]]:
    """Orders exchanged between cases of one design, then among the rankings of each case."""
    groups = _designs(orders, cases)
    for start in range(0, exchanges, _BLOCK):
        block = np.repeat(orders[None], min(_BLOCK, exchanges - start), axis=0)
        for one in block:
            for rows in groups:
                moved = rows[rng.permutation(len(rows))]
                one[rows] = orders[rng.permuted(moved, axis=1)]
        yield block


def _designs(orders: NDArray[np.intp], cases: NDArray[np.intp]) -> list[NDArray[Any]]:
    """Rows of the rankings of each case, ``(cases, rankings)``, cases of one design together.

    Rankings exchange orders only with those that showed the same methods.
    """
    shown = [tuple(row) for row in orders >= 0]
    designs: dict[tuple[Any, ...], list[list[int]]] = {}
    for case in np.unique(cases):
        by_set: dict[tuple[Any, ...], list[int]] = {}
        for row in np.flatnonzero(cases == case):
            by_set.setdefault(shown[row], []).append(int(row))
        for methods, rows in by_set.items():
            designs.setdefault((methods, len(rows)), []).append(rows)
    return [np.array(rows) for rows in designs.values()]
