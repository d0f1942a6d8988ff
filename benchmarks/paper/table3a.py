"""Table 3a: the methods by an out-of-family evaluator, and how different their samples are.

LPIPS needs AlexNet weights: ``--backbone``, or torchvision's own by download. Phantoms come without
them, and with the spread of embeddings of an independent encoder.
"""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any

from benchmarks.paper import methods
from benchmarks.paper.pipeline import Pipeline
from benchmarks.paper.published import printed
from benchmarks.paper.recipes import CONTROL, CRAFT, MAIN
from benchmarks.paper.script import Report, Script, execute
from benchmarks.paper.steps import Step

from cas_metric.statistics.tables import markdown_table, number

ROWS = (*MAIN, CONTROL)
ROLES = ("main", "out_of_family", "critic")


def steps(pipeline: Pipeline) -> tuple[Step, ...]:
    """Scores by every evaluator, and diversity."""
    scores = [step for role in ROLES for step in methods.scored_steps(pipeline, ROWS, role)]
    return (*scores, *(pipeline.diversity(recipe.name) for recipe in ROWS))


def report(pipeline: Pipeline) -> Report:
    """CAS by each evaluator and diversity, one line a method."""
    focus = CRAFT.title
    found = {role: methods.compared(pipeline, ROWS, role, focus=focus)[0] for role in ROLES}
    cas = {
        role: {entry["method"]: entry for entry in result["methods"]}
        for role, result in found.items()
    }
    name = pipeline.settings.paper_name
    evaluators = pipeline.scale.evaluators
    headings = ["Method"]
    for role in ("main", "out_of_family"):
        headings += [f"CAS by {evaluators[role]}", "paper"]
    headings.append(f"CAS by {evaluators['critic']}, the critic")
    headings += ["LPIPS", "paper"]
    if pipeline.embedded:
        headings.append("spread within a class, over that of real images")
    lines = []
    for recipe in ROWS:
        result = json.loads(pipeline.diversity(recipe.name).result.read_text(encoding="utf-8"))
        line = [recipe.title]
        for role, column in (("main", "cas"), ("out_of_family", "metaclip2_cas")):
            line += [_cas(cas[role][recipe.title]), printed("Table 3a", name, recipe.title, column)]
        line.append(_cas(cas["critic"][recipe.title]))
        line += [_lpips(result), printed("Table 3a", name, recipe.title, "lpips")]
        if pipeline.embedded:
            line.append(_spread(result))
        lines.append(line)
    orders = {
        role: sorted(entries, key=lambda title: -entries[title]["mean"]["cas"])
        for role, entries in cas.items()
    }
    text = [
        markdown_table(headings, lines),
        *(
            f"- Order by {role.replace('_', '-')}: {' > '.join(order)}"
            for role, order in orders.items()
        ),
        f"Kendall's τ of these orders: {_agreement(cas)}.",
        "The critic gave the rewards: its own score is what was optimised, and no evidence.",
        f"Paired differences by {evaluators['out_of_family']}:",
        methods.pair_table(found["out_of_family"], focus),
    ]
    tables = {f"table3a_{role}": methods.flat(result) for role, result in found.items()}
    for role, result in found.items():
        tables[f"table3a_{role}_pairs"] = methods.pairs(result, focus)
    return Report("\n\n".join(text), tables)


def _agreement(cas: dict[str, dict[str, Any]]) -> str:
    """How alike two evaluators order the methods, for every pair of them."""
    from scipy.stats import kendalltau

    means = {role: [cas[role][recipe.title]["mean"]["cas"] for recipe in ROWS] for role in ROLES}
    return ", ".join(
        f"{left.replace('_', '-')} and {right.replace('_', '-')} "
        f"{number(kendalltau(means[left], means[right]).statistic, 2)}"
        for left, right in combinations(ROLES, 2)
    )


def _cas(entry: dict[str, Any]) -> str:
    low, high = entry["interval"]["cas"]
    return f"{number(entry['mean']['cas'])} [{number(low)}, {number(high)}]"


def _lpips(result: dict[str, Any]) -> str:
    """Mean over prompts of the LPIPS between the samples of one prompt, if it was measured."""
    if "lpips" not in result:
        return "–"
    (entry,) = result["lpips"].values()
    mean = entry["mean"]
    return f"{number(mean['estimate'])} [{number(mean['low'])}, {number(mean['high'])}]"


def _spread(result: dict[str, Any]) -> str:
    """Vendi score within a class over that of as many real images, mean over classes."""
    (classes,) = result["embeddings"].values()
    shares = [
        entry["vendi_matched"] / entry["real_vendi_matched"]
        for entry in classes.values()
        if "vendi_matched" in entry
    ]
    return number(sum(shares) / len(shares), 2) if shares else "–"


SCRIPT = Script("table3a", "Table 3a: other evaluators, and diversity", steps, report)

if __name__ == "__main__":
    execute(SCRIPT)
