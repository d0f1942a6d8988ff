"""Whether ``cas preference`` keeps its level, and finds what ``cas study plan`` promises.

    python -m benchmarks.statistics.planned [--repetitions 2000]

Studies of two methods are drawn with raters who agree (beta-binomial), and every p-value is that of
``preference_scores``, with a small ridge as the verb asks for it where one method always won.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
from numpy.random import Generator

from cas_metric.statistics.preference import Rankings, preference_scores
from cas_metric.statistics.rounding import fixed, percent
from cas_metric.statistics.tables import markdown_table
from cas_metric.study.planning import Plan, cases_needed

ALPHA = 0.05
CORRELATION = 0.3


def found(rng: Generator, win_rate: float, cases: int, raters: int) -> float:
    """The p-value of one study."""
    total = 1 / CORRELATION - 1
    chance = rng.beta(win_rate * total, (1 - win_rate) * total, (cases, 1))
    better = (rng.random((cases, raters)) < chance).reshape(-1, 1)
    ranks = np.where(better, [1.0, 2.0], [2.0, 1.0])
    case, rater = np.divmod(np.arange(len(ranks)), raters)
    data = Rankings(("better", "other"), case, rater, ranks)
    return preference_scores(data, ridge=0.01).differences[0].p


def share(rng: Generator, win_rate: float, cases: int, raters: int, repetitions: int) -> float:
    """Studies in which the test finds a difference."""
    p = [found(rng, win_rate, cases, raters) for _ in range(repetitions)]
    return float(np.mean(np.array(p) <= ALPHA))


def levels(rng: Generator, repetitions: int) -> Iterator[list[str]]:
    """Rejections without a difference, a row a number of cases."""
    for cases in (5, 7, 10, 15, 20, 40):
        rates = [share(rng, 0.5, cases, raters, repetitions) for raters in (1, 2, 3, 5)]
        yield [str(cases), *map(percent, rates)]


def powers(rng: Generator, repetitions: int) -> Iterator[list[str]]:
    """Rejections in studies planned for 80%."""
    for win_rate, raters in (
        (0.9, 1),
        (0.9, 3),
        (0.8, 1),
        (0.8, 3),
        (0.7, 2),
        (0.65, 1),
        (0.65, 4),
    ):
        cases = cases_needed(Plan(win_rate, CORRELATION), raters)
        assert cases is not None
        rate = share(rng, win_rate, cases, raters, repetitions)
        yield [fixed(win_rate, 2), str(raters), str(cases), percent(rate)]


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=2000)
    repetitions = parser.parse_args().repetitions
    rng = np.random.default_rng(2001)
    heads = ["cases", *(f"{n} rater{'s' * (n > 1)}" for n in (1, 2, 3, 5))]
    print(markdown_table(heads, list(levels(rng, repetitions))))
    heads = ["win rate", "raters", "cases planned for 80%", "found"]
    print("\n" + markdown_table(heads, list(powers(rng, repetitions))))


if __name__ == "__main__":
    main()
