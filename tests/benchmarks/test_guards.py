"""The guards of a training alarm rarely where nothing is, and see what is."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.statistics.guards import Course, alarmed, fallen, flat, risen

RUNS = 80


def share(guard: str, course: Course, patience: int) -> float:
    rng = np.random.default_rng(7)
    return float(np.mean([alarmed(guard, 11, 32, course, rng, patience) for _ in range(RUNS)]))


@pytest.mark.parametrize(
    ("guard", "patience", "most"),
    [("divergence", 2, 0.05), ("divergence", 1, 0.05), ("exceeds_real", 1, 0.1)],
)
def test_a_healthy_run_seldom_alarms(guard: str, patience: int, most: float) -> None:
    assert share(guard, flat, patience) < most + 2 * np.sqrt(most * (1 - most) / RUNS)


@pytest.mark.parametrize(
    ("guard", "patience", "course"), [("divergence", 2, fallen(0.1)), ("exceeds_real", 1, risen)]
)
def test_what_is_there_is_found(guard: str, patience: int, course: Course) -> None:
    assert share(guard, course, patience) > 0.6
