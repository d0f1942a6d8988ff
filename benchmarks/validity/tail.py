"""Does the interval of a generated set's low share hold the truth, calibration error included?

    python -m benchmarks.validity.tail [--draws 2000] [--generated 200 --real 50 200]

An image has one number; real ones are normal, generated ones the same, lower by a standard
deviation, or so low that nearly all are low. They are ranked among as many real images as the run
has, and the interval is that of ``calibrated.tail.tail_table``. The truth is the share of all
generated images below the real population's own quantile. Also printed: how often the interval of
a set that is exchangeable with Real lies wholly above the level, which would be a false alarm.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.stats import norm

from cas_metric.statistics.tables import markdown_table
from cas_metric.statistics.tail import tail_statistics

GENERATED, REAL, LEVELS, SHIFTS = (10, 20, 50, 200), (20, 50, 200), (0.05, 0.1, 0.25), (0, 1, 3)


def draw(
    rng: np.random.Generator, generated: int, real: int, shift: float
) -> tuple[np.ndarray, np.ndarray]:
    """Smoothed conformal ranks of generated images, and of each real one among the others."""
    own, known = rng.normal(-shift, size=generated), np.sort(rng.normal(size=real))
    ties = rng.uniform(size=generated), rng.uniform(size=real)
    ranks = (np.searchsorted(known, own) + ties[0]) / (real + 1)
    return ranks, (np.arange(real) + ties[1]) / real


def main() -> None:
    """Print coverage and mean width."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--generated", type=int, nargs="+", default=GENERATED)
    parser.add_argument("--real", type=int, nargs="+", default=REAL)
    options = parser.parse_args()
    draws, body = options.draws, []
    for generated in options.generated:
        for real in options.real:
            rng = np.random.default_rng([generated, real])
            line = [str(generated), str(real)]
            for shift in SHIFTS:
                truth = [norm.cdf(norm.ppf(level) + shift) for level in LEVELS]
                ends = np.empty((draws, len(LEVELS), 2))
                for k in range(draws):
                    ranks, known = draw(rng, generated, real, shift)
                    for column, level in enumerate(LEVELS):
                        found = tail_statistics(ranks, known, quantile=level).rate
                        ends[k, column] = found.low, found.high
                told = np.isfinite(ends).all(axis=2)
                for k, level in enumerate(LEVELS):
                    low, high = ends[told[:, k], k].T
                    held = ((low <= truth[k]) & (truth[k] <= high)).mean() if len(low) else np.nan
                    line.append(f"{held:.3f}")
                    if not shift:
                        line.append(f"{(low > level).mean() if len(low) else np.nan:.3f}")
            body.append(line)
            print(line, flush=True)
    head = []
    for shift in SHIFTS:
        for level in LEVELS:
            head.append(f"{level}, {shift} SD")
            head += [f"{level}: alarms"] if not shift else []
    print(markdown_table(["generated", "real", *head], body))


if __name__ == "__main__":
    main()
