"""How often `cas fidelity` flags harmless sets, planted shifts and planted sites.

    python -m benchmarks.statistics.cohort --draws 200 --part flags
    python -m benchmarks.statistics.cohort --draws 2000 --part ratio

Features are drawn from normal distributions with known truth. Printed are the share of harmless
draws in which anything is flagged (the generated set or the reference), the share of sets shifted
by 0.2 standard deviations that are found farther than real, the share of two-site references that
are found out, and how often the 95% interval of the ratio holds the true ratio.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import numpy as np

from cas_metric.sets.cohort import FLAG_LEVEL, kernel_test, size_matched
from cas_metric.sets.comparison import ImageSet
from cas_metric.sets.fidelity import frechet_distance
from cas_metric.sets.reference import examine


class Setting(NamedTuple):
    """Sizes of a simulation: images of a set, images of each patient or reference."""

    generated: int
    real: int
    dim: int
    per_patient: int = 1
    per_reference: int = 1


SETTINGS = (
    Setting(200, 200, 16),
    Setting(200, 400, 64, per_patient=4),
    Setting(200, 400, 16, per_patient=4, per_reference=4),
)
#: What is counted: of harmless draws, of shifted sets, of references of two sites.
FLAGS = ("harmless", "shifted", "site named", "site hidden")
#: Shifts at which the interval of the ratio is looked at.
SHIFTS = (0.0, 0.5)


def draw(rng: np.random.Generator, n: int, dim: int, per: int) -> tuple[np.ndarray, np.ndarray]:
    """``n`` images, ``per`` of each patient, who makes half of the variance; falling spectrum."""
    own = rng.normal(size=(-(-n // per), dim))
    shared = 0.5 if per > 1 else 0.0
    rows = np.sqrt(shared) * np.repeat(own, per, axis=0)[:n]
    rows += np.sqrt(1 - shared) * rng.normal(size=(n, dim))
    return rows / np.sqrt(np.arange(1, dim + 1)), np.repeat(np.arange(len(own)), per)[:n]


def simulate(setting: Setting, draws: int) -> dict[str, float]:
    """Shares over ``draws`` of what is flagged."""
    counts = dict.fromkeys(FLAGS, 0)
    deviation = 1 / np.sqrt(np.arange(1, setting.dim + 1))
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        ours, own = draw(rng, setting.generated, setting.dim, setting.per_reference)
        real, patients = draw(rng, setting.real, setting.dim, setting.per_patient)
        site = (patients % 2).astype(str)
        blank = np.full(len(real), "")

        reference = ImageSet(real, blank, patients)
        wrong = bool(examine(reference, {"site": site})[0]["apart"])
        wrong |= examine(reference, {})[0]["two_groups"] is not None
        counts["harmless"] += wrong or _flagged(ours, own, real, patients, seed)
        counts["shifted"] += _flagged(ours + 0.2 * deviation, own, real, patients, seed)
        near = real + 0.5 * deviation * (site == "1")[:, None]
        named = examine(ImageSet(near, blank, patients), {"site": site})[0]
        counts["site named"] += bool(named["apart"])
        far = real.copy()
        far[site == "1", :2] += 5 * deviation[:2]
        hidden = examine(ImageSet(far, blank, patients), {})[0]
        counts["site hidden"] += hidden["two_groups"] is not None
    return {name: count / draws for name, count in counts.items()}


def _flagged(
    rows: np.ndarray, own: np.ndarray, real: np.ndarray, patients: np.ndarray, seed: int
) -> bool:
    test = kernel_test(rows, real, generated_clusters=own, real_clusters=patients, seed=seed)
    return test is not None and test.p <= FLAG_LEVEL


def ratio_coverage(setting: Setting, shift: float, draws: int) -> float:
    """Share of intervals that hold the ratio of expected distances at the size of a block."""
    intervals, ours, theirs = [], [], []
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        generated, _ = draw(rng, setting.generated, setting.dim, 1)
        real, patients = draw(rng, setting.real, setting.dim, setting.per_patient)
        found = size_matched(
            generated + shift, real, frechet_distance, real_clusters=patients, seed=seed
        )
        assert found is not None
        intervals.append((found.low, found.high))
        ours.append(np.log(found.generated))
        theirs.append(np.log(found.real))
    truth = np.exp(np.mean(ours) - np.mean(theirs))
    return float(np.mean([low <= truth <= high for low, high in intervals]))


def main() -> None:
    """Print one or both tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--part", choices=("flags", "ratio"), action="append")
    arguments = parser.parse_args()
    sizes = "| generated / real | dimensions | a patient | a reference |"
    for part in arguments.part or ("flags", "ratio"):
        columns = list(FLAGS) if part == "flags" else [f"shift {shift}" for shift in SHIFTS]
        print(f"{sizes} {' | '.join(columns)} |")
        print("| --- " * (4 + len(columns)) + "|")
        for one in SETTINGS:
            if part == "flags":
                shares = list(simulate(one, arguments.draws).values())
            else:
                shares = [ratio_coverage(one, shift, arguments.draws) for shift in SHIFTS]
            cells = [f"{one.generated} / {one.real}", one.dim, one.per_patient, one.per_reference]
            cells += [f"{share:.3f}" for share in shares]
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)
        print()


if __name__ == "__main__":
    main()
