"""Bootstrap of Bradley-Terry scores: all resamples at once against one choix fit each.

    python benchmarks/performance/preference.py [--resamples 2000] [--looped 100]

200 rankings of 5 methods (100 cases, 2 raters). Both maximum-likelihood solvers of choix are timed
in a loop over ``--looped`` resamples and scaled up; the estimates of those resamples are compared.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import choix
import numpy as np

from cas_metric.statistics import choice_model
from cas_metric.statistics.preference import Rankings
from cas_metric.statistics.uncertainty import cluster_codes, resampling_counts

CASES, RATERS, METHODS, SEED = 100, 2, 5, 42


def draw_rankings() -> Rankings:
    """Strict rankings drawn from a Plackett-Luce model with scores -1 to 1."""
    rng = np.random.default_rng(SEED)
    utilities = np.linspace(-1, 1, METHODS) + rng.gumbel(size=(CASES * RATERS, METHODS))
    ranks = np.argsort(np.argsort(-utilities, axis=1), axis=1) + 1.0
    return Rankings(
        methods=tuple("ABCDE"),
        cases=np.repeat(np.arange(CASES).astype(str), RATERS),
        raters=np.tile(["r1", "r2"], CASES),
        ranks=ranks,
    )


def loop_over_choix(
    rankings: Rankings, counts: np.ndarray, solve: Callable[..., np.ndarray]
) -> np.ndarray:
    """What one would write with choix alone: rebuild the pairs of each resample and fit them."""
    codes, _ = cluster_codes(rankings.cases, len(rankings.cases))
    fitted = []
    for row in counts:
        pairs = []
        for ranking, case in zip(rankings.ranks, codes, strict=True):
            order = np.argsort(ranking)
            once = [(order[i], order[j]) for i in range(METHODS) for j in range(i + 1, METHODS)]
            pairs += once * int(row[case])
        scores = solve(METHODS, pairs, alpha=0.0)
        fitted.append(scores - scores.mean())
    return np.array(fitted)


def main() -> None:
    """Time both, compare the estimates, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--looped", type=int, default=100)
    options = parser.parse_args()
    rankings = draw_rankings()

    start = time.process_time()
    codes, _ = cluster_codes(rankings.cases, len(rankings.cases))
    choices = choice_model.count_choices(rankings.ranks, codes, "bradley-terry")
    drawn = next(resampling_counts(CASES, options.resamples, SEED))
    choice_model.fit(choices.sets, np.einsum("bc,csm->bsm", drawn, choices.counts))
    ours = time.process_time() - start

    counts = next(resampling_counts(CASES, options.looped, SEED))
    batched = choice_model.fit(choices.sets, np.einsum("bc,csm->bsm", counts, choices.counts))

    print(
        f"{options.resamples} resamples of {len(rankings.ranks)} rankings of {METHODS} methods, "
        "CPU seconds"
    )
    print(f"  all together            {ours:9.3f} s   (with counting the choices)")
    for solve in (choix.ilsr_pairwise, choix.opt_pairwise):
        start = time.process_time()
        looped = loop_over_choix(rankings, counts, solve)
        theirs = (time.process_time() - start) * options.resamples / options.looped
        print(
            f"  loop, {solve.__name__:17s} {theirs:9.3f} s   (from {options.looped} resamples); "
            f"{theirs / ours:.0f} times as long; largest difference of a score "
            f"{np.abs(batched - looped).max():.1e}"
        )


if __name__ == "__main__":
    main()
