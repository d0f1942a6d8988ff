"""How often `cas fidelity` says that a class lies nearer to another one.

    python -m benchmarks.statistics.nearest --draws 300

Three normal classes in 16 dimensions, so many standard deviations from one another. Printed are the
share of runs with a warning of any class, first of sets drawn from their own classes, then of sets
that lie halfway between all of them and off by a standard deviation; and the share of runs in which
two swapped classes are named, one at least and both.
"""

from __future__ import annotations

import argparse

import numpy as np

from cas_metric.sets.comparison import ImageSet, nearest_classes

DIMENSIONS = 16
CLASSES = ("a", "b", "c")
SIZES = ((10, 14), (10, 40), (20, 40), (20, 70), (40, 40), (40, 200))
GAPS = (0.0, 0.7, 1.5, 2.5)


def draw(
    seed: int,
    generated: int,
    real: int,
    *,
    gap: float,
    swapped: bool = False,
    halfway: bool = False,
) -> tuple[ImageSet, ImageSet]:
    """A generated and a real set with so many images of each class."""
    rng = np.random.default_rng(seed)
    centres = gap / np.sqrt(2) * np.eye(len(CLASSES), DIMENSIONS)
    theirs = np.repeat(centres, real, axis=0) + rng.normal(size=(3 * real, DIMENSIONS))
    if swapped:
        centres = centres[[1, 0, 2]]
    if halfway:
        centres = np.tile(centres.mean(axis=0) + np.eye(DIMENSIONS)[5], (3, 1))
    ours = np.repeat(centres, generated, axis=0) + rng.normal(size=(3 * generated, DIMENSIONS))
    sets = [
        ImageSet(rows, np.repeat(CLASSES, len(rows) // 3), np.arange(len(rows)))
        for rows in (ours, theirs)
    ]
    return sets[0], sets[1]


def warned(ours: ImageSet, real: ImageSet) -> list[str]:
    """The classes of which it is said that they lie nearer to another one."""
    found = nearest_classes({"m": ours}, real)["m"]
    return [name for name, one in found.items() if one["nearest_class"] != name]


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=300)
    draws = range(parser.parse_args().draws)
    print("| gap | generated / real a class | own | halfway | swapped, one | both |")
    print("| --- " * 6 + "|")
    for gap in GAPS:
        for sizes in SIZES:
            own = [warned(*draw(seed, *sizes, gap=gap)) for seed in draws]
            halfway = [warned(*draw(seed, *sizes, gap=gap, halfway=True)) for seed in draws]
            swapped = [set(warned(*draw(seed, *sizes, gap=gap, swapped=True))) for seed in draws]
            one = [bool({"a", "b"} & names) for names in swapped]
            both = [{"a", "b"} <= names for names in swapped]
            shares = [np.mean([bool(names) for names in half]) for half in (own, halfway)]
            shares += [np.mean(one), np.mean(both)]
            cells = [gap, f"{sizes[0]} / {sizes[1]}", *(f"{share:.3f}" for share in shares)]
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
