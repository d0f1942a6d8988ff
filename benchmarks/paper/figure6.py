"""Figures 6 and 7: automated preference by a language model.

Needs ``--mllm SPEC``. The judge's own figures (top-1 rates, rank distribution, CAS against
Bradley-Terry scores) lie in ``RUN/judge``.
"""

from __future__ import annotations

from benchmarks.paper.evidence import judge
from benchmarks.paper.pipeline import Pipeline
from benchmarks.paper.script import Report, Script, execute
from benchmarks.paper.steps import Step

#: Four candidates, A to D.
ROWS = ("ti", "dpo", "ti_lora", "craft")
PRINTED = "The paper shows these on Fitzpatrick17k as figures, without numbers in the text."


def steps(pipeline: Pipeline) -> tuple[Step, ...]:
    """One judgement of four methods."""
    return (judge(pipeline, ROWS),)


def report(pipeline: Pipeline) -> Report:
    """What the judge's report says."""
    text = judge(pipeline, ROWS).result.with_name("judge.md").read_text(encoding="utf-8")
    return Report(f"{PRINTED}\n\n{text.replace('# ', '## ')}")


SCRIPT = Script("figure6", "Figures 6 and 7: automated preference", steps, report)

if __name__ == "__main__":
    execute(SCRIPT)
