"""How much of a difference between methods is the luck of a training?

``python -m benchmarks.phantoms.training_seeds phantom-chexpert [--out runs/phantom-craft]``

Goes on from what ``benchmarks.phantoms.craft --also cheaper`` made in the same folder. The control,
the paper's CRAFT and the chosen one are trained again from the same TI + LoRA with each of
:data:`TRAININGS`: another order of the images, other times and noise. Each draws the held-out
prompts with :data:`SEEDS` seeds, as many as are taken of the first training. TI + LoRA itself is
not trained again. An interrupted run continues; a finished one prints its tables again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import yaml

from benchmarks.paper.steps import Step, as_command, run
from benchmarks.phantoms.craft import Continuation, Experiment
from benchmarks.phantoms.judging import distance, gain, ratio, unseen
from benchmarks.phantoms.recipes import EVALUATORS, FURTHER, METHODS
from cas_metric.files import write_bytes
from cas_metric.manifest import read_manifest, write_manifest
from cas_metric.phantoms import DOMAINS
from cas_metric.statistics.comparison import case_table, paired_differences
from cas_metric.statistics.tables import PHANTOM_NOTICE, markdown_table, number

#: Seeds of further trainings; that of the whole path is 42.
FIRST: Final = 42
TRAININGS: Final = (43, 44)
SEEDS: Final = 2
COMPARED: Final = ("control", "craft", "cheaper")
#: Table of the images of the first :data:`SEEDS` seeds, beside them.
FIRST_IMAGES: Final = "first-seeds.csv"


class Training(Continuation):
    """The commands of one domain and one further seed, in a folder within that of the domain."""

    methods = COMPARED
    seeds = SEEDS

    def __init__(self, domain: str, folder: Path, seed: int) -> None:
        super().__init__(domain, folder, f"training-{seed}")
        self.seed = seed

    def configuration(
        self, output: str, stages: list[dict[str, Any]], start: Path | None = None
    ) -> str:
        """As in the whole path, with another seed."""
        values = yaml.safe_load(super().configuration(output, stages, start))
        return yaml.safe_dump({**values, "seed": self.seed}, sort_keys=False)

    def steps(self) -> list[Step]:
        """All commands, each after what it needs."""
        steps = [self.data(), self.adapted()]
        for name in self.methods:
            steps += [self.continued(name), self.images(name)]
            steps += [self.scores(encoder, name) for encoder in EVALUATORS]
        return steps


def distances(one: Experiment, real: Path) -> list[Step]:
    """Of each method's first images to unseen phantoms."""
    folder = one.folder / "distances"
    return [
        distance(name, one.images(name).result.parent / FIRST_IMAGES, real, folder / name)
        for name in COMPARED
    ]


def write_first_images(one: Experiment, name: str) -> Path:
    """A table of as many images of a method as every training has: distances depend on it."""
    drawn = read_manifest(one.images(name).result.parent)
    kept = np.flatnonzero(drawn.rows["seed"].astype(int) < SEEDS)
    return write_manifest(drawn.take(kept).rows, drawn.root / FIRST_IMAGES)


def measure(trainings: Iterable[Experiment], real: Path) -> None:
    """All distances; a log tells its steps apart by name, so that each training has its own."""
    for one in trainings:
        for name in COMPARED:
            write_first_images(one, name)
        run(distances(one, real), one.folder / "distances.log")


def read(trainings: Mapping[int, Experiment], encoder: str) -> pd.DataFrame:
    """The rows of all trainings, the method named ``METHOD SEED``, with as many seeds of each."""
    tables = []
    for seed, one in trainings.items():
        for name in COMPARED:
            rows = pd.read_csv(one.scores(encoder, name).result.parent / "per_image.csv")
            rows = rows[rows["seed"] < SEEDS]
            tables.append(rows.assign(method=f"{name} {seed}", name=name, training=seed))
    return pd.concat(tables, ignore_index=True)


def means(rows: pd.DataFrame, quantity: str) -> str:
    """A row a method, a column a training, and their standard deviation."""
    table = rows.pivot_table(index="name", columns="training", values=quantity)
    lines = [
        ({**METHODS, **FURTHER}[name], *map(number, table.loc[name]), number(table.loc[name].std()))
        for name in COMPARED
    ]
    heads = (quantity.upper(), *(f"training {seed}" for seed in table), "standard deviation")
    return markdown_table(heads, lines)


def differences(rows: pd.DataFrame) -> str:
    """Paired differences in CAS within each training, and of the means over trainings.

    The intervals are over cases. The last column's hold the trainings fixed; how the differences
    scatter over them is for the reader to see, as three say little of a variance.
    """
    table, clusters = case_table(rows)
    trainings = sorted(rows["training"].unique())
    lines = []
    for left, right in (("craft", "control"), ("cheaper", "control"), ("cheaper", "craft")):
        pairs = [(table[f"{left} {seed}"], table[f"{right} {seed}"]) for seed in trainings]
        pairs.append(tuple(sum(side) / len(trainings) for side in zip(*pairs, strict=True)))
        cells = []
        for own, other in pairs:
            (pair,) = paired_differences({left: own, right: other}, clusters=clusters)
            found = pair.difference
            cells.append(gain(found.estimate, found.low, found.high))
        lines.append((f"{left} − {right}", *cells))
    heads = ("difference in CAS", *(f"training {seed}" for seed in trainings), "mean of trainings")
    return markdown_table(heads, lines)


def report(trainings: Mapping[int, Experiment], real: Path) -> str:
    """Means, differences and distances of every training."""
    domain = trainings[FIRST].domain
    parts = [PHANTOM_NOTICE, f"# Trainings of CRAFT on {domain}"]
    for encoder in EVALUATORS:
        rows = read(trainings, encoder)
        parts += [f"## By {encoder}", means(rows, "cas"), means(rows, "dd"), differences(rows)]
    columns = [
        [f"{ratio(step):.1f}" for step in distances(one, real)] for one in trainings.values()
    ]
    lines = list(zip(COMPARED, *columns, strict=True))
    heads = ("Fréchet ratio", *(f"training {seed}" for seed in trainings))
    return "\n\n".join([*parts, "## Distance", markdown_table(heads, lines)]) + "\n"


def main() -> None:
    """Run what is not done yet, then write and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("domain", choices=DOMAINS)
    parser.add_argument("--out", type=Path, default=Path("runs/phantom-craft"))
    parser.add_argument("--trainings", type=int, nargs="+", default=TRAININGS, metavar="SEED")
    options = parser.parse_args()
    folder = options.out / options.domain
    first = Experiment(options.domain, folder)
    further = {seed: Training(options.domain, folder, seed) for seed in options.trainings}
    trainings: dict[int, Experiment] = {FIRST: first, **further}
    others = unseen(options.domain, folder)
    real = others.result.parent
    with as_command():
        for training in further.values():
            training.link()
            run(training.steps(), training.folder / "steps.log")
        run([others], folder / "steps.log")
        measure(trainings.values(), real)
    text = report(trainings, real)
    write_bytes(folder / "trainings.md", text.encode())
    print(text)


if __name__ == "__main__":
    main()
