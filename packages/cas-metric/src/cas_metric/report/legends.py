"""Names of lines below a figure, within its width at every resolution."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend


def legend_below(figure: Figure, axes: Axes, *, columns: int = 2, length: float = 2.8) -> None:
    """Name the lines of ``axes`` below the figure, in at most ``columns`` that fit its width."""
    handles, _ = axes.get_legend_handles_labels()
    # Shorter samples of the lines cost less than another row.
    tries = [(n, share * length) for n in range(columns, 0, -1) for share in (1.0, 0.7)]
    for count, handle in tries:
        legend = figure.legend(
            handles=handles, loc="outside lower left", ncols=count, fontsize=7.5,
            handlelength=handle, columnspacing=1.2, handletextpad=0.6,
        )  # fmt: skip
        if (count, handle) == tries[-1] or _right_end(figure, legend) <= 1:
            return
        legend.remove()


def _right_end(figure: Figure, legend: Legend) -> float:
    """Where a legend ends, in widths of the figure, at the resolution at which that is farthest.

    Letters are fitted to pixels, so that a text of 100 dots per inch may be narrower than the same
    in a file: SVG and PDF have 72.
    """
    own, ends = figure.dpi, []
    for resolution in (72, own, 300):
        figure.set_dpi(resolution)
        ends.append(legend.get_window_extent().x1 / figure.bbox.x1)
    figure.set_dpi(own)
    return float(max(ends))
