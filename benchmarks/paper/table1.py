"""Table 1, with Tables 5 and 14: the methods on one data set, their seeds and their tails.

``python -m benchmarks.paper.table1 --domain phantom-chexpert``
"""

from __future__ import annotations

from benchmarks.paper import methods
from benchmarks.paper.pipeline import Pipeline
from benchmarks.paper.recipes import CONTROL, CRAFT, MAIN
from benchmarks.paper.script import Report, Script, execute
from benchmarks.paper.steps import Step

ROWS = (*MAIN, CONTROL)


def steps(pipeline: Pipeline) -> tuple[Step, ...]:
    """Scores of all methods."""
    return methods.scored_steps(pipeline, ROWS)


def report(pipeline: Pipeline) -> Report:
    """Means, intervals and paired differences."""
    result, _, _ = methods.compared(pipeline, ROWS, focus=CRAFT.title)
    text = [
        methods.score_table(result, pipeline.settings.paper_name, "Table 1"),
        "Intervals resample cases. The spread is over generation seeds of one trained model. "
        "“LoRA, continued” had as many further steps as CRAFT, without a reward.",
        methods.pair_table(result, CRAFT.title),
        *(f"- Warning: {warning}" for warning in result["warnings"]),
    ]
    return Report("\n\n".join(text), {"table1": methods.flat(result)})


SCRIPT = Script("table1", "Table 1: alignment of the methods", steps, report)

if __name__ == "__main__":
    execute(SCRIPT)
