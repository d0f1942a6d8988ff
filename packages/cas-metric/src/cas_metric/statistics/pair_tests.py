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

from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cas_metric.statistics.comparison import sign_flip_test
from cas_metric.statistics.uncertainty import Floats

#: Up to this sum of whole numbers their signs are enumerated.
MOST_WHOLE: Final = 3_000
#: Parts of the smallest value that are tried as the unit of whole numbers.
_PARTS: Final = 12
_STEPS: Final = 100
_TOLERANCE: Final = 1e-11


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
    gaps = ranks[:, None, :] - ranks[:, :, None]
    shape = (int(cases.max()) + 1, *gaps.shape[1:])
    net, asked = np.zeros(shape), np.zeros(shape)
    np.add.at(net, cases, np.nan_to_num(np.sign(gaps)))
    np.add.at(asked, cases, np.isfinite(gaps))
    asked *= 1 - np.eye(ranks.shape[1])
    return [
        _flipped(_parts(net, asked, pair, start, ridge))
        for pair in combinations(range(ranks.shape[1]), 2)
    ]


def _parts(
    net: Floats, asked: Floats, pair: tuple[int, int], start: Floats, ridge: float
) -> Floats:
    """``(cases,)`` what each adds to the efficient score of the difference, both scores equal."""
    m, total = len(start), asked.sum(axis=0)
    won = (net.sum(axis=0) + total).sum(axis=1) / 2
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
    # A win counts one and a tie one half: (net + asked) / 2.
    return np.einsum("cij,i->c", net / 2 + asked * (0.5 - chance), weights)


def _model(total: Floats, scores: Floats, ridge: float) -> tuple[Floats, Floats]:
    """``(m, m)`` chance of each to win, and minus the Hessian; the constant direction is fixed."""
    chance = 1 / (1 + np.exp(scores[None, :] - scores[:, None]))
    cross = total * chance * (1 - chance)
    return chance, np.diag(cross.sum(axis=1) + 2 * ridge) - cross + np.ones_like(cross)


def _flipped(parts: Floats) -> float:
    """Share of the patterns of signs that lead as far from zero."""
    size = np.abs(parts)
    size = np.where(size > 1e-9 * size.max(initial=0.0), size, 0.0)
    if not size.any():
        return 1.0
    least = size[size > 0].min()
    for part in range(1, _PARTS + 1):
        whole = np.sign(parts) * size / least * part
        if np.abs(whole).sum() > MOST_WHOLE:
            break
        if np.abs(whole - np.round(whole)).max() < 1e-6:
            return _enumerated(np.round(whole).astype(np.intp))
    return sign_flip_test(np.sign(parts) * size).value


def _enumerated(whole: NDArray[np.intp]) -> float:
    """The last of :func:`whole_p_values` of a row, added up: exact however small it is."""
    size = np.abs(whole)
    bound = int(size.sum())
    chance = np.zeros(2 * bound + 1)  # of every sum from -bound on
    chance[bound] = 1.0
    for step in size[size > 0]:
        chance = (np.roll(chance, step) + np.roll(chance, -step)) / 2
    far = np.abs(np.arange(-bound, bound + 1)) >= abs(int(whole.sum()))
    return min(float(chance[far].sum()), 1.0)


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
