"""Error of Bradley-Terry strengths by how the pairs of a study are chosen.

Five methods, true strengths known; pairs at random, in balance, or by the information that they are
expected to add (:mod:`cas_metric.study.pairs`). The three see the same strengths.

    python -m benchmarks.study.pair_choice
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import combinations

import numpy as np

from cas_metric.study.pairs import choose_pair, strengths

METHODS = 5
PAIRS = list(combinations(range(METHODS), 2))
Choose = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[int, int]]


def at_random(wins: np.ndarray, shown: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    """Any pair."""
    return PAIRS[int(rng.integers(len(PAIRS)))]


def in_balance(wins: np.ndarray, shown: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    """One of the pairs that were shown least."""
    least = min(shown[pair] for pair in PAIRS)
    fewest = [pair for pair in PAIRS if shown[pair] == least]
    return fewest[int(rng.integers(len(fewest)))]


def by_information(
    wins: np.ndarray, shown: np.ndarray, rng: np.random.Generator
) -> tuple[int, int]:
    """As a study does."""
    return choose_pair(wins, shown, np.zeros_like(shown), rng)


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
