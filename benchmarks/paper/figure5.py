"""Figure 5: physicians' preference, from the export of a study (``--rankings FILE``)."""

from __future__ import annotations

from benchmarks.paper.evidence import preference
from benchmarks.paper.pipeline import Pipeline
from benchmarks.paper.script import Report, Script, execute
from benchmarks.paper.steps import Step

ROWS = ("ti", "dpo", "ti_lora", "craft")
PRINTED = "The paper, two physicians and 100 cases of CheXpert: CRAFT is ranked first in 67%."


def steps(pipeline: Pipeline) -> tuple[Step, ...]:
    """Scores of the methods, then the preference model against their CAS."""
    return (preference(pipeline, ROWS),)


def report(pipeline: Pipeline) -> Report:
    """What `cas preference` found."""
    text = preference(pipeline, ROWS).result.with_suffix(".md").read_text(encoding="utf-8")
    return Report(f"{PRINTED}\n\n{text.replace('# ', '## ')}")


SCRIPT = Script("figure5", "Figure 5: physician preference", steps, report)

if __name__ == "__main__":
    execute(SCRIPT)
