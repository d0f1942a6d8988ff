"""Whether one method is preferred to another: an exact test over cases.

If two methods are equally good, what the raters of a case say would be as likely with the two names
exchanged. So each case contributes its part of the score of the difference, taken where the
Bradley-Terry scores of the two are held equal, and its sign is a coin toss. With two methods that
part is the number of raters who prefer the one less those who prefer the other, and with one rater
the test is the binomial sign test. Wald's test, the estimate over its error, loses its power where
one method wins nearly always: the error grows faster than the estimate (Hauck and Donner).

Source: Rao (1948) for the score; Kline and Santos (2012, J. Econom. Methods 1:23) for flipping the
signs of clusters' scores; Hauck and Donner (1977, J. Am. Stat. Assoc. 72:851).
"""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations
from math import comb
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cas_metric.statistics.comparison import EXACT_CLUSTERS, sign_flip_test, sign_flip_values
from cas_metric.statistics.uncertainty import Floats

#: Up to this sum of whole numbers their signs are enumerated.
MOST_WHOLE: Final = 3_000
#: Parts of the smallest value that are tried as the unit of whole numbers.
_PARTS: Final = 12
_STEPS: Final = 100
_TOLERANCE: Final = 1e-11


class _Totals(NamedTuple):
    """What the raters of each case said.

    Attributes:
        net: ``(cases, m)`` wins of each method less its losses.
        kinds: ``(kinds, m * m)`` how often a case of each kind compared each two methods.
        kind: ``(cases,)`` positions in ``kinds``.
        compared: ``(m, m)`` how often any case compared them.
    """

    net: Floats
    kinds: Floats
    kind: NDArray[np.intp]
    compared: Floats


def pair_p_values(
    ranks: Floats, cases: NDArray[np.intp], start: Floats, *, ridge: float = 0.0
) -> list[float]:
    """Two-sided p-value of every pair of methods, in the order of ``combinations``.

    Args:
        ranks: ``(R, m)`` rank of each method, 1 best; NaN where it was not ranked.
        cases: ``(R,)`` number of the case of each ranking, from 0.
        start: ``(m,)`` log-scores from which the fits begin.
        ridge: Weight of a quadratic penalty on the scores; needed where they have no finite fit.
    """
    m, count = ranks.shape[1], int(cases.max()) + 1
    gaps = ranks[:, None, :] - ranks[:, :, None]
    net, asked = np.zeros((count, m)), np.zeros((count, m, m))
    np.add.at(net, cases, np.nan_to_num(np.sign(gaps)).sum(axis=2))
    np.add.at(asked, cases, np.isfinite(gaps) & ~np.eye(m, dtype=bool))
    # Cases are mostly asked about alike.
    kinds, kind = np.unique(asked.reshape(count, -1), axis=0, return_inverse=True)
    totals = _Totals(net, kinds, kind.reshape(-1), asked.sum(axis=0))
    pairs = combinations(range(m), 2)
    parts = np.stack([_parts(totals, pair, start, ridge) for pair in pairs], axis=1)
    found = np.array([_enumerated(column) for column in parts.T])
    drawn = np.isnan(found)
    if drawn.any():
        found[drawn] = sign_flip_values(parts[:, drawn])
    return [float(value) for value in found]


def _parts(totals: _Totals, pair: tuple[int, int], start: Floats, ridge: float) -> Floats:
    """``(cases,)`` what each adds to the efficient score of the difference, both scores equal.

    What is nothing but for rounding is nothing.
    """
    m, total = len(start), totals.compared
    won = (totals.net.sum(axis=0) + total.sum(axis=1)) / 2
    tied = np.eye(m)
    tied[pair[1]] = tied[pair[0]]  # one parameter for both
    tied = np.delete(tied, pair[1], axis=1)
    free = np.linalg.pinv(tied) @ start
    for _ in range(_STEPS):
        scores = tied @ free
        chance, curvature = _model(total, scores, ridge)
        gradient = won - (total * chance).sum(axis=1) - 2 * ridge * scores
        step = np.linalg.solve(tied.T @ curvature @ tied, tied.T @ gradient)
        free = free + step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-300))
        if np.abs(step).max() < _TOLERANCE:
            break
    chance, curvature = _model(total, tied @ free, ridge)
    contrast = np.zeros(m)
    contrast[list(pair)] = 1.0, -1.0
    weights = np.linalg.solve(curvature, contrast)
    # A win counts one and a tie one half: (net + compared) / 2.
    expected = totals.kinds @ ((0.5 - chance) * weights[:, None]).ravel()
    parts = totals.net @ weights / 2 + expected[totals.kind]
    return np.where(np.abs(parts) > 1e-9 * np.abs(parts).max(), parts, 0.0)


def _model(total: Floats, scores: Floats, ridge: float) -> tuple[Floats, Floats]:
    """``(m, m)`` chance of each to win, and minus the Hessian; the constant direction is fixed."""
    chance = 1 / (1 + np.exp(scores[None, :] - scores[:, None]))
    cross = total * chance * (1 - chance)
    return chance, np.diag(cross.sum(axis=1) + 2 * ridge) - cross + np.ones_like(cross)


def _enumerated(parts: Floats) -> float:
    """Share of the patterns of signs that lead as far from zero, exact however small it is.

    NaN of too many patterns: they are added up where the parts are few, or whole numbers in some
    unit.
    """
    parts = parts[parts != 0]
    if len(parts) <= EXACT_CLUSTERS:
        return sign_flip_test(parts).value
    least = np.abs(parts).min()
    for part in range(1, _PARTS + 1):
        whole = parts / least * part
        if np.abs(whole).sum() > MOST_WHOLE:
            break
        if np.abs(whole - np.round(whole)).max() < 1e-6:
            return _added_up(np.round(whole).astype(np.intp))
    return np.nan


def _added_up(whole: NDArray[np.intp]) -> float:
    """The last of :func:`whole_p_values` of a row, to as many digits where it is tiny."""
    chance = np.ones(1)  # of every sum, from the lowest on
    for size, count in zip(*np.unique(np.abs(whole), return_counts=True), strict=True):
        tosses = np.zeros(2 * size * count + 1)
        tosses[:: 2 * size] = _heads(int(count))
        chance = np.convolve(chance, tosses)
    bound = len(chance) // 2
    far = np.abs(np.arange(-bound, bound + 1)) >= abs(int(whole.sum()))
    return min(float(chance[far].sum()), 1.0)


@lru_cache
def _heads(count: int) -> tuple[float, ...]:
    """Chance of 0, 1, ... heads in ``count`` tosses, each correctly rounded."""
    return tuple(comb(count, heads) / 2**count for heads in range(count + 1))


def whole_p_values(net: NDArray[np.intp]) -> Floats:
    """Exact two-sided p-values of the sum of whole numbers whose signs are coin tosses.

    Args:
        net: ``(B, n)``.

    Returns:
        ``(B, n)``: of the first number of each row, of the first two, and so on.

    Examples:
        >>> found = whole_p_values(np.array([[1, 1, 1, 1, 1, -1]]))
        >>> round(float(found[0, -1]), 5)  # 14 of 64 patterns
        0.21875
    """
    size = np.abs(net)
    bound = int(size.sum(axis=1).max())
    # The characteristic function of a sum of signs is a product of cosines; on as many points as
    # there are sums its inverse is exact. Both halves of the points are alike.
    angles = 2 * np.pi * np.arange(bound + 1) / (2 * bound + 1)
    cosines = np.cos(np.outer(np.arange(size.max() + 1), angles))
    reach = np.arange(bound + 1)[:, None]
    inner = np.sin((reach - 0.5) * angles[1:]) / np.sin(angles[1:] / 2)
    below = 2 * np.c_[reach - 0.5, inner] / (2 * bound + 1)  # all sums nearer to zero than reach
    below[0] = 0.0
    product, found = np.ones((len(net), bound + 1)), np.empty(net.shape)
    for k, total in enumerate(np.abs(net.cumsum(axis=1)).T):
        product *= cosines[size[:, k]]
        found[:, k] = 1 - np.einsum("bj,bj->b", product, below[total])
    return found.clip(0.0, 1.0)
