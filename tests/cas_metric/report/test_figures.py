"""Figures hold the numbers that they were given, and are written the same way every time."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
from scipy.stats import linregress

from cas_metric.errors import CasError, InputError
from cas_metric.report import figures
from cas_metric.statistics.tail import stability_curve
from cas_metric.statistics.uncertainty import Interval

RNG = np.random.default_rng(3)
REAL = RNG.normal(0.5, 0.05, 200)
METHODS = {"A": RNG.normal(0.4, 0.06, 150), "B <&>": np.append(RNG.normal(0.45, 0.05, 150), np.nan)}
INTERVALS = {"A": Interval(0.40, 0.38, 0.42, 0.95), "B": Interval(0.45, 0.44, 0.46, 0.95)}


def texts(figure):
    return [t.get_text() for t in figure.findobj(match=lambda o: hasattr(o, "get_text"))]


FIGURES = {
    "ecdf": lambda: figures.ecdf(METHODS, REAL, tau=0.46, floor=REAL - 0.05, title="Set"),
    "forest": lambda: figures.forest(INTERVALS, real=Interval(0.5, 0.49, 0.51, 0.95)),
    "scatter": lambda: figures.scatter(
        [0.1, 0.2, 0.3], [1, 2, 2.5], ["A", "B", "C"], x_label="CAS", y_label="score"
    ),
    "ranks": lambda: figures.rank_distribution({"A": [0.7, 0.3], "B": [0.3, 0.7]}),
    "top1": lambda: figures.top1(INTERVALS, chance=0.5),
    "stability": lambda: figures.stability(
        {name: stability_curve(values, REAL) for name, values in METHODS.items()}
    ),
}


@pytest.mark.parametrize("name", list(FIGURES))
def test_files_are_the_same_every_time_and_carry_no_date(name, tmp_path):
    first = figures.save_figure(FIGURES[name](), tmp_path / "first" / "x.y")
    second = figures.save_figure(FIGURES[name](), tmp_path / "second" / "x.y")
    assert [p.name for p in first] == ["x.y.svg", "x.y.pdf", "x.y.png"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert b"CreationDate" not in first[1].read_bytes()
    assert b"<dc:date>" not in first[0].read_bytes()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CasError, match="cannot be written"):
        figures.save_figure(FIGURES["ranks"](), tmp_path / "file" / "x")


def test_a_floor_without_values_is_not_drawn():
    figure = figures.ecdf(METHODS, REAL, tau=0.46, floor=np.full(len(REAL), np.nan))
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert "Floor" not in labels
    assert "Real" in labels


def test_ecdf_curves_are_those_of_the_data():
    axes = FIGURES["ecdf"]().axes[0]
    curves = {line.get_label(): line.get_xydata() for line in axes.lines}
    rate = float((METHODS["A"] < 0.46).mean())
    x, y = curves[f"A ({rate:.0%} below)"].T
    for position in (0.35, 0.4, 0.45):
        drawn = y[np.searchsorted(x, position, side="right") - 1]
        assert drawn == pytest.approx((METHODS["A"] <= position).mean())
    assert {"Real", "Floor"} <= set(curves)


def test_forest_draws_the_intervals_in_order():
    axes = FIGURES["forest"]().axes[0]
    bars = [line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 2]
    assert [list(b) for b in bars if b[0] != b[1]] == [[0.38, 0.42], [0.44, 0.46]]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["A", "B"]
    assert "mean CAS (95% interval)" in texts(axes.figure)


def test_scatter_draws_the_least_squares_line():
    x, y = np.array([0.2, 0.32, 0.32, 0.35, 0.4]), np.array([-1.6, -0.5, -0.3, 0.4, 1.7])
    figure = figures.scatter(x, y, list("abcde"), x_label="CAS", y_label="BT", note="r = 0.97")
    line = figure.axes[0].lines[0].get_xydata()
    fit = linregress(x, y)
    assert np.allclose(line[:, 1], fit.intercept + fit.slope * line[:, 0])
    assert {"a", "b", "c", "d", "e", "r = 0.97"} <= set(texts(figure))


def test_scatter_keeps_the_names_of_equal_points_apart():
    figure = figures.scatter([1, 1, 2], [5, 5, 9], ["a", "b", "c"], x_label="x", y_label="y")
    places = {t.get_text(): t.xy for t in figure.axes[0].texts}
    assert abs(places["a"][1] - places["b"][1]) > 0.05 * np.ptp(figure.axes[0].get_ylim())


@pytest.mark.parametrize("x", [[1, 2], [1, 1, 1]])
def test_scatter_refuses_what_has_no_regression_line(x):
    with pytest.raises(InputError):
        figures.scatter(x, range(len(x)), [str(i) for i in x], x_label="x", y_label="y")


def test_rank_bars_have_the_given_lengths():
    axes = FIGURES["ranks"]().axes[0]
    widths = [[patch.get_width() for patch in bars] for bars in axes.containers]
    assert np.allclose(widths, [[0.7, 0.3], [0.3, 0.7]])


def test_top1_bars_and_their_intervals():
    axes = FIGURES["top1"]().axes[0]
    assert [p.get_height() for p in axes.patches] == [0.40, 0.45]
    segments = [c.get_segments()[0] for c in axes.collections]
    assert np.allclose([[s[0][1], s[1][1]] for s in segments], [[0.38, 0.42], [0.44, 0.46]])


def test_top1_draws_an_interval_that_rounding_put_above_its_estimate():
    third = Interval(1 / 3, np.nextafter(1 / 3, 1), 0.5, 0.95)
    assert figures.top1({"A": third}).axes[0].patches[0].get_height() == 1 / 3


def test_stability_marks_the_quantile_of_the_protocol():
    axes = FIGURES["stability"]().axes[0]
    curves = {line.get_label(): line.get_xydata() for line in axes.lines}
    assert np.allclose(
        curves["A"][:, 1], [rate for *_, rate in stability_curve(METHODS["A"], REAL)]
    )
    assert any(set(np.unique(line.get_xdata())) == {0.25} for line in axes.lines)


def test_drawing_leaves_matplotlibs_settings_alone():
    before = dict(mpl.rcParams)
    for draw in FIGURES.values():
        draw()
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("name", ["short", "TI+LoRA+t_ep", "a method of a rather long name"])
def test_no_name_leaves_the_figure(name):
    methods = {f"{name} {index}": values for index, values in enumerate(METHODS.values())}
    figure = figures.ecdf(methods, REAL, tau=0.46)
    for resolution in (72, 100, 150, 300):
        figure.set_dpi(resolution)
        figure.draw_without_rendering()
        assert figure.legends[0].get_window_extent().x1 <= figure.bbox.x1, resolution


def test_the_names_of_the_paper_stay_within_a_written_figure():
    names = ["Zero-Shot", "TI", "DPO", "TI+LoRA", "TI+LoRA+t_ep", "CRAFT"]
    figure = figures.ecdf(dict.fromkeys(names, METHODS["A"]), REAL, tau=0.46, floor=REAL)
    for resolution in (72, 300):
        figure.set_dpi(resolution)
        figure.draw_without_rendering()
        assert figure.legends[0].get_window_extent().x1 <= figure.bbox.x1
