"""How often do the guards of a training find what is not there, and do they find what is?

``python -m benchmarks.statistics.guards [--runs 400]``

Looks at held-out prompts are drawn, each prompt's CAS scattering from look to look on its own: the
worst case, for weights of a run change little between two looks. The trainer's own guards see them,
look by look. Of ``divergence`` the reward rises at every look, as in a run that goes well.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Final

import numpy as np

from cas_metric.statistics.rounding import percent
from cas_metric.statistics.tables import markdown_table
from craft_trainer.config.validation import Guards
from craft_trainer.guards.reward_hacking import Look, examine

LOOKS: Final = (6, 11, 21, 41)
PROMPTS: Final = (16, 32, 100)
#: Of one prompt's CAS between looks.
SCATTER: Final = 0.1
_NAMES: Final = ("vdc", "ccs", "dd", "dd_prob", "sfs", "cas")
_STATISTICS: Final = {
    "edge_density": 0.05,
    "saturation": 0.1,
    "entropy": 4.0,
    "noise": 0.1,
    "grid": 1.0,
    "diversity": 0.3,
    "copies": 0.0,
}
Course = Callable[[float], float]


def flat(_: float) -> float:
    """CAS stays where it is."""
    return 0.0


def risen(share: float) -> float:
    """CAS rises by 0.05 in the first half and stays."""
    return 0.05 * min(1.0, 2 * share)


def fallen(by: float) -> Course:
    """As :func:`risen`, and falls by as much in the second half."""
    return lambda share: risen(share) - by * max(0.0, 2 * share - 1)


def alarmed(
    guard: str, looks: int, prompts: int, course: Course, rng: np.random.Generator, patience: int
) -> bool:
    """Whether a guard found something in a run of so many looks.

    For ``exceeds_real`` the samples are as good as the real images, and ``course`` lifts them.
    """
    others = [name for name in Guards.model_fields if name != "baseline"]
    settings = {name: {"reaction": "off"} for name in others}
    guards = Guards.model_validate({**settings, guard: {"patience": patience}})
    base = rng.normal(0.45, 0.1, prompts)
    real = Look(0, {name: tuple(base) for name in _NAMES}, _STATISTICS)
    seen: list[Look] = []
    for number in range(looks):
        level = base + course(number / (looks - 1))
        scores = {name: tuple(level + rng.normal(0.0, SCATTER, prompts)) for name in _NAMES}
        seen.append(Look(number, scores, _STATISTICS, float(number) if number else None))
        if examine(seen, real, guards):
            return True
    return False


def share(guard: str, looks: int, prompts: int, course: Course, patience: int, runs: int) -> str:
    """Of so many runs that the guard found something in."""
    rng = np.random.default_rng(looks * prompts)
    found = [alarmed(guard, looks, prompts, course, rng, patience) for _ in range(runs)]
    return percent(float(np.mean(found)))


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=400)
    runs = parser.parse_args().runs
    cells = [(looks, prompts) for prompts in PROMPTS for looks in LOOKS]
    columns: dict[str, tuple[str, Course, int]] = {
        "divergence, CAS flat": ("divergence", flat, 2),
        "rises": ("divergence", risen, 2),
        "flat, patience 1": ("divergence", flat, 1),
        "falls by 0.05": ("divergence", fallen(0.05), 2),
        "by 0.1": ("divergence", fallen(0.1), 2),
        "exceeds_real, as real": ("exceeds_real", flat, 1),
        "0.05 above": ("exceeds_real", risen, 1),
    }
    rows = [
        (
            str(prompts),
            str(looks),
            *(share(g, looks, prompts, course, wait, runs) for g, course, wait in columns.values()),
        )
        for looks, prompts in cells
    ]
    print(markdown_table(("prompts", "looks", *columns), rows))


if __name__ == "__main__":
    main()
