"""Table 6: what everything cost, from the log of this very run."""

from __future__ import annotations

from collections import defaultdict

from benchmarks.paper import methods
from benchmarks.paper import steps as graph
from benchmarks.paper.pipeline import Pipeline
from benchmarks.paper.recipes import MAIN
from benchmarks.paper.script import Report, Script, execute, log_of

from cas_metric.statistics.tables import markdown_table


def steps(pipeline: Pipeline) -> tuple[graph.Step, ...]:
    """Those of Table 1: there is no cost without them."""
    return methods.scored_steps(pipeline, MAIN)


def report(pipeline: Pipeline) -> Report:
    """Minutes a family of steps, and each training."""
    seconds = graph.times(log_of(pipeline))
    families: dict[str, list[int]] = defaultdict(list)
    for name, value in seconds.items():
        families[name.split("/")[0]].append(value)
    families_table = markdown_table(
        ["Family", "steps", "minutes"],
        [[name, str(len(v)), f"{sum(v) / 60:.1f}"] for name, v in families.items()],
    )
    trainings = [
        [name, f"{value / 60:.1f}"]
        for name, value in seconds.items()
        if name.startswith("adapters/")
    ]
    text = [
        families_table,
        markdown_table(["Training", "minutes"], trainings),
        "The paper, on an RTX 6000 Ada: textual inversion 0.9 h a class, TI+LoRA 10–11 min and "
        "CRAFT 1.3 h a CheXpert run, scoring 1 min a CheXpert seed.",
    ]
    return Report("\n\n".join(text))


SCRIPT = Script("table6", "Table 6: compute", steps, report)

if __name__ == "__main__":
    execute(SCRIPT)
