"""Tables of the planted failures as Markdown, and two figures."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from benchmarks.paper.planted_failures import FAILURES
from benchmarks.paper.validity_tables import SCORES
from matplotlib.figure import Figure

from cas_metric.report.figures import STYLE, line_pattern, save_figure
from cas_metric.report.legends import legend_below
from cas_metric.report.palette import ink
from cas_metric.statistics.tables import markdown_table, number

#: Scores whose response to the dose is drawn.
_DRAWN = ("cas", "vdc", "ccs", "dd_prob", "sfs")


def markdown(
    domain: str, evaluator: str, tables: dict[str, pd.DataFrame], left_out: list[str]
) -> str:
    """All tables of a domain."""
    parts = [
        f"## {domain}",
        f"### AUROC of finding the failure at full dose ({evaluator})",
        auroc_table(tables["auroc"]),
        *(f"Left out: {reason}." for reason in left_out),
        "### Change of each score with the dose",
        dose_table(tables["dose"]),
        "### The same sets by FID and KID (phantom-dino) beside mean CAS",
        set_table(tables["sets"]),
        "### Agreement of the encoders on the order of the sets",
        ranking_table(tables["rankings"]),
    ]
    return "\n\n".join(parts) + "\n"


def auroc_table(table: pd.DataFrame) -> str:
    """Failures down, scores across."""
    scores = list(dict.fromkeys(table["score"]))
    entries = {(row.failure, row.score): row for row in table.itertuples()}
    lines = [
        [
            failure.replace("_", " "),
            str(entries[failure, scores[0]].n),
            *(_interval(entries[failure, score], 2) for score in scores),
        ]
        for failure in FAILURES
    ]
    return markdown_table(["failure", "n", *(SCORES[score] for score in scores)], lines)


def dose_table(table: pd.DataFrame) -> str:
    """Failures and doses down, scores across."""
    scores = [score for score in ("cas", "vdc", "ccs", "dd", "sfs") if score in set(table["score"])]
    lines = []
    for (failure, dose), group in table.groupby(["failure", "dose"], sort=False):
        entries = {row.score: row for row in group.itertuples()}
        cells = (_interval(entries[score], 3) for score in scores)
        lines.append([f"{failure.replace('_', ' ')} {dose:g}", *cells])
    return markdown_table(["failure, dose", *(SCORES[score] for score in scores)], lines)


def set_table(table: pd.DataFrame) -> str:
    """One line a set."""
    lines = [
        [
            f"{row.failure.replace('_', ' ')} {row.dose:g}" if row.dose else row.failure,
            number(row.cas), number(row.frechet, 4),
            f"{number(row.kernel, 5)} ± {number(row.kernel_std, 5)}",
        ]
        for row in table.itertuples()
    ]  # fmt: skip
    return markdown_table(["set", "mean CAS ↑", "Fréchet ↓", "kernel ↓"], lines)


def ranking_table(table: pd.DataFrame) -> str:
    """One line a pair of encoders."""
    lines = [
        [f"{row.left}, {row.right}", str(row.sets), number(row.kendall), number(row.spearman)]
        for row in table.itertuples()
    ]
    return markdown_table(["encoders", "sets", "Kendall's τ", "Spearman's ρ"], lines)


def draw(tables: dict[str, pd.DataFrame], folder: Path, *, title: str) -> None:
    """Write ``dose`` and ``auroc`` as SVG, PDF and PNG."""
    save_figure(_dose_figure(tables["dose"], title), folder / "dose")
    save_figure(_auroc_figure(tables["auroc"], title), folder / "auroc")


def _dose_figure(table: pd.DataFrame, title: str) -> Figure:
    with mpl.rc_context(fname=STYLE):
        figure = Figure(figsize=(7.0, 3.9), layout="constrained")
        figure.suptitle(title)
        grid = figure.subplots(2, len(FAILURES) // 2, sharey=True)
        for axes, failure in zip(grid.flat, FAILURES, strict=True):
            own = table[table["failure"] == failure]
            for index, score in enumerate(_DRAWN):
                line, style = own[own["score"] == score], ink(index)
                x, y = [0.0, *line["dose"]], [0.0, *line["estimate"]]
                axes.plot(
                    x, y, color=style.light, linestyle=line_pattern(style), marker=style.marker,
                    markersize=3, label=SCORES[score],
                )  # fmt: skip
                axes.fill_between(
                    x, [0.0, *line["low"]], [0.0, *line["high"]], color=style.light, alpha=0.15,
                    linewidth=0,
                )  # fmt: skip
            axes.axhline(0, color="#1c2127", linewidth=0.6)
            axes.set_title(failure.replace("_", " "), fontsize=8)
            axes.set_xticks([0, 0.5, 1])
            axes.grid(axis="y")
        for axes in grid[-1]:
            axes.set_xlabel("severity")
        for axes in grid[0]:
            axes.set_xlabel("share that fails")
        for axes in grid[:, 0]:
            axes.set_ylabel("change of the mean")
        legend_below(figure, grid[0, 0], columns=len(_DRAWN))
        return figure


def _auroc_figure(table: pd.DataFrame, title: str) -> Figure:
    scores = list(dict.fromkeys(table["score"]))
    values = table.pivot_table(index="failure", columns="score", values="estimate")
    values = values.loc[list(FAILURES), scores].to_numpy()
    with mpl.rc_context(fname=STYLE):
        figure = Figure(figsize=(7.0, 3.2), layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(f"{title}: AUROC of finding the failure at full dose")
        image = axes.imshow(values, cmap="RdBu", vmin=0, vmax=1, aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            dark = abs(value - 0.5) > 0.3
            axes.text(
                column, row, f"{value:.2f}", ha="center", va="center",
                color="white" if dark else "#1c2127",
            )  # fmt: skip
        axes.set_xticks(range(len(scores)), [SCORES[s] for s in scores], rotation=30, ha="right")
        axes.set_yticks(range(len(FAILURES)), [name.replace("_", " ") for name in FAILURES])
        figure.colorbar(image, ax=axes, label="0.5 is blind")
        return figure


def _interval(row: object, digits: int) -> str:
    estimate, low, high = (getattr(row, key) for key in ("estimate", "low", "high"))
    text = f"{number(estimate, digits)} ({number(low, digits)}–{number(high, digits)})"
    return text.replace("-", "−")
