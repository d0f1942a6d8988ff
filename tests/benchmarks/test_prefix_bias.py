"""The bias of a mean gradient against planted ones: intervals cover, and equal means are equal."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.performance.prefix_bias import compare

#: Parameters, and the spread of a draw in each: two thirds of it in a fifth of them.
SIZE = 60
SPREAD = np.sqrt(1.3 * np.exp(-np.arange(SIZE) / 12) / np.exp(-np.arange(SIZE) / 12).sum())
MEAN = np.where(np.arange(SIZE) < 20, 1, 0) / np.sqrt(20)
ACROSS = np.where(np.arange(SIZE) >= 40, 1, 0) / np.sqrt(20)


@pytest.mark.parametrize(("along", "across", "shared"), [(0, 0, 0), (0.1, 0.2, 0), (0.1, 0.2, 0.8)])
def test_intervals_cover_planted_biases(along: float, across: float, shared: float) -> None:
    rng = np.random.default_rng(0)
    covered, flagged, count = np.zeros(2), 0, 400
    for _ in range(count):
        noise, own = rng.standard_normal((2, 100, SIZE))
        plain = MEAN + noise * SPREAD
        mixed = shared * noise + np.sqrt(1 - shared**2) * own
        found = compare(plain, (1 + along) * MEAN + across * ACROSS + mixed * SPREAD, 200)
        truth = along, np.hypot(along, across)
        for index, (_, low, high) in enumerate((found.along, found.apart)):
            covered[index] += low <= truth[index] <= high
        flagged += found.p <= 0.05
    assert (covered / count >= 0.89).all()
    assert flagged / count >= 0.9 if across else flagged / count <= 0.1
