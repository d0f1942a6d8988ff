"""Positions in charts against independent computations."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cas_metric.report import charts
from cas_metric.report.charts import MAX_POINTS, Series
from cas_metric.report.palette import FLOOR, INKS, REAL

finite = st.floats(-1, 1, allow_nan=False)
scores = hnp.arrays(np.float64, st.integers(1, 60), elements=finite)


@given(scores)
def test_ecdf_points_are_the_distribution_function(values):
    x, y = charts.ecdf_points(values)
    for position in np.unique(x):  # of equal positions the last holds the full height
        assert y[x == position].max() == pytest.approx((values <= position).mean())


def test_a_long_ecdf_is_thinned_within_the_width_of_its_line():
    values = np.random.default_rng(0).normal(size=20_000)
    x, y = charts.ecdf_points(np.append(values, np.nan))
    assert len(x) <= MAX_POINTS
    ordered = np.sort(values)
    exact = np.searchsorted(ordered, x, side="right") / values.size
    assert np.abs(exact - y).max() < 1e-9
    assert np.diff(y).max() < 1.5 / MAX_POINTS
    assert (x[0], x[-1], y[-1]) == (ordered[0], ordered[-1], 1.0)


@given(finite, finite)
def test_an_axis_covers_its_data_and_labels_true_positions(a, b):
    axis = charts.axis(min(a, b), max(a, b))
    assert axis.low <= min(a, b) + 1e-9
    assert axis.high >= max(a, b) - 1e-9
    for tick in axis.ticks:
        labelled = float(tick.label.replace("−", "-"))
        assert axis.percent(labelled) == pytest.approx(tick.at, abs=0.6)


def test_step_path_rises_where_the_data_lie():
    x_axis, y_axis = charts.axis(0, 1), charts.axis(0, 1, percent=True)
    path = charts.step_path(np.array([0.25, 0.5]), np.array([0.5, 1.0]), x_axis, y_axis)
    assert path == "M0 1000H250H250V500H500V0H1000"


def test_tau_is_shaded_at_its_place():
    series = [Series("Real", "real", np.array([0.2, 0.6])), Series("a", "m0", np.array([0.1, 0.5]))]
    chart = charts.ecdf_chart(series, 0.3, notes={"a": "50% below τ"})
    assert chart.shaded_to == chart.marker.at == chart.x.percent(0.3)
    assert chart.marker.label == "τ = 0.300"
    assert "a: 50% below τ" in chart.description


def test_names_are_set_apart_from_other_curves_and_from_each_other():
    rng = np.random.default_rng(1)
    series = [
        Series(name, f"m{i}", rng.normal(centre, 0.02, 400))
        for i, (name, centre) in enumerate((("left", 0.2), ("middle", 0.45), ("right", 0.7)))
    ]
    labels = {c.name: c.label for c in charts.ecdf_chart(series, None, notes={}).curves}
    assert all(labels.values())
    assert labels["left"].x < labels["middle"].x < labels["right"].x
    same = [Series("a", "m0", series[0].values), Series("b", "m1", series[0].values + 1e-4)]
    crowded = {c.name: c.label for c in charts.ecdf_chart(same, None, notes={}).curves}
    assert not all(crowded.values())


def test_histograms_share_one_scale_and_hold_all_images():
    series = [Series("a", "m0", np.linspace(0, 1, 100)), Series("b", "m1", np.full(50, 0.5))]
    chart = charts.histogram_chart("t", series)
    heights = [
        1 - np.array([float(v) for v in re.findall(r"V(\d+)", row.path)[:-1]]) / charts.BOX
        for row in chart.rows
    ]
    assert heights[1].max() == 1.0
    assert heights[0].sum() == pytest.approx(heights[1].sum(), abs=0.02)  # equal areas
    assert [row.value for row in chart.rows] == ["0.500", "0.500"]


def test_shares_are_bars_from_nothing_to_all():
    chart = charts.share_chart("t", [Series("a", "m0", np.array([1.0, 0.0, 1.0, 1.0, np.nan]))])
    assert chart.rows[0].value == "75.0%"
    assert "H750V" in chart.rows[0].path


def test_intervals_are_drawn_at_their_values():
    chart = charts.interval_chart(
        [("a", "m0", 0.4, 0.3, 0.5), ("b", "m1", 0.35, np.nan, np.nan)], "t"
    )
    first, second = chart.rows
    assert (first.low, first.at, first.high) == tuple(chart.x.percent(v) for v in (0.3, 0.4, 0.5))
    assert second.low is None
    assert second.interval == ""


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def contrast(a, b):
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("one", [*INKS, REAL, FLOOR], ids=lambda one: one.light)
def test_inks_stand_out_from_both_grounds(one):
    assert contrast(one.light, "#fbfaf8") >= 4.5  # names beside curves are set in them
    assert contrast(one.dark, "#14171b") >= 4.5
