"""Table 14 and Figure 4: the low-alignment tail."""

from __future__ import annotations

from benchmarks.paper import methods
from benchmarks.paper.pipeline import Pipeline
from benchmarks.paper.published import printed, printed_in
from benchmarks.paper.recipes import CRAFT, MAIN
from benchmarks.paper.script import Report, Script, execute
from benchmarks.paper.steps import Step

from cas_metric.statistics.tables import markdown_table, number, percent


def steps(pipeline: Pipeline) -> tuple[Step, ...]:
    """Scores of the methods of Table 1."""
    return methods.scored_steps(pipeline, MAIN)


def report(pipeline: Pipeline) -> Report:
    """Threshold, rates, percentiles, reductions and the distribution functions."""
    from cas_metric.report import figures

    result, rows, first = methods.compared(pipeline, MAIN, focus=CRAFT.title)
    assert first.real is not None
    assert first.floor is not None
    tail, name = result["tail"], pipeline.settings.paper_name
    lines = []
    for method, entry in tail["by_cas"].items():
        rate, p10 = (printed("Table 14", name, method, key) for key in ("rate", "p10"))
        low, high = entry["rate_interval"]
        lines.append(
            [
                method,
                f"{percent(entry['rate'])} [{percent(low)}, {percent(high)}]",
                rate if rate == "–" else f"{rate}%",
                number(entry["p10"]),
                p10,
                percent(entry["split"]["rate_wrong"]),
            ]
        )
    headings = ["Method", "CAS < tau", "paper", "10th pct.", "paper", "of wrong diagnoses, below"]
    low, high = tail["tau_interval"]
    text = [
        f"tau = {number(tail['tau'])} [{number(low)}, {number(high)}] "
        f"(paper {printed_in('Table 14', name)}), the 25th percentile of the real images.",
        markdown_table(headings, lines),
        _reductions(tail["reductions"]),
        tail["bimodality"]["message"],
    ]
    values = {title: rows.loc[rows["method"] == title, "cas"] for title in tail["by_cas"]}
    figure = figures.ecdf(values, first.real["cas"], tau=tail["tau"], floor=first.floor["cas"])
    return Report(
        "\n\n".join(part for part in text if part),
        {"table14": methods.flat(result)},
        {"figure4": figure},
    )


def _reductions(found: list[dict[str, object]]) -> str:
    lines = [
        [str(entry.get(key, "–")) for key in ("reading", "baseline")]
        + [percent(float(str(entry[key]))) for key in ("absolute", "relative")]
        for entry in found
    ]
    return markdown_table(["Strongest baseline", "which", "points", "relative"], lines)


SCRIPT = Script("table14", "Table 14: the low-alignment tail", steps, report)

if __name__ == "__main__":
    execute(SCRIPT)
