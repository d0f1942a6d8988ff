"""Table 12: adaptation from 10 and 20 images a class."""

from __future__ import annotations

from benchmarks.paper import methods
from benchmarks.paper.pipeline import Pipeline
from benchmarks.paper.recipes import SHOTS, few_shot
from benchmarks.paper.script import Report, Script, execute
from benchmarks.paper.steps import Step


def steps(pipeline: Pipeline) -> tuple[Step, ...]:
    """Scores of every method on every number of shots."""
    return tuple(
        step for shots in SHOTS for step in methods.scored_steps(pipeline, few_shot(shots))
    )


def report(pipeline: Pipeline) -> Report:
    """One table a number of shots."""
    parts, tables = [], {}
    for shots in SHOTS:
        result, _, _ = methods.compared(pipeline, few_shot(shots), focus="CRAFT")
        table = methods.score_table(
            result, pipeline.settings.paper_name, f"Table 12, {shots}-shot", ("cas",)
        )
        parts += [f"## {shots} images a class", table, methods.pair_table(result, "CRAFT")]
        tables[f"table12_{shots}shot"] = methods.flat(result)
    return Report("\n\n".join(parts), tables)


SCRIPT = Script("table12", "Table 12: few-shot adaptation", steps, report)

if __name__ == "__main__":
    execute(SCRIPT)
