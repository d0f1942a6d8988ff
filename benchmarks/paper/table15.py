"""Table 15: the weight of the diagnostic reward."""

from __future__ import annotations

from benchmarks.paper import methods
from benchmarks.paper.pipeline import Pipeline
from benchmarks.paper.recipes import DD_WEIGHTS
from benchmarks.paper.script import Report, Script, execute
from benchmarks.paper.steps import Step


def steps(pipeline: Pipeline) -> tuple[Step, ...]:
    """Scores at every weight."""
    return methods.scored_steps(pipeline, DD_WEIGHTS)


def report(pipeline: Pipeline) -> Report:
    """DD and CAS at every weight."""
    result, _, _ = methods.compared(pipeline, DD_WEIGHTS, focus="0.20")
    name = pipeline.settings.paper_name
    text = [
        methods.score_table(result, name, "Table 15", ("dd", "cas")),
        methods.pair_table(result, "0.20"),
    ]
    return Report("\n\n".join(text), {"table15": methods.flat(result)})


SCRIPT = Script("table15", "Table 15: weight of the diagnostic reward", steps, report)

if __name__ == "__main__":
    execute(SCRIPT)
