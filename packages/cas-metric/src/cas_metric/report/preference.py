"""The figures of a preference study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cas_metric.report import figures
from cas_metric.statistics.correlation_table import note
from cas_metric.statistics.uncertainty import Interval


def draw_figures(out: Path, result: Mapping[str, Any]) -> None:
    """Scores, top-1 rates, rank distribution and, where there is one, the correlation with CAS."""
    order = sorted(result["scores"], key=lambda m: -result["scores"][m]["estimate"])
    scores = {name: Interval(**result["scores"][name]) for name in order}
    label = f"{result['model'].title().replace(' ', '-')} score"
    figures.save_figure(figures.forest(scores, label=label), out / "scores")
    rates = {name: Interval(**result["top1"][name]) for name in order}
    figures.save_figure(figures.top1(rates, chance=1 / len(order)), out / "top1")
    ranks = {name: result["ranks"][name] for name in order}
    figures.save_figure(figures.rank_distribution(ranks), out / "ranks")
    if "correlation" in result:
        found = result["correlation"]
        # In the order of the other figures, so that a method keeps its colour.
        rows = zip(found["methods"], found["cas"], found["preference"], strict=True)
        names, values, heights = zip(*sorted(rows, key=lambda r: order.index(r[0])), strict=True)
        figure = figures.scatter(
            values,
            heights,
            names,
            errors=[scores[name] for name in names],
            x_label="mean CAS",
            y_label=label,
            note=note(found["coefficients"]),
        )
        figures.save_figure(figure, out / "cas_preference")
