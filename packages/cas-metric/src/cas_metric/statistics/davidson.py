"""Davidson's model: Bradley-Terry with ties as an outcome of their own.

Out of a pair, i is preferred with weight ``exp(s_i)``, j with ``exp(s_j)``, and the two tie with
weight ``nu * exp((s_i + s_j) / 2)``. It is a log-linear model, so its likelihood is concave.

Its maximum is finite when no direction of the parameters keeps every observed outcome as likely as
any other of its pair while some outcome fades. That asks for more than Ford's condition for
preferences alone: a method that now wins and now ties, but never loses, has no finite score.

Source: Davidson (1970, J. Am. Stat. Assoc. 65:317); Albert and Anderson (1984, Biometrika 71:1) for
when the maximum of a log-linear choice model exists.
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cas_metric.errors import InputError
from cas_metric.statistics.choice_model import Choices, check_connected, name_groups
from cas_metric.statistics.uncertainty import Floats

_TOLERANCE = 1e-10
_MAX_STEPS = 100


class Fit(NamedTuple):
    """Maximum-likelihood estimates.

    Attributes:
        scores: ``(m,)`` log-scores, of mean zero.
        errors: ``(cases, m)`` what each case adds to their error.
        ties: nu, the weight of a tie; 0 where there is none.
    """

    scores: Floats
    errors: Floats
    ties: float


def fit(ranks: Floats, cases: NDArray[np.intp], methods: list[str]) -> Fit:
    """Fit the model to rankings.

    Args:
        ranks: ``(R, m)`` rank of each method, 1 best; NaN where it was not ranked.
        cases: ``(R,)`` number of the case of each ranking.
        methods: Names, for errors.

    Raises:
        InputError: The comparisons do not determine the scores, or every pair is tied.
    """
    pairs = np.array(list(combinations(range(ranks.shape[1]), 2)))
    counts = _outcomes(ranks, cases, pairs)
    total = counts.sum(axis=0)
    _check(total, pairs, methods)
    tied = bool(total[:, 2].any())
    design = _design(pairs, ranks.shape[1], tied)
    if tied:
        _check_bounded(total, design, methods)
    values = np.zeros(design.shape[2])
    for _ in range(_MAX_STEPS):
        gradients, hessian = _derivatives(total[None], design, values)
        step = np.linalg.solve(hessian, gradients[0])
        values = values + step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-300))
        if np.abs(step).max() < _TOLERANCE:
            break
    gradients, hessian = _derivatives(counts, design, values)
    errors = np.linalg.solve(hessian, gradients.T).T[:, : ranks.shape[1]]
    scores = values[: ranks.shape[1]]
    return Fit(
        scores - scores.mean(),
        errors - errors.mean(axis=1, keepdims=True),
        float(np.exp(values[-1])) if tied else 0.0,
    )


def _outcomes(ranks: Floats, cases: NDArray[np.intp], pairs: NDArray[np.intp]) -> Floats:
    """``(cases, P, 3)``: how often the first was preferred, the second, and neither."""
    gaps = ranks[:, pairs[:, 1]] - ranks[:, pairs[:, 0]]
    outcome = np.stack([gaps > 0, gaps < 0, gaps == 0], axis=2).astype(np.float64)
    counts = np.zeros((int(cases.max()) + 1, len(pairs), 3))
    np.add.at(counts, cases, outcome)
    return counts


def _check(total: Floats, pairs: NDArray[np.intp], methods: list[str]) -> None:
    if not total[:, :2].any():
        raise InputError("every pair is tied: no method is preferred to another")
    sets = np.zeros((len(pairs), len(methods)), dtype=bool)
    wins = np.zeros((len(pairs), len(methods)))
    for row, (i, j) in enumerate(pairs):
        sets[row, [i, j]] = True
        # A tie holds both scores together, as half a win for either does.
        wins[row, [i, j]] = total[row, :2] + total[row, 2] / 2
    check_connected(Choices(sets, wins[None]), methods)


def _check_bounded(total: Floats, design: Floats, methods: list[str]) -> None:
    """Refuse outcomes along some direction of which the likelihood never falls."""
    from scipy.optimize import linprog

    # (observed, other) of each pair: how much faster the log weight of the observed one grows.
    pair, outcome = np.nonzero(total)
    gains = (design[pair, outcome, None] - design[pair]).reshape(-1, design.shape[2])
    limits = np.r_[np.ones(len(gains)), np.zeros(len(gains))]
    found = linprog(-gains.sum(axis=0), np.r_[gains, -gains], limits, bounds=(None, None))
    if -found.fun < 0.5:
        return
    _, groups = np.unique(-found.x[:-1].round(6), return_inverse=True)
    raise InputError(
        "the scores are unbounded: between the groups "
        + name_groups(groups, methods)
        + " one side won or tied in every comparison, or ties alone were seen",
        fix="collect more rankings, or count a tie as half a win (--model bradley-terry)",
    )


def _design(pairs: NDArray[np.intp], m: int, tied: bool) -> Floats:
    """``(P, 3, m + 1)`` what each parameter adds to the log weight of each outcome."""
    design = np.zeros((len(pairs), 3, m + 1))
    rows = np.arange(len(pairs))
    design[rows, 0, pairs[:, 0]] = design[rows, 1, pairs[:, 1]] = 1.0
    design[rows, 2, pairs[:, 0]] = design[rows, 2, pairs[:, 1]] = 0.5
    design[:, 2, m] = 1.0
    return design if tied else design[:, :2, :m]


def _derivatives(counts: Floats, design: Floats, values: Floats) -> tuple[Floats, Floats]:
    """``(B, k)`` gradients of the log-likelihood and minus the Hessian of their sum."""
    counts = counts[:, :, : design.shape[1]]
    weights = np.exp(design @ values)
    chance = weights / weights.sum(axis=1, keepdims=True)
    expected = np.einsum("po,pok->pk", chance, design)
    sizes = counts.sum(axis=2)
    gradients = np.einsum("bpo,pok->bk", counts, design) - sizes @ expected
    total = sizes.sum(axis=0)
    centred = design - expected[:, None, :]
    hessian = np.einsum("p,po,pok,pol->kl", total, chance, centred, centred)
    constant = np.zeros(len(values))
    constant[: len(values) - (design.shape[1] == 3)] = 1.0
    return gradients, hessian + np.outer(constant, constant)
