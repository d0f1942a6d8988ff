"""Figure 8: K steps with gradients, T steps of a trajectory, M repeats."""

from __future__ import annotations

from typing import Any

from benchmarks.paper import methods
from benchmarks.paper.pipeline import Pipeline
from benchmarks.paper.recipes import GRADIENT_STEPS, REPEATS, TRAINING_STEPS
from benchmarks.paper.script import Report, Script, execute
from benchmarks.paper.steps import Step

PANELS = {"K": GRADIENT_STEPS, "T": TRAINING_STEPS, "M": REPEATS}


def steps(pipeline: Pipeline) -> tuple[Step, ...]:
    """Scores of every setting."""
    return tuple(step for rows in PANELS.values() for step in methods.scored_steps(pipeline, rows))


def report(pipeline: Pipeline) -> Report:
    """One table and one panel a parameter."""
    from cas_metric.report import figures
    from cas_metric.statistics.uncertainty import Interval

    def interval(entry: dict[str, Any]) -> Interval:
        low, high = entry["interval"]["cas"]
        return Interval(entry["mean"]["cas"], low, high, 0.95)

    parts, tables, drawn = [], {}, {}
    for name, recipes in PANELS.items():
        result, _, _ = methods.compared(pipeline, recipes)
        table = methods.score_table(result, pipeline.settings.paper_name, f"Figure 8, {name}")
        parts += [f"## {name}", table]
        tables[f"figure8_{name}"] = methods.flat(result)
        means = {entry["method"]: interval(entry) for entry in result["methods"]}
        drawn[f"figure8_{name}"] = figures.forest(means, real=None)
    return Report("\n\n".join(parts), tables, drawn)


SCRIPT = Script("figure8", "Figure 8: sensitivity to K, T and M", steps, report)

if __name__ == "__main__":
    execute(SCRIPT)
