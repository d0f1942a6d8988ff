"""Figure 3 and Table 13: classifiers of real and synthetic images, and their accuracy against CAS.

The synthetic images are made from the training prompts: those of held-out images describe the very
images that the classifiers are tested on.
"""

from __future__ import annotations

import re

from benchmarks.paper.pipeline import Pipeline
from benchmarks.paper.recipes import CRAFT, MAIN
from benchmarks.paper.script import Report, Script, execute
from benchmarks.paper.steps import Step

from cas_metric.statistics.tables import PHANTOM_NOTICE

#: The paper's five shared methods, and the enriched LoRA.
ROWS = tuple(recipe.name for recipe in MAIN)
PRINTED = (
    "The paper, on all data, CRAFT against the best baseline: Fitzpatrick17k 0.664 and 0.656, "
    "CheXpert 0.570 and 0.566, BreakHis 0.838 and 0.795, ORIGA 0.801 and 0.791. Its correlation of "
    "CAS with accuracy over five methods: Pearson 0.974 on Fitzpatrick17k, 0.972 on CheXpert."
)


def steps(pipeline: Pipeline) -> tuple[Step, ...]:
    """One experiment over all methods, data scales and seeds."""
    return (pipeline.utility(ROWS, CRAFT.name),)


def report(pipeline: Pipeline) -> Report:
    """What `cas utility` found, beside what the paper states."""
    folder = pipeline.utility(ROWS, CRAFT.name).result.parent
    text = (folder / "utility.md").read_text(encoding="utf-8").replace(PHANTOM_NOTICE, "")
    # Its title is a level too high here.
    text = re.sub(r"^#", "##", text.strip(), flags=re.MULTILINE)
    return Report(f"{titled(text)}\n\n{PRINTED}")


def titled(text: str) -> str:
    """Recipe names, by which sets and runs are joined, as the titles of the paper's tables."""
    titles = {recipe.name: recipe.title for recipe in MAIN}
    names = "|".join(sorted(titles, key=len, reverse=True))
    return re.sub(rf"(?<![\w.])({names})(?![\w.])", lambda match: titles[match[1]], text)


SCRIPT = Script("figure3", "Figure 3 and Table 13: downstream utility", steps, report)

if __name__ == "__main__":
    execute(SCRIPT)
