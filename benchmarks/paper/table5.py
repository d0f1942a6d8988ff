"""Table 5: mean and standard deviation of CAS over generation seeds."""

from __future__ import annotations

from benchmarks.paper import methods
from benchmarks.paper.pipeline import Pipeline
from benchmarks.paper.published import printed
from benchmarks.paper.recipes import MAIN
from benchmarks.paper.script import Report, Script, execute
from benchmarks.paper.steps import Step

from cas_metric.statistics.tables import markdown_table, number


def steps(pipeline: Pipeline) -> tuple[Step, ...]:
    """Scores of the methods of Table 1."""
    return methods.scored_steps(pipeline, MAIN)


def report(pipeline: Pipeline) -> Report:
    """Spread over seeds beside the interval over cases, which is another thing."""
    result, _, _ = methods.compared(pipeline, MAIN)
    name = pipeline.settings.paper_name
    lines = []
    for entry in result["methods"]:
        spread = entry["seeds"]["cas"]
        low, high = entry["interval"]["cas"]
        mean, std = (printed("Table 5", name, entry["method"], key) for key in ("mean", "std"))
        lines.append(
            [
                entry["method"],
                f"{number(spread['mean'])} ± {number(spread['std'], 4)}",
                f"{mean} ± {std}",
                f"{number((high - low) / 2)}",
            ]
        )
    headings = ["Method", "mean ± sd over seeds", "paper", "half width of the interval over cases"]
    note = (
        "One trained model, several generation seeds: how another training would come out is in "
        "neither column."
    )
    return Report(f"{markdown_table(headings, lines)}\n\n{note}")


SCRIPT = Script("table5", "Table 5: spread over generation seeds", steps, report)

if __name__ == "__main__":
    execute(SCRIPT)
