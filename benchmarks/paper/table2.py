"""Table 2: what enriched prompts add without a reward."""

from __future__ import annotations

from benchmarks.paper import methods
from benchmarks.paper.pipeline import Pipeline
from benchmarks.paper.recipes import MAIN
from benchmarks.paper.script import Report, Script, execute
from benchmarks.paper.steps import Step

ROWS = tuple(recipe for recipe in MAIN if recipe.name in ("ti_lora", "ti_lora_ep", "craft"))


def steps(pipeline: Pipeline) -> tuple[Step, ...]:
    """Scores of the three methods."""
    return methods.scored_steps(pipeline, ROWS)


def report(pipeline: Pipeline) -> Report:
    """CAS of the three, and what each adds."""
    result, _, _ = methods.compared(pipeline, ROWS, focus="TI+LoRA+t_ep")
    name = pipeline.settings.paper_name
    text = [
        methods.score_table(result, name, "Table 2", ("cas",)),
        methods.pair_table(result, "TI+LoRA+t_ep"),
    ]
    return Report("\n\n".join(text), {"table2": methods.flat(result)})


SCRIPT = Script("table2", "Table 2: prompt enrichment alone", steps, report)

if __name__ == "__main__":
    execute(SCRIPT)
