"""Table 16: general-purpose generators without adaptation.

Their images are made elsewhere, one for each held-out image, and given as ``--generator
Flux=FOLDER``; a folder pairs with the test split as for ``cas score``.
"""

from __future__ import annotations

from benchmarks.paper import methods
from benchmarks.paper.pipeline import Pipeline
from benchmarks.paper.recipes import RECIPES
from benchmarks.paper.script import Report, Script, execute
from benchmarks.paper.steps import Step

from cas_metric.runs.folder import read_run
from cas_metric.statistics.aggregate import summarise
from cas_metric.statistics.tables import markdown_table, number

ROWS = (RECIPES["zero_shot"], RECIPES["craft"])
#: Title in Table 16 of the base model as it is.
BASE = "Zero-Shot"


def steps(pipeline: Pipeline) -> tuple[Step, ...]:
    """Scores of the base model, of CRAFT and of every folder given."""
    own = methods.scored_steps(pipeline, ROWS)
    given = pipeline.settings.generators.items()
    return (*own, *(pipeline.score_folder(title, folder) for title, folder in given))


def report(pipeline: Pipeline) -> Report:
    """CAS of every generator with its interval."""
    from benchmarks.paper.published import printed

    found = methods.runs(pipeline, ROWS)
    for title, folder in pipeline.settings.generators.items():
        found[title] = read_run(pipeline.score_folder(title, folder).result.parent)
    lines = []
    for title, run in found.items():
        entry = summarise(run.rows)
        low, high = entry["interval"]["cas"]
        paper = printed("Table 16", pipeline.settings.paper_name, title, "cas")
        interval = f"[{number(low)}, {number(high)}]"
        lines.append([title, number(entry["mean"]["cas"]), interval, paper])
    text = markdown_table(["Method", "CAS", "95% interval", "paper"], lines)
    if not pipeline.settings.generators:
        text += "\n\nNo other generator was given (`--generator TITLE=FOLDER`)."
    return Report(text)


SCRIPT = Script("table16", "Table 16: general-purpose generators", steps, report)

if __name__ == "__main__":
    execute(SCRIPT)
