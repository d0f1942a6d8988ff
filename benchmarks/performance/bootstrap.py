"""Paired bootstrap of five methods on 3,100 cases, and the coverage of the intervals.

    python benchmarks/performance/bootstrap.py [--coverage N]

Prints the CPU time of 2,000 paired resamples, the same through ``scipy.stats.bootstrap`` method by
method, and, with ``--coverage N``, in how many of N simulated data sets the 95% interval holds the
truth: for a mean, a clustered mean, the tail rate and a preference score. Set OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from scipy import stats

from cas_metric.statistics.preference import Rankings, preference_scores
from cas_metric.statistics.tail import tail_statistics
from cas_metric.statistics.uncertainty import bootstrap_mean, bootstrap_means

METHODS, CASES, RESAMPLES, SEED = 5, 3100, 2000, 42


def time_bootstrap() -> None:
    """One matrix of resampling counts for all methods, against scipy's loop."""
    values = np.random.default_rng(SEED).normal(0.4, 0.15, size=(CASES, METHODS))
    start = time.process_time()
    ours = bootstrap_means(values, resamples=RESAMPLES).std(axis=0)
    together = time.process_time() - start
    start = time.process_time()
    theirs = [
        stats.bootstrap(
            (column,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=SEED
        ).standard_error
        for column in values.T
    ]
    separate = time.process_time() - start
    print(f"{RESAMPLES} resamples of {METHODS} methods x {CASES} cases, CPU seconds")
    print(f"  together, paired      {together:6.2f} s")
    print(f"  scipy, one by one     {separate:6.2f} s   (unpaired)")
    print(f"  standard errors differ by at most {np.abs(ours / theirs - 1).max():.1%}")


def covers(interval: object, truth: float) -> bool:
    """Whether an interval holds the truth."""
    return bool(interval.low <= truth <= interval.high)  # type: ignore[attr-defined]


def mean_of_mixture(rng: np.random.Generator) -> bool:
    """CAS-like values: two modes a quarter apart."""
    values = rng.normal(0.32, 0.03, 300) + 0.25 * (rng.random(300) < 0.6)
    return covers(bootstrap_mean(values, resamples=1000, seed=int(rng.integers(2**31))), 0.47)


def clustered_mean(rng: np.random.Generator) -> bool:
    """100 patients with 1 to 5 images each and a shared effect."""
    sizes = rng.integers(1, 6, 100)
    clusters = np.repeat(np.arange(100), sizes)
    values = rng.normal(0, 1, 100)[clusters] + rng.normal(0, 0.5, len(clusters))
    return covers(
        bootstrap_mean(values, clusters=clusters, resamples=1000, seed=int(rng.integers(2**31))),
        0.0,
    )


def tail_rate(rng: np.random.Generator) -> bool:
    """Unimodal scores; the threshold is estimated from 400 real images."""
    truth = float(stats.norm.cdf(stats.norm.ppf(0.25, 0.5, 0.1), 0.45, 0.1))
    found = tail_statistics(
        rng.normal(0.45, 0.1, 400),
        rng.normal(0.5, 0.1, 400),
        resamples=1000,
        seed=int(rng.integers(2**31)),
    )
    return covers(found.rate, truth)


def preference_score(rng: np.random.Generator) -> bool:
    """150 rankings of four methods from a Plackett-Luce model."""
    truth = np.array([-0.6, -0.2, 0.2, 0.6])
    utilities = truth + rng.gumbel(size=(150, 4))
    ranks = np.argsort(np.argsort(-utilities, axis=1), axis=1) + 1.0
    cases = np.arange(150).astype(str)
    found = preference_scores(
        Rankings(tuple("ABCD"), cases, np.full(150, "r"), ranks),
        model="plackett-luce",
        resamples=500,
        seed=int(rng.integers(2**31)),
    )
    return covers(found.scores["D"], truth[3])


def main() -> None:
    """Time, and simulate coverage when asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--coverage", type=int, default=0, metavar="N")
    options = parser.parse_args()
    time_bootstrap()
    if options.coverage:
        print(f"coverage of the 95% intervals in {options.coverage} simulated data sets")
        for simulate in (mean_of_mixture, clustered_mean, tail_rate, preference_score):
            rng = np.random.default_rng(SEED)
            hits = sum(simulate(rng) for _ in range(options.coverage))
            print(f"  {simulate.__name__:18s} {hits / options.coverage:6.1%}")


if __name__ == "__main__":
    main()
