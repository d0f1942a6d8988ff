"""Downstream utility for people: the scores and tests as tables, and Figure 3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from cas_metric.report.figures import STYLE, line_pattern
from cas_metric.report.legends import legend_below
from cas_metric.report.palette import REAL, ink
from cas_metric.statistics.rounding import fixed
from cas_metric.statistics.tables import PHANTOM_NOTICE, markdown_table, number, p_value

#: Scores of a classifier, and how they are written.
LABELS: Final = {"accuracy": "accuracy", "macro_f1": "macro-F1"}
_WIDTH: Final = 7.0


def utility_figure(
    entries: Sequence[Mapping[str, Any]],
    n_real: Mapping[float, int],
    *,
    reference: str,
    title: str = "",
) -> Figure:
    """Both scores of every method at every data scale, mean and standard deviation over seeds.

    Args:
        entries: As :func:`cas_metric.downstream.comparison.by_method` makes them.
        n_real: Data scale to the number of real training images.
        reference: Method drawn in grey: real images alone.
        title: Name of the data set.
    """
    methods = list(dict.fromkeys(entry["method"] for entry in entries))
    scales = sorted(n_real)
    with mpl.rc_context(fname=STYLE):
        figure = Figure(figsize=(_WIDTH, 2.8), layout="constrained")
        if title:
            figure.suptitle(title)
        for axes, (score, label) in zip(figure.subplots(1, 2), LABELS.items(), strict=True):
            for index, method in enumerate(methods):
                own = {e["scale"]: e[score] for e in entries if e["method"] == method}
                style = REAL if method == reference else ink(index - 1)
                # Side by side: error bars on one another could not be told apart.
                shift = 0.08 * (index - (len(methods) - 1) / 2)
                axes.errorbar(
                    [place + shift for place in range(len(scales))],
                    [own[scale]["mean"] for scale in scales],
                    yerr=[own[scale]["std"] for scale in scales],
                    color=style.light, linestyle=line_pattern(style), marker=style.marker,
                    markersize=4, capsize=2, elinewidth=0.8, label=method,
                )  # fmt: skip
            ticks = [f"{scale:.0%}\n{n_real[scale]:,}" for scale in scales]
            axes.set_xticks(range(len(scales)), ticks)
            axes.set(xlabel="real training images", ylabel=label)
            axes.grid(axis="y")
        legend_below(figure, figure.axes[0], columns=min(5, len(methods)))
        return figure


def utility_markdown(summary: Mapping[str, Any], correlation: str = "") -> str:
    """Scores, tests and correlation as one document.

    Args:
        summary: Of the verb.
        correlation: A section of its own on CAS and utility; may be empty.
    """
    recipe = summary["recipe"]
    parts = [PHANTOM_NOTICE] if summary["embedded_world"] else []
    parts += [
        "# Downstream utility",
        f"{recipe['network']} on {recipe['size']}×{recipe['size']} pictures, {recipe['steps']} "
        f"updates with batches of {recipe['batch_size']}, {recipe['share']:.0%} of each synthetic; "
        f"{len(summary['seeds'])} seeds, {summary['n_test']:,} test images of "
        f"{len(summary['classes'])} classes.",
        *(f"**Warning.** {warning}." for warning in summary["warnings"]),
        f"## Scores\n\nMean ± standard deviation over seeds.\n\n{_scores(summary)}",
        _tests(summary),
    ]
    if correlation:
        parts.append(correlation)
    if summary["failures"]:
        parts.append(f"{len(summary['failures'])} images could not be read; see summary.json.")
    return "\n\n".join(parts) + "\n"


def _scores(summary: Mapping[str, Any]) -> str:
    scales = sorted(map(float, summary["n_real"]))
    found = {(e["method"], e["scale"]): e for e in summary["methods"]}
    best = {
        (score, scale): max(e[score]["mean"] for e in summary["methods"] if e["scale"] == scale)
        for score in LABELS
        for scale in scales
    }
    columns = [(score, scale) for score in LABELS for scale in scales]
    headings = ["Method", "images"] + [
        f"{LABELS[score]}, {summary['n_real'][str(scale)]:,} real" for score, scale in columns
    ]
    lines = []
    for method in dict.fromkeys(e["method"] for e in summary["methods"]):
        cells = []
        for score, scale in columns:
            entry = found[method, scale][score]
            text = f"{number(entry['mean'])} ± {number(entry['std'])}"
            cells.append(f"**{text}**" if entry["mean"] == best[score, scale] else text)
        lines.append([method, f"{summary['n_synthetic'].get(method, 0):,}", *cells])
    return markdown_table(headings, lines)


def _tests(summary: Mapping[str, Any]) -> str:
    headings = [
        "real images", "comparison", "accuracy", "over seeds: 95%", "p (t)", "p (sign flip)",
        "over images: 95%", "p (sign flip)", "macro-F1", "over seeds: 95%", "p (t)",
    ]  # fmt: skip
    lines = []
    for entry in summary["comparisons"]:
        accuracy, f1 = entry["accuracy"], entry["macro_f1"]
        best = " (best other)" if entry["best_baseline"] else ""
        lines.append(
            [
                f"{summary['n_real'][str(entry['scale'])]:,}",
                f"{entry['left']} − {entry['right']}{best}",
                fixed(accuracy["seeds"]["difference"]["estimate"], signed=True),
                _interval(accuracy["seeds"]["difference"]),
                _p(accuracy["seeds"]["p_t_holm"]),
                p_value(accuracy["seeds"]["p_sign_flip"]),
                _interval(accuracy["images"]["difference"]),
                p_value(accuracy["images"]["p_holm"]),
                fixed(f1["seeds"]["difference"]["estimate"], signed=True),
                _interval(f1["seeds"]["difference"]),
                _p(f1["seeds"]["p_t_holm"]),
            ]
        )
    count = len(summary["seeds"])
    lead = (
        "Over seeds: paired t interval and test, and the exact sign-flip test, whose smallest "
        f"p-value with {count} seeds is {2 / 2**count:.3g}. Over images: interval (of accuracy "
        "Student's t, of macro-F1 a bootstrap) and sign-flip test of test images (patients, where "
        "known), each with its mean over seeds; "
        "with one seed it is the exact McNemar test. The columns p (t) and, over images, p (sign "
        "flip) are corrected by Holm over all rows."
    )
    if summary["focus"]["chosen_after_the_fact"]:
        lead += (
            f" {summary['focus']['method']} is compared with the best other method because it was "
            "the most accurate: name a method with --focus before looking, for a fair test."
        )
    return f"## Differences\n\n{lead}\n\n{markdown_table(headings, lines)}"


def _p(value: float) -> str:
    """A p-value; a dash where the seeds differ by one and the same amount, or there is one seed."""
    return p_value(value) if value == value else "–"  # NaN is unequal to itself


def _interval(entry: Mapping[str, Any]) -> str:
    return f"{number(entry['low'])} to {number(entry['high'])}".replace("-", "−")
