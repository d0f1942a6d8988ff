"""Table 4: each reward alone (a), and each left out (b)."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.paper import methods
from benchmarks.paper.pipeline import Pipeline
from benchmarks.paper.recipes import CRAFT, LEAVE_ONE_OUT, RECIPES, SINGLE
from benchmarks.paper.script import Report, Script, execute
from benchmarks.paper.steps import Step

#: The paper's base is the model that the rewards are added to.
ADDED = (replace(RECIPES["ti_lora_ep"], title="Base"), *SINGLE)
LEFT_OUT = (replace(CRAFT, title="Full"), *LEAVE_ONE_OUT)


def steps(pipeline: Pipeline) -> tuple[Step, ...]:
    """Scores of all variants."""
    return methods.scored_steps(pipeline, (*ADDED, *LEFT_OUT))


def report(pipeline: Pipeline) -> Report:
    """Both halves of the table."""
    name = pipeline.settings.paper_name
    added, _, _ = methods.compared(pipeline, ADDED, focus="Base")
    left_out, _, _ = methods.compared(pipeline, LEFT_OUT, focus="Full")
    text = [
        "## (a) One reward added",
        methods.score_table(added, name, "Table 4a"),
        methods.pair_table(added, "Base"),
        "## (b) One left out",
        methods.score_table(left_out, name, "Table 4b"),
        methods.pair_table(left_out, "Full"),
    ]
    tables = {"table4a": methods.flat(added), "table4b": methods.flat(left_out)}
    return Report("\n\n".join(text), tables)


SCRIPT = Script("table4", "Table 4: ablation of the rewards", steps, report)

if __name__ == "__main__":
    execute(SCRIPT)
