"""Error of Bradley-Terry strengths by how the pairs of a study are chosen.

Five methods, true strengths known; pairs at random, in balance, or by the information that they are
expected to add. The three see the same strengths. Studies choose in balance.

    python -m benchmarks.study.pair_choice
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import combinations
from typing import Final

import numpy as np

from cas_metric.study.pairs import Floats, choose_pair

METHODS = 5
PAIRS = list(combinations(range(METHODS), 2))
Choose = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[int, int]]


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


def at_random(wins: np.ndarray, shown: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    """Any pair."""
    return PAIRS[int(rng.integers(len(PAIRS)))]


def in_balance(wins: np.ndarray, shown: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    """As a study does: one of the pairs that were shown least."""
    return choose_pair(shown, np.zeros_like(shown), rng)


def by_information(
    wins: np.ndarray, shown: np.ndarray, rng: np.random.Generator
) -> tuple[int, int]:
    """The pair that is expected to add most, or nearly."""
    added = gains(wins, shown)
    best = max(added[pair] for pair in PAIRS)
    good = [pair for pair in PAIRS if added[pair] >= 0.98 * best]
    return good[int(rng.integers(len(good)))]


def error(truth: np.ndarray, choose: Choose, count: int, rng: np.random.Generator) -> float:
    """Root of the mean squared error of the strengths after ``count`` comparisons."""
    wins, shown = np.zeros((METHODS, METHODS)), np.zeros((METHODS, METHODS))
    for _ in range(count):
        one, other = choose(wins, shown, rng)
        won = rng.random() < 1 / (1 + np.exp(truth[other] - truth[one]))
        wins[(one, other) if won else (other, one)] += 1
        shown[one, other] += 1
        shown[other, one] += 1
    return float(np.sqrt(((strengths(wins) - truth) ** 2).mean()))


def main() -> None:
    """Print a row for each spread of strengths, number of comparisons and half of the seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=100)
    options = parser.parse_args()
    print("| half | spread | comparisons | random | balanced | by information |")
    print("| --- | --- | --- | --- | --- | --- |")
    for half in (0, 1):
        for spread in (0.5, 1.5, 3.0):
            for count in (60, 200):
                means = []
                for choose in (at_random, in_balance, by_information):
                    rng = np.random.default_rng([half, int(10 * spread), count])
                    truths = rng.normal(0, spread, (options.studies, METHODS))
                    truths -= truths.mean(axis=1, keepdims=True)
                    means.append(np.mean([error(truth, choose, count, rng) for truth in truths]))
                cells = " | ".join(f"{mean:.3f}" for mean in means)
                print(f"| {half} | {spread} | {count} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
