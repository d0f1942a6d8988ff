"""Luce's choice model on counts: Bradley-Terry and Plackett-Luce are two ways to count.

A ranking becomes *choices*: from a set of methods, one was preferred. Bradley-Terry takes every
pair as a set of two; Plackett-Luce takes the stages of a ranking, each a choice of the best among
those that remain. Under either, counts per (set, winner) are all that the likelihood needs, so a
resample of cases is a weighting of count tables, and all resamples are fitted by one batched Newton
iteration instead of one optimisation each.

Source: Luce (1959); Hunter (2004, Ann. Statist. 32:384) for the likelihood and for when its maximum
exists.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cas_metric.errors import InputError
from cas_metric.statistics.uncertainty import Floats

MODELS = ("bradley-terry", "plackett-luce")

#: Newton stops when no score moves by more than this.
_TOLERANCE = 1e-12
_MAX_STEPS = 200
#: A step is shortened to this length: far from the maximum a full one can overshoot.
_MAX_MOVE = 2.0


class Choices(NamedTuple):
    """Counts of choices, case by case.

    Attributes:
        sets: ``(S, m)`` which of the m methods each set of alternatives holds.
        counts: ``(cases, S, m)`` how often each method was preferred out of each set. A tie in a
            pair counts half for either side.
    """

    sets: NDArray[np.bool_]
    counts: Floats

    def total(self) -> Floats:
        """``(S, m)`` counts over all cases."""
        return self.counts.sum(axis=0)


def count_choices(ranks: Floats, cases: NDArray[np.intp], model: str) -> Choices:
    """Turn rankings into choices.

    Args:
        ranks: ``(R, m)`` rank of each method in each ranking, 1 best; NaN where it was not ranked.
        cases: ``(R,)`` number of the case of each ranking; rankings of one case are added up.
        model: ``bradley-terry`` or ``plackett-luce``. Tied methods: half a win each in a pair; in
            a stage each is chosen from the same set (Breslow's treatment of ties).

    Raises:
        InputError: For another model.
    """
    if model not in MODELS:
        raise InputError(f"unknown preference model {model!r}", fix=f"use one of {MODELS}")
    split = _pairs if model == "bradley-terry" else _stages
    tally: dict[tuple[int, ...], dict[tuple[int, int], float]] = defaultdict(dict)
    for ranking, case in zip(ranks, cases, strict=True):
        for members, winner, weight in split(ranking):
            cell = tally[members]
            cell[int(case), winner] = cell.get((int(case), winner), 0.0) + weight
    m = ranks.shape[1]
    sets = np.zeros((len(tally), m), dtype=bool)
    counts = np.zeros((int(cases.max(initial=-1)) + 1, len(tally), m))
    for row, (members, cells) in enumerate(sorted(tally.items())):
        sets[row, list(members)] = True
        for (case, winner), weight in cells.items():
            counts[case, row, winner] = weight
    return Choices(sets, counts)


def _pairs(ranking: Floats) -> list[tuple[tuple[int, ...], int, float]]:
    ranked = np.flatnonzero(np.isfinite(ranking))
    choices: list[tuple[tuple[int, ...], int, float]] = []
    for i, j in combinations(ranked.tolist(), 2):
        if ranking[i] == ranking[j]:
            choices += [((i, j), i, 0.5), ((i, j), j, 0.5)]
        else:
            choices.append(((i, j), i if ranking[i] < ranking[j] else j, 1.0))
    return choices


def _stages(ranking: Floats) -> list[tuple[tuple[int, ...], int, float]]:
    choices: list[tuple[tuple[int, ...], int, float]] = []
    for rank in np.unique(ranking[np.isfinite(ranking)]):
        remaining = tuple(np.flatnonzero(ranking >= rank).tolist())
        if len(remaining) > 1:
            chosen = np.flatnonzero(ranking == rank).tolist()
            choices += [(remaining, winner, 1.0) for winner in chosen]
    return choices


def beats(sets: NDArray[np.bool_], counts: Floats) -> NDArray[np.bool_]:
    """Who was ever preferred to whom: ``(…, m, m)`` from counts ``(…, S, m)``."""
    return np.einsum("...si,sj->...ij", counts, sets.astype(np.float64)) > 0


def is_identified(preferred: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether a finite maximum exists: every method reaches every other along preferences.

    Args:
        preferred: ``(…, m, m)`` of :func:`beats`.

    Returns:
        ``(…)``; Ford's condition (1957) of strong connectedness.
    """
    reach = preferred | np.eye(preferred.shape[-1], dtype=bool)
    for _ in range(max(1, int(np.ceil(np.log2(preferred.shape[-1]))))):
        reach = (reach.astype(np.float32) @ reach.astype(np.float32)) > 0
    return np.asarray(reach.all(axis=(-2, -1)))


def check_connected(choices: Choices, methods: list[str]) -> None:
    """Refuse data from which the scores cannot be told.

    Raises:
        InputError: If some methods were never compared with the others, or if a group was preferred
            to the rest in every comparison (its scores would be infinite); both name the groups.
    """
    from scipy.sparse.csgraph import connected_components

    preferred = beats(choices.sets, choices.total())
    n_weak, weak = connected_components(preferred, directed=False)
    if n_weak > 1:
        raise InputError(
            "the comparisons fall apart into groups that were never compared with each other: "
            + name_groups(weak, methods),
            fix="rank methods of different groups together in at least one case",
        )
    n_strong, strong = connected_components(preferred, directed=True, connection="strong")
    if n_strong > 1:
        raise InputError(
            "the scores are unbounded: between the groups "
            + name_groups(strong, methods)
            + " one side was preferred in every comparison",
            fix="report win rates, collect more rankings, or give --ridge a small positive value "
            "such as 0.01, for finite scores and p-values",
        )


def name_groups(labels: NDArray[Any], methods: list[str]) -> str:
    """The methods of each label, as ``{a, b} | {c}``."""
    groups = [[m for m, g in zip(methods, labels, strict=True) if g == k] for k in set(labels)]
    return " | ".join("{" + ", ".join(group) + "}" for group in groups)


def fit(
    sets: NDArray[np.bool_], counts: Floats, *, ridge: float = 0.0, start: Floats | None = None
) -> Floats:
    """Maximum-likelihood scores of many count tables at once.

    Args:
        sets: ``(S, m)`` alternatives of each set.
        counts: ``(B, S, m)`` preferred counts of each table.
        ridge: Weight a of the penalty a * sum(scores^2); 0 is maximum likelihood.
        start: ``(m,)`` scores from which all tables start; None starts at zero.

    Returns:
        ``(B, m)`` log-scores, each row of mean zero; NaN where no finite maximum exists.
    """
    members = sets.astype(np.float64)
    batch, m = counts.shape[0], counts.shape[2]
    bounded = np.full(batch, True) if ridge > 0 else is_identified(beats(sets, counts))
    scores = np.tile(np.zeros(m) if start is None else start, (int(bounded.sum()), 1))
    wins, sizes = counts[bounded].sum(axis=1), counts[bounded].sum(axis=2)
    for _ in range(_MAX_STEPS):
        step = _newton_step(members, wins, sizes, scores, ridge)
        largest = np.abs(step).max(axis=1, keepdims=True, initial=0.0)
        scores = scores + step * np.minimum(1.0, _MAX_MOVE / np.maximum(largest, 1e-300))
        if largest.max(initial=0.0) < _TOLERANCE:
            break
    fitted = np.full((batch, m), np.nan)
    fitted[bounded] = scores - scores.mean(axis=1, keepdims=True)
    return fitted


def case_errors(choices: Choices, scores: Floats, *, ridge: float = 0.0) -> Floats:
    """What each case adds to the error of the fitted scores: one Newton step of its own gradient.

    Args:
        choices: Counts case by case.
        scores: ``(m,)`` the fit of all cases.
        ridge: Penalty weight of the fit.

    Returns:
        ``(cases, m)``, summing to zero over cases; each row has mean zero.
    """
    m, cases = len(scores), len(choices.counts)
    strength = choices.sets * np.exp(scores - scores.max())
    chance = strength / strength.sum(axis=1, keepdims=True)
    sizes = choices.counts.sum(axis=2)
    gradients = choices.counts.sum(axis=1) - sizes @ chance - 2 * ridge * scores / cases
    total = sizes.sum(axis=0)
    hessian = np.diag(total @ chance + 2 * ridge) - np.einsum("s,si,sj->ij", total, chance, chance)
    # The constant direction carries nothing.
    errors = np.linalg.solve(hessian + np.ones((m, m)), gradients.T).T
    return np.asarray(errors - errors.mean(axis=1, keepdims=True))


def _newton_step(
    members: Floats, wins: Floats, sizes: Floats, scores: Floats, ridge: float
) -> Floats:
    """Newton step of the penalised log-likelihood, ``(B, m)``.

    Args:
        members: ``(S, m)`` 0/1 membership.
        wins: ``(B, m)`` choices won.
        sizes: ``(B, S)`` choices made from each set.
        scores: ``(B, m)``.
        ridge: Penalty weight.
    """
    m = scores.shape[1]
    strength = np.exp(scores - scores.max(axis=1, keepdims=True))
    # Expected wins out of a set are proportional to strength, so sums over sets are products with
    # the membership table: nothing of size (B, S, m) is built.
    totals = strength @ members.T
    per_set = sizes / totals
    gradient = wins - strength * (per_set @ members) - 2 * ridge * scores
    weights = per_set / totals
    together = (members[:, :, None] * members[:, None, :]).reshape(len(members), -1)
    cross = (weights @ together).reshape(-1, m, m)
    hessian = -strength[:, :, None] * strength[:, None, :] * cross
    diagonal = strength * (per_set @ members) + 2 * ridge
    hessian[:, np.arange(m), np.arange(m)] += diagonal
    # The likelihood does not change along the constant vector: fix that direction at zero.
    scale = np.trace(hessian, axis1=1, axis2=2)[:, None, None] / m
    return np.linalg.solve(hessian + scale / m, gradient[:, :, None])[:, :, 0]
