"""How often the test of aligned copies calls copying where there is none.

    python -m benchmarks.copies.false_alarms

Real and generated images draw their evidence from one distribution; the threshold comes from the
real images that the exact test then holds the generated ones against.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from cas_metric.copies.aligned import MARGIN
from cas_metric.copies.neighbours import excess_p
from cas_metric.statistics.tables import markdown_table

REAL: Final = (10, 20, 50, 200, 300)
GENERATED: Final = (50, 500, 2000)
DRAWS: Final = 1000
Draw = Callable[[np.random.Generator, int], Any]
EVIDENCE: Final[dict[str, Draw]] = {
    "exponential": lambda rng, size: rng.exponential(size=size),
    "lognormal, σ 1": lambda rng, size: rng.lognormal(0, 1, size),
    "lognormal, σ 2": lambda rng, size: rng.lognormal(0, 2, size),
    "Pareto, exponent 1.5": lambda rng, size: rng.pareto(1.5, size),
    "normal, 5 ± 1": lambda rng, size: rng.normal(5, 1, size),
}


def alarms(draw: Draw, real: int, generated: int, rng: np.random.Generator) -> float:
    """Share of draws with p below 0.05."""
    found = 0
    for _ in range(DRAWS):
        usual, ours = draw(rng, real), draw(rng, generated)
        threshold = MARGIN * np.quantile(usual, 0.95)
        found += excess_p(ours > threshold, usual > threshold) < 0.05
    return found / DRAWS


def main() -> None:
    """Print the share of alarms at 5%, the greatest over numbers of generated images."""
    rng = np.random.default_rng(0)
    rows = [
        [name, *(f"{max(alarms(draw, real, n, rng) for n in GENERATED):.3f}" for real in REAL)]
        for name, draw in EVIDENCE.items()
    ]
    print(markdown_table(["evidence", *(f"{real} real" for real in REAL)], rows))


if __name__ == "__main__":
    main()
