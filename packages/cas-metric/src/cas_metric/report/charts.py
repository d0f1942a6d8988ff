"""Geometry of the report's charts: numbers in, positions out.

The templates draw these positions as inline SVG that stretches with the page, while every label is
HTML text at its own size, so that a chart stays readable on a telephone. Horizontal positions and
label heights are percentages of the plot; paths live in a box of :data:`BOX` by :data:`BOX` units
with the origin at the top left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from matplotlib.ticker import MaxNLocator

from cas_metric.statistics.rounding import between, fixed
from cas_metric.statistics.rounding import percent as share

BOX: Final = 1000
#: Points a curve is drawn with at most; a step of 1/400 is below the width of its line.
MAX_POINTS: Final = 400
BINS: Final = 32


@dataclass(frozen=True)
class Tick:
    """A position on an axis, in percent of the plot, and its label."""

    at: float
    label: str


@dataclass(frozen=True)
class Axis:
    """A linear axis from ``low`` to ``high`` in data units."""

    low: float
    high: float
    ticks: tuple[Tick, ...]

    def percent(self, value: float) -> float:
        """Position of a data value in percent of the plot, clipped to it."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(max(share, 0.0), 1.0), 2)


@dataclass(frozen=True)
class Curve:
    """One line of a chart. ``ink`` names its style (``m0``, ``m1``, …, ``real``, ``floor``)."""

    name: str
    ink: str
    path: str
    note: str = ""
    label: Label | None = None


@dataclass(frozen=True)
class Label:
    """A name set beside its curve: position in percent, measured from the bottom left."""

    x: float
    y: float


@dataclass(frozen=True)
class Row:
    """One line of a row chart: a histogram, a bar or an interval, with its figure in words."""

    name: str
    ink: str
    value: str
    at: float | None = None
    low: float | None = None
    high: float | None = None
    path: str = ""
    interval: str = ""


@dataclass(frozen=True)
class Chart:
    """A chart as the templates draw it; ``description`` is its text alternative."""

    title: str
    x: Axis
    x_label: str
    y: Axis | None = None
    y_label: str = ""
    curves: tuple[Curve, ...] = ()
    rows: tuple[Row, ...] = ()
    marker: Tick | None = None
    shaded_to: float | None = None
    description: str = ""
    note: str = ""


@dataclass(frozen=True)
class Series:
    """The values of one method (or of Real, or of the floor) under one score."""

    name: str
    ink: str
    values: np.ndarray = field(repr=False)

    @property
    def finite(self) -> np.ndarray:
        """The values that exist, ascending."""
        return np.sort(self.values[np.isfinite(self.values)])


def axis(low: float, high: float, *, ticks: int = 5, percent: bool = False) -> Axis:
    """An axis that covers ``[low, high]`` and ends at round numbers.

    Args:
        low: Smallest value to be shown.
        high: Largest value to be shown.
        ticks: Number of intervals aimed at.
        percent: Label shares of one as percentages.
    """
    if high - low < 1e-4:  # below what is worth telling apart
        low, high = low - 0.01, high + 0.01
    edges = MaxNLocator(nbins=ticks, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    step = edges[1] - edges[0]
    decimals = max(0, int(np.ceil(-np.log10(step) - 1e-9)))
    if not np.allclose(np.round(edges, decimals), edges, rtol=0, atol=step / 100):
        decimals += 1  # steps of 0.25 and the like

    def name(edge: float) -> str:
        return f"{edge:.0%}" if percent else fixed(float(edge), decimals)

    span = edges[-1] - edges[0]
    marks = tuple(Tick(round(100 * (e - edges[0]) / span, 2), name(e)) for e in edges)
    return Axis(float(edges[0]), float(edges[-1]), marks)


def ecdf_points(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Empirical distribution function of ``(N,)`` values as at most :data:`MAX_POINTS` steps.

    Returns:
        Ascending positions and the share of values at or below each of them.
    """
    ordered = np.sort(values[np.isfinite(values)])
    ranks = np.arange(1, ordered.size + 1)
    if ordered.size > MAX_POINTS:
        ranks = np.unique(np.linspace(1, ordered.size, MAX_POINTS).round().astype(int))
    return ordered[ranks - 1], ranks / ordered.size


def step_path(x: np.ndarray, y: np.ndarray, x_axis: Axis, y_axis: Axis) -> str:
    """SVG path of a right-continuous step function that starts at the foot of the plot."""
    start = 10 * x_axis.percent(float(x[0]))
    parts = [f"M0 {BOX}H{start:g}"]
    for position, height in zip(x, y, strict=True):
        across = 10 * x_axis.percent(float(position))
        parts.append(f"H{across:g}V{BOX - 10 * y_axis.percent(float(height)):g}")
    return "".join(parts) + f"H{BOX}"


def ecdf_chart(series: Sequence[Series], tau: float | None, *, notes: Mapping[str, str]) -> Chart:
    """Distribution of per-image CAS, with the region below tau shaded (Fig. 4 of the paper).

    Args:
        series: Real, the methods and the floor; those without a value are left out.
        tau: Threshold of low alignment, or None where it could not be had.
        notes: What the legend says beside a name, e.g. its low-alignment rate.
    """
    shown = [one for one in series if one.finite.size]
    points = {one.name: ecdf_points(one.values) for one in shown}
    lows, highs = zip(*((x[0], x[-1]) for x, _ in points.values()), strict=True)
    x_axis, y_axis = axis(min(lows), max(highs), ticks=8), axis(0.0, 1.0, percent=True)
    places = _label_places(points, x_axis)
    curves = tuple(
        Curve(
            one.name,
            one.ink,
            step_path(*points[one.name], x_axis, y_axis),
            notes.get(one.name, ""),
            places.get(one.name),
        )
        for one in shown
    )
    return Chart(
        title="Distribution of per-image CAS",
        x=x_axis,
        x_label="CAS of an image",
        y=y_axis,
        y_label="images at or below",
        curves=curves,
        marker=None if tau is None else Tick(x_axis.percent(tau), f"τ = {fixed(tau)}"),
        shaded_to=None if tau is None else x_axis.percent(tau),
        description="; ".join(f"{c.name}: {c.note}" if c.note else c.name for c in curves),
    )


def stability_chart(
    curves: Mapping[str, tuple[str, Sequence[tuple[float, float, float]]]], quantile: float
) -> Chart:
    """Low-alignment rate against the quantile of Real that makes tau; the diagonal is Real.

    Args:
        curves: Name to its ink and ``(quantile, tau, rate)`` triples.
        quantile: The quantile that the protocol uses, marked by a line.
    """
    ends = [triple[0] for _, curve in curves.values() for triple in curve] or [0.0, 1.0]
    x_axis = axis(0.0, max(ends), percent=True)
    y_axis = axis(0.0, 1.0, percent=True)

    def path(points: Sequence[tuple[float, float]]) -> str:
        spots = (f"{10 * x_axis.percent(x):g} {BOX - 10 * y_axis.percent(y):g}" for x, y in points)
        return "M" + "L".join(spots)

    shown = [Curve("Real", "real", path([(q, q) for q in (min(ends), max(ends))]))]
    shown += [
        Curve(name, ink, path([(q, rate) for q, _, rate in curve]))
        for name, (ink, curve) in curves.items()
    ]
    return Chart(
        title="Stability of the low-alignment rate",
        x=x_axis,
        x_label="quantile of Real at which τ is set",
        y=y_axis,
        y_label="images below τ",
        curves=tuple(shown),
        marker=Tick(x_axis.percent(quantile), f"{quantile:.0%}"),
        description="; ".join(curve.name for curve in shown),
    )


def _label_places(
    points: Mapping[str, tuple[np.ndarray, np.ndarray]], x_axis: Axis, *, room: float = 13.0
) -> dict[str, Label]:
    """Where a name fits to the right of its curve without touching a curve or another name.

    A name is about 8% of the plot high. For each curve the height is taken at which the band of
    that height to its right is emptiest; a curve without ``room`` percent of the plot's width gets
    no label and is told by the legend alone.
    """
    heights = np.linspace(0.05, 0.95, 46)
    band = 2  # of those heights to either side
    beside = 3.0  # percent by which a curve to the left keeps off, lest the name seem its own
    spans = {}
    for name, (x, y) in points.items():
        across = np.array([x_axis.percent(float(x[np.searchsorted(y, h)])) for h in heights])
        windows = np.lib.stride_tricks.sliding_window_view(across, 2 * band + 1)
        spans[name] = (windows.min(axis=1), windows.max(axis=1))
    middles = 100 * heights[band:-band]
    places: dict[str, Label] = {}
    for name, (_, right) in spans.items():
        gaps = 100 - right
        for other, (low, high) in spans.items():
            if other != name:
                apart = np.where(high <= right - beside, np.inf, np.maximum(low - right, 0))
                gaps = np.minimum(gaps, apart)
        for taken in places.values():
            gaps[np.abs(middles - taken.y) < 8] = 0
        best = int(gaps.argmax())
        if gaps[best] >= room:
            places[name] = Label(float(right[best]), round(float(middles[best]), 1))
    return places


def interval_chart(rows: Sequence[tuple[str, str, float, float, float]], title: str) -> Chart:
    """Means with their intervals, one line each.

    Args:
        rows: ``(name, ink, mean, low, high)``; the bounds may be NaN.
        title: What is shown.
    """
    numbers = np.array([row[2:] for row in rows], dtype=float)
    x_axis = axis(float(np.nanmin(numbers)), float(np.nanmax(numbers)))
    lines = []
    for name, ink, mean, low, high in rows:
        bounded = np.isfinite(low) and np.isfinite(high)
        lines.append(
            Row(
                name,
                ink,
                fixed(mean),
                at=x_axis.percent(mean),
                low=x_axis.percent(low) if bounded else None,
                high=x_axis.percent(high) if bounded else None,
                interval=between([low, high]),
            )
        )
    words = "; ".join(f"{r.name} {r.value} ({r.interval})" if r.interval else r.name for r in lines)
    return Chart(title, x_axis, "mean CAS", rows=tuple(lines), description=words)


def histogram_chart(
    title: str, series: Sequence[Series], *, x_label: str = "score", note: str = ""
) -> Chart:
    """Histograms of one score, one under another on one axis, all of the same area."""
    shown = [one for one in series if one.finite.size]
    pooled = np.concatenate([one.finite for one in shown])
    x_axis = axis(float(pooled.min()), float(pooled.max()), ticks=4)
    edges = np.linspace(x_axis.low, x_axis.high, BINS + 1)
    shares = [np.histogram(one.finite, edges)[0] / one.finite.size for one in shown]
    peak = max(float(share.max()) for share in shares)
    rows = tuple(
        Row(
            one.name,
            one.ink,
            fixed(float(one.finite.mean())),
            at=x_axis.percent(float(one.finite.mean())),
            path=_histogram_path(share / peak),
        )
        for one, share in zip(shown, shares, strict=True)
    )
    words = "; ".join(f"{row.name}: mean {row.value}" for row in rows)
    return Chart(title, x_axis, x_label, rows=rows, description=words, note=note)


def share_chart(title: str, series: Sequence[Series], *, note: str = "") -> Chart:
    """Share of ones of a score that is 0 or 1, as bars from 0% to 100%."""
    x_axis = axis(0.0, 1.0, ticks=4, percent=True)
    rows = tuple(
        Row(
            one.name,
            one.ink,
            share(float(one.finite.mean())),
            path=f"M0 0H{10 * x_axis.percent(float(one.finite.mean())):g}V{BOX}H0Z",
        )
        for one in series
        if one.finite.size
    )
    words = "; ".join(f"{row.name} {row.value}" for row in rows)
    return Chart(title, x_axis, "images", rows=rows, description=words, note=note)


def _histogram_path(heights: np.ndarray) -> str:
    """Closed outline of bars whose heights are shares of the tallest."""
    width = BOX / heights.size
    parts = [f"M0 {BOX}"]
    for index, height in enumerate(heights):
        parts.append(f"V{BOX * (1 - height):.0f}H{(index + 1) * width:g}")
    return "".join(parts) + f"V{BOX}Z"
