"""Figures for publication: arrays in, a matplotlib figure out.

Drawn without pyplot, so that no window, backend or global state is involved. Sizes are those of a
two-column article (3.5 and 7 inches), text is 8 points, methods differ in colour, line pattern and
marker at once. :func:`save_figure` writes the same bytes every time.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike
from scipy.stats import linregress, t

from cas_metric.errors import InputError
from cas_metric.files import write_bytes
from cas_metric.protocol import CONFIDENCE
from cas_metric.report.legends import legend_below
from cas_metric.report.palette import FLOOR, REAL, Ink, ink
from cas_metric.statistics.rounding import fixed, percent
from cas_metric.statistics.uncertainty import Interval

COLUMN: Final = 3.5
SUFFIXES: Final = (".svg", ".pdf", ".png")

STYLE: Final = Path(__file__).parent / "static" / "publication.mplstyle"


def ecdf(
    methods: Mapping[str, ArrayLike],
    real: ArrayLike,
    *,
    tau: float,
    floor: ArrayLike | None = None,
    title: str = "",
) -> Figure:
    """Distribution of per-image CAS against Real, shaded below tau (Fig. 4 of the paper).

    Args:
        methods: Name to ``(N,)`` CAS of its images; NaN is left out.
        real: ``(M,)`` CAS of the real images.
        tau: Threshold of low alignment.
        floor: ``(M,)`` CAS of real images against another real image of their class; it is not
            drawn where no class has a second image.
        title: Name of the data set.
    """
    with mpl.rc_context(fname=STYLE):
        figure, axes = _canvas(title, height=2.7)
        shown = {name: kept for name, v in methods.items() if len(kept := _finite(v))}
        base = _finite(real), _finite(floor if floor is not None else [])
        left, right = _span([*base, *shown.values()], tau)
        _steps(axes, base[0], (left, right), color=REAL.light, linewidth=2.2, label="Real")
        if len(base[1]):
            pattern = line_pattern(FLOOR)
            _steps(
                axes, base[1], (left, right), color=FLOOR.light, linestyle=pattern, label="Floor"
            )
        for index, (name, kept) in enumerate(shown.items()):
            style = ink(index)
            _steps(
                axes,
                kept,
                (left, right),
                color=style.light,
                linestyle=line_pattern(style),
                label=f"{name} ({_share(float((kept < tau).mean()))} below)",
            )
        axes.axvspan(left, tau, color="#c44f00", alpha=0.08, linewidth=0)
        axes.axvline(tau, color="#1c2127", linewidth=0.8, linestyle=(0, (3, 3)))
        axes.annotate(
            f"τ = {fixed(tau)}", (tau, 1.0), (0, 3), textcoords="offset points",
            ha="center", va="bottom",
        )  # fmt: skip
        axes.set(xlabel="CAS of an image", ylabel="images at or below", xlim=(left, right))
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.grid(axis="y")
        legend_below(figure, axes)
        return figure


def forest(
    rows: Mapping[str, Interval],
    *,
    real: Interval | None = None,
    label: str = "mean CAS",
    title: str = "",
) -> Figure:
    """Means with their intervals, one line each, in the order given; Real as a band.

    Args:
        rows: Name to estimate and interval.
        real: Estimate and interval of the real images.
        label: Name of the horizontal axis.
        title: Name of the data set.
    """
    with mpl.rc_context(fname=STYLE):
        figure, axes = _canvas(title, height=0.75 + 0.28 * len(rows))
        if real is not None and np.isfinite(real.low):
            axes.axvspan(real.low, real.high, color=REAL.light, alpha=0.18, linewidth=0)
        if real is not None:
            axes.axvline(real.estimate, color=REAL.light, linewidth=1.0)
            axes.annotate(
                "Real", (real.estimate, 1), (0, 2), xycoords=("data", "axes fraction"),
                textcoords="offset points", ha="center", va="bottom", color=REAL.light,
            )  # fmt: skip
        for index, interval in enumerate(rows.values()):
            style = ink(index)
            axes.plot([interval.low, interval.high], [index, index], color=style.light)
            axes.plot(interval.estimate, index, style.marker, color=style.light, markersize=5)
            axes.annotate(
                fixed(interval.estimate), (interval.estimate, index), (0, 4),
                textcoords="offset points", ha="center", va="bottom", fontsize=7,
            )  # fmt: skip
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set_ylim(len(rows) - 0.5, -0.7)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(f"{label} ({_level(rows)} interval)")
        axes.margins(x=0.08)  # room for the numbers over the outermost markers
        axes.grid(axis="x")
        return figure


def scatter(
    x: ArrayLike,
    y: ArrayLike,
    names: Sequence[str],
    *,
    x_label: str,
    y_label: str,
    errors: Sequence[Interval] | None = None,
    note: str = "",
    title: str = "",
) -> Figure:
    """Two quantities of each method with the least-squares line and its band (Fig. 5).

    Args:
        x: ``(M,)`` one quantity, e.g. the mean CAS of each method.
        y: ``(M,)`` the other, e.g. the Bradley-Terry score.
        names: ``(M,)`` names of the methods.
        x_label: Name of the horizontal axis.
        y_label: Name of the vertical axis.
        errors: ``(M,)`` interval of each value of ``y``, drawn as a bar; None for none.
        note: Set in a corner, e.g. the coefficient with its p-value.
        title: Name of the data set.

    Raises:
        InputError: If fewer than three pairs are given, or all of ``x`` is equal.
    """
    across, up = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if across.size < 3 or np.ptp(across) == 0:
        raise InputError("a regression line needs three methods of different values")
    with mpl.rc_context(fname=STYLE):
        figure, axes = _canvas(title, height=2.8 + 0.15 * note.count("\n"))
        _regression(axes, across, up)
        for index, interval in enumerate(errors or ()):
            if np.isfinite(interval.low):
                axes.plot(
                    [across[index]] * 2,
                    [interval.low, interval.high],
                    color=ink(index).light,
                    linewidth=1.0,
                )
        heights = _apart(up, 0.065 * np.ptp(axes.get_ylim()))
        for index, name in enumerate(names):
            style = ink(index)
            axes.plot(
                across[index], up[index], style.marker, color=style.light, markersize=6, zorder=3
            )
            flip = across[index] > np.mean(axes.get_xlim())
            axes.annotate(
                name, (across[index], heights[index]), (-7 if flip else 7, 0),
                textcoords="offset points", ha="right" if flip else "left", va="center",
            )  # fmt: skip
        axes.set(xlabel=x_label, ylabel=y_label)
        if note:  # above the plot, where no point can lie under it
            text = "\n".join(part for part in (title, note) if part)
            axes.set_title(text, loc="left", fontsize=8)
        axes.grid()
        return figure


def rank_distribution(shares: Mapping[str, Sequence[float]], *, title: str = "") -> Figure:
    """Share of the cases in which each method took each place, as stacked bars (Fig. 7).

    Args:
        shares: Name to shares of first, second, … place; each sums to 1.
        title: Name of the data set.
    """
    table = np.array(list(shares.values()), dtype=float)
    with mpl.rc_context(fname=STYLE):
        figure, axes = _canvas(title, height=0.95 + 0.3 * len(table))
        shades = mpl.colormaps["cividis"](np.linspace(0.08, 0.92, table.shape[1]))
        starts = np.cumsum(table, axis=1) - table
        for place, shade in enumerate(shades):
            bars = axes.barh(
                range(len(table)), table[:, place], left=starts[:, place], height=0.68,
                color=shade, edgecolor="white", linewidth=0.8, label=f"rank {place + 1}",
            )  # fmt: skip
            dark = float(np.dot(shade[:3], (0.299, 0.587, 0.114))) < 0.55
            words = [_share(v) if v >= 0.07 else "" for v in table[:, place]]
            axes.bar_label(bars, words, label_type="center", color="white" if dark else "#1c2127")
        axes.set_yticks(range(len(table)), list(shares))
        axes.invert_yaxis()
        axes.tick_params(axis="y", length=0)
        axes.set(xlim=(0, 1), xlabel="share of cases")
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        legend_below(figure, axes, columns=table.shape[1], length=1.0)
        return figure


def top1(rates: Mapping[str, Interval], *, chance: float | None = None, title: str = "") -> Figure:
    """Share of the cases in which each method came first, with intervals (Fig. 6a).

    Args:
        rates: Name to rate and interval, shares of one.
        chance: Rate of a blind choice, drawn as a line.
        title: Name of the data set.
    """
    with mpl.rc_context(fname=STYLE):
        figure, axes = _canvas(title, height=2.5)
        for index, interval in enumerate(rates.values()):
            # Rounding may put an end of the interval on the wrong side; lengths are not negative.
            low, high = (e if np.isfinite(e) else interval.estimate for e in interval[1:3])
            error = [[max(0.0, interval.estimate - low)], [max(0.0, high - interval.estimate)]]
            axes.bar(index, interval.estimate, width=0.62, color=ink(index).light, alpha=0.8)
            axes.errorbar(
                index, interval.estimate, yerr=error, color="#1c2127", capsize=3, linewidth=1.0
            )
            axes.annotate(
                _share(interval.estimate), (index, high), (0, 3),
                textcoords="offset points", ha="center", va="bottom",
            )  # fmt: skip
        if chance is not None:
            axes.axhline(chance, color=REAL.light, linewidth=0.9, linestyle=(0, (3, 3)))
            axes.annotate(
                "chance", (1, chance), (2, 0), xycoords=("axes fraction", "data"),
                textcoords="offset points", va="center", color=REAL.light,
            )  # fmt: skip
        axes.set_xticks(range(len(rates)), list(rates))
        axes.set_ylabel(f"ranked first ({_level(rates)} interval)")
        # The number over a bar needs room, above 100% too; the axis itself ends there.
        top = 1.15 * np.nanmax([end for one in rates.values() for end in one[:3]])
        axes.set_ylim(0, max(top, 0.05))
        axes.set_yticks([tick for tick in axes.get_yticks() if tick <= min(1.0, top) + 1e-9])
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        return figure


def stability(
    curves: Mapping[str, Sequence[tuple[float, float, float]]],
    *,
    quantile: float = 0.25,
    title: str = "",
) -> Figure:
    """Low-alignment rate of each method against the quantile of Real that makes tau.

    Args:
        curves: Name to ``(quantile, tau, rate)`` triples.
        quantile: The quantile that the protocol uses, marked by a line.
        title: Name of the data set.
    """
    with mpl.rc_context(fname=STYLE):
        figure, axes = _canvas(title, height=2.7)
        limits = [triple[0] for curve in curves.values() for triple in curve]
        ends = (min(limits), max(limits))
        axes.plot(ends, ends, color=REAL.light, linewidth=2.2, label="Real", clip_on=False)
        for index, (name, curve) in enumerate(curves.items()):
            quantiles, _, rates = np.array(curve, dtype=float).T
            style = ink(index)
            axes.plot(
                quantiles, rates, color=style.light, linestyle=line_pattern(style), label=name,
                marker=style.marker, markersize=3.5, clip_on=False, zorder=3,
            )  # fmt: skip
        axes.axvline(quantile, color="#1c2127", linewidth=0.8, linestyle=(0, (3, 3)))
        axes.set(xlabel="quantile of Real at which τ is set", ylabel="images below τ", ylim=(0, 1))
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.grid(axis="y")
        legend_below(figure, axes)
        return figure


def save_figure(figure: Figure, path: str | Path) -> tuple[Path, ...]:
    """Write a figure as SVG, PDF and PNG (300 dpi), without dates, the same bytes every time.

    Args:
        figure: What to write.
        path: Where to, without a suffix; its folder is made.

    Returns:
        Paths of the three files.

    Raises:
        CasError: The folder cannot be written to.
    """
    base = Path(path)
    undated: dict[str, dict[str, Any]] = {
        ".svg": {"Date": None},
        ".pdf": {"CreationDate": None, "ModDate": None},
        ".png": {},
    }
    written = tuple(base.with_name(base.name + suffix) for suffix in SUFFIXES)
    with mpl.rc_context(fname=STYLE):
        for target in written:
            drawn = io.BytesIO()
            figure.savefig(drawn, format=target.suffix[1:], metadata=undated[target.suffix])
            write_bytes(target, drawn.getvalue())
    return written


def _span(sets: Sequence[np.ndarray], tau: float) -> tuple[float, float]:
    """Ends of an axis that holds all values and tau, with some room."""
    every = np.concatenate([*sets, [tau]])
    room = 0.04 * max(float(np.ptp(every)), 0.01)
    return float(every.min()) - room, float(every.max()) + room


def _steps(axes: Axes, values: np.ndarray, ends: tuple[float, float], **style: Any) -> None:
    """Distribution function of the values from 0% at the left end to 100% at the right one."""
    ordered = np.sort(values)
    x = np.concatenate([[ends[0]], ordered, [ends[1]]])
    y = np.concatenate([[0.0], np.arange(1, len(ordered) + 1) / len(ordered), [1.0]])
    axes.plot(x, y, drawstyle="steps-post", clip_on=False, **style)


def _share(value: float) -> str:
    """A share in whole percent; with a decimal where that would round it to none or all."""
    text = percent(value, 0)
    return text if text[0].isdigit() else percent(value, 1)


def _canvas(title: str, *, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(COLUMN, height), layout="constrained")
    axes = figure.add_subplot()
    if title:
        axes.set_title(title, pad=14)
    return figure, axes


def _regression(axes: Axes, x: np.ndarray, y: np.ndarray) -> None:
    """Least-squares line and the pointwise confidence band of its mean."""
    fit = linregress(x, y)
    margin = 0.12 * np.ptp(x)
    grid = np.linspace(x.min() - margin, x.max() + margin, 100)
    line = fit.intercept + fit.slope * grid
    axes.plot(grid, line, color=REAL.light, linewidth=1.0)
    residual = np.sqrt(((y - fit.intercept - fit.slope * x) ** 2).sum() / (x.size - 2))
    leverage = 1 / x.size + (grid - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum()
    half = t.ppf(0.5 + CONFIDENCE / 2, x.size - 2) * residual * np.sqrt(leverage)
    axes.fill_between(grid, line - half, line + half, color=REAL.light, alpha=0.12, linewidth=0)
    axes.set_xlim(grid[0], grid[-1])


def _apart(heights: np.ndarray, room: float) -> np.ndarray:
    """Heights moved up just so far that any two are at least ``room`` apart, order kept."""
    order = np.argsort(heights, kind="stable")
    steps = room * np.arange(heights.size)
    moved = np.empty_like(heights)
    moved[order] = np.maximum.accumulate(heights[order] - steps) + steps
    return moved


def line_pattern(style: Ink) -> Any:
    """Matplotlib's line style of an ink."""
    return (0, style.dash) if style.dash else "-"


def _level(rows: Mapping[str, Interval]) -> str:
    return f"{next(iter(rows.values())).level:.0%}"


def _finite(values: ArrayLike) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    return array[np.isfinite(array)]
