"""Accuracy and macro-F1 of downstream classifiers against the number of real images (Figure 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from cas_metric.report.figures import STYLE, legend_below, line_pattern
from cas_metric.report.palette import REAL, ink

_PANELS: Final = (("accuracy", "accuracy"), ("macro_f1", "macro-F1"))
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
        for axes, (score, label) in zip(figure.subplots(1, 2), _PANELS, strict=True):
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
