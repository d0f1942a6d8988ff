"""Tables 19 to 22: how many images of each class, real and generated."""

from __future__ import annotations

from collections import Counter

import pandas as pd
from benchmarks.paper.pipeline import Pipeline
from benchmarks.paper.recipes import CRAFT
from benchmarks.paper.script import Report, Script, execute
from benchmarks.paper.steps import Step

from cas_metric.datasets.paper_tables import LABEL_TABLES
from cas_metric.manifest import read_manifest
from cas_metric.statistics.tables import markdown_table


def steps(pipeline: Pipeline) -> tuple[Step, ...]:
    """The data and one generated set."""
    return (pipeline.images(CRAFT.name),)


def report(pipeline: Pipeline) -> Report:
    """Counts beside those of the paper; a generated set has those of the test split."""
    generated = pipeline.images(CRAFT.name).result.parent
    sides = {"train": pipeline.train, "test": pipeline.test, "synthetic": generated}
    counts = {name: Counter(read_manifest(path).rows["label"]) for name, path in sides.items()}
    table = LABEL_TABLES.get(pipeline.settings.domain.removeprefix("phantom-"))
    lines = []
    for label in sorted(counts["test"]):
        printed = table.rows.get(label, ("–", "–")) if table else ("–", "–")
        drawn = counts["synthetic"][label] / pipeline.scale.seeds
        lines.append(
            [label, counts["train"][label], printed[0], counts["test"][label], printed[1], drawn]
        )
    headings = ["Condition", "Train", "paper", "Test", "paper", "Synthetic, a seed"]
    columns = ["label", "train", "paper_train", "test", "paper_test", "synthetic"]
    text = markdown_table(headings, [[str(cell) for cell in line] for line in lines])
    return Report(text, {"table19": pd.DataFrame(lines, columns=columns)})


SCRIPT = Script("table19", "Tables 19 to 22: label distribution", steps, report)

if __name__ == "__main__":
    execute(SCRIPT)
