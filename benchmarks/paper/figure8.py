"""Figure 8: K steps with gradients, T steps of a trajectory, M repeats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.paper import methods
from benchmarks.paper.pipeline import Pipeline
from benchmarks.paper.recipes import GRADIENT_STEPS, REPEATS, TRAINING_STEPS, Recipe
from benchmarks.paper.script import Report, Script, execute
from benchmarks.paper.steps import Step

PANELS = {"K": GRADIENT_STEPS, "T": TRAINING_STEPS, "M": REPEATS}
#: The setting that the paper chose in each panel.
CHOSEN = {"K": "K = 1", "T": "T = 20", "M": "M = 2"}


def steps(pipeline: Pipeline) -> tuple[Step, ...]:
    """Scores of every setting."""
    return tuple(step for rows in PANELS.values() for step in methods.scored_steps(pipeline, rows))


def report(pipeline: Pipeline) -> Report:
    """One table and one panel a parameter, differences from the chosen setting, and the cost."""
    from cas_metric.report import figures
    from cas_metric.statistics.uncertainty import Interval

    def interval(entry: dict[str, Any]) -> Interval:
        low, high = entry["interval"]["cas"]
        return Interval(entry["mean"]["cas"], low, high, 0.95)

    parts, tables, drawn = [], {}, {}
    for name, recipes in PANELS.items():
        result, _, _ = methods.compared(pipeline, recipes, focus=CHOSEN[name])
        table = methods.score_table(result, pipeline.settings.paper_name, f"Figure 8, {name}")
        parts += [f"## {name}", table, methods.pair_table(result, CHOSEN[name])]
        parts.append(
            f"Passes of one image through the UNet in training: {_cost(pipeline, recipes)}."
        )
        tables[f"figure8_{name}"] = methods.flat(result)
        means = {entry["method"]: interval(entry) for entry in result["methods"]}
        drawn[f"figure8_{name}"] = figures.forest(means, real=None)
    return Report("\n\n".join(parts), tables, drawn)


def _cost(pipeline: Pipeline, recipes: Sequence[Recipe]) -> str:
    """What each setting takes, whatever the machine."""
    work = {recipe.title: pipeline.adapter(recipe.name).work for recipe in recipes}
    return ", ".join(f"{title}: {done.forwards:,.0f}" for title, done in work.items())


SCRIPT = Script("figure8", "Figure 8: sensitivity to K, T and M", steps, report)

if __name__ == "__main__":
    execute(SCRIPT)
