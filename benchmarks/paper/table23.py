"""Table 23: data sets and models, their licences and the revisions that are pinned here."""

from __future__ import annotations

from typing import Final

from benchmarks.paper.pipeline import Pipeline
from benchmarks.paper.script import Report, Script, execute
from benchmarks.paper.steps import Step

from cas_metric.datasets import DATASETS
from cas_metric.statistics.tables import markdown_table

#: Roles of Table 11 to the aliases of ``cas encoders``.
ROLES: Final = {
    "evaluator": "siglip",
    "critic": "medsiglip",
    "out-of-family evaluator": "metaclip2",
    "memorization": "dinov2",
}


def steps(pipeline: Pipeline) -> tuple[Step, ...]:
    """Nothing: the table is about what is used, not about what was measured."""
    return ()


def report(pipeline: Pipeline) -> Report:
    """Data sets with their terms, encoders with licence and revision."""
    from cas_metric.encoders.registry import list_encoders

    data = [[one.source.title, one.source.citation, one.source.terms] for one in DATASETS.values()]
    models = []
    known = {one.alias: one for one in list_encoders()}
    for role, alias in ROLES.items():
        one = known[alias]
        models.append([role, one.hub_id, one.revision[:12], one.licence])
    text = [
        markdown_table(["Data set", "Source", "Terms"], data),
        markdown_table(["Role", "Model", "Revision", "Licence"], models),
        f"Base generator of this run: {pipeline.settings.base}.",
    ]
    return Report("\n\n".join(text))


SCRIPT = Script("table23", "Table 23: assets and licences", steps, report)

if __name__ == "__main__":
    execute(SCRIPT)
