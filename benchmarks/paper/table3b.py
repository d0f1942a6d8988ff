"""Table 3b: which share of the checklist items a language model sees in the images.

Needs ``--mllm SPEC``: Lingshu in the paper. Every image is also held against the checklist of
another class, which tells an evaluator that looks from one that agrees.
"""

from __future__ import annotations

import json

from benchmarks.paper.evidence import audit
from benchmarks.paper.pipeline import Pipeline
from benchmarks.paper.published import printed
from benchmarks.paper.recipes import RECIPES
from benchmarks.paper.script import Report, Script, execute
from benchmarks.paper.steps import Step

from cas_metric.statistics.tables import markdown_table, number
from cas_metric.verbs.audit import audit_markdown

ROWS = ("zero_shot", "ti_lora", "craft")


def steps(pipeline: Pipeline) -> tuple[Step, ...]:
    """One audit of three methods."""
    return (audit(pipeline, ROWS),)


def report(pipeline: Pipeline) -> Report:
    """Pass rates beside those of the paper, then the whole audit."""
    summary = json.loads(audit(pipeline, ROWS).result.read_text(encoding="utf-8"))
    name = pipeline.settings.paper_name
    lines = []
    for one in summary["methods"]:
        title = RECIPES[one["method"]].title
        rate = one["pass_rate"]
        interval = f"[{number(rate['low'])}, {number(rate['high'])}]"
        paper = printed("Table 3b", name, title, "rate")
        lines.append([title, number(rate["estimate"]), interval, paper])
    table = markdown_table(["Method", "pass rate", "95% interval", "paper"], lines)
    return Report(f"{table}\n\n{audit_markdown(summary).replace('# ', '## ')}")


SCRIPT = Script("table3b", "Table 3b: checklist audit", steps, report)

if __name__ == "__main__":
    execute(SCRIPT)
