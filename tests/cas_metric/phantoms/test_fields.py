"""Fields of the nearest spot, segment and cell agree with a search over all of them."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cas_metric.phantoms import draw
from cas_metric.phantoms.fields import around, mosaic, scatter, segments, spots

SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, n=st.integers(4, 30))
def test_a_mosaic_holds_the_nearest_and_the_second_nearest_point(seed, n):
    g = draw.grid(16)
    cells = mosaic(np.random.default_rng(seed), g, n, jitter=0.8)
    jitter = np.random.default_rng(seed).random((n, n, 2), dtype=np.float32) - 0.5
    row, column = np.mgrid[-2 : n + 2, -2 : n + 2]
    points = np.stack([column, row], axis=-1) + 0.5 + 0.8 * jitter[row % n, column % n]
    points = points.reshape(-1, 2) * 2 / n - 1
    distance = np.hypot(g.x[..., None] - points[:, 0], g.y[..., None] - points[:, 1])
    first, second = np.sort(distance, axis=-1)[..., :2].transpose(2, 0, 1)
    np.testing.assert_allclose(cells.distance, first, atol=1e-5)
    np.testing.assert_allclose(cells.wall, (second - first) / 2, atol=1e-5)
    number = ((row % n) * n + column % n).ravel()
    clear = second - first > 1e-4
    np.testing.assert_array_equal(cells.which[clear], number[distance.argmin(-1)][clear])


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS)
def test_spots_are_ellipses_and_the_nearest_counts(seed):
    rng = np.random.default_rng(seed)
    g = draw.grid(24)
    centres, radii = rng.uniform(-1, 1, (5, 2)), rng.uniform(0.1, 0.4, 5)
    turns, aspect = rng.uniform(0, 3, 5), rng.uniform(1, 3, 5)
    field = spots(g, centres, radii, angles=turns, aspect=aspect)
    inside = np.zeros((24, 24), dtype=bool)
    for (x, y), r, turn, a in zip(centres, radii, turns, aspect, strict=True):
        axes = (r * np.sqrt(a), r / np.sqrt(a))
        inside |= draw.ellipse(g, (x, y), axes, turn) < -1e-5
    assert not (inside & (field.rho > 1)).any()
    assert (field.outline < 0).sum() - inside.sum() < 3
    np.testing.assert_allclose(field.radius, radii[field.which], rtol=1e-6)


def test_segments_measure_the_distance_to_a_tapered_ribbon():
    g = draw.grid(32)
    field = segments(
        g,
        np.array([[-0.5, 0.0], [0.0, -0.8]]),
        np.array([[0.5, 0.0], [0.0, -0.8]]),
        np.array([[0.2, 0.4], [0.1, 0.1]]),
    )
    expected = draw.polyline(g, [(-0.5, 0.0), (0.5, 0.0)], [0.2, 0.4])
    point = np.hypot(g.x, g.y + 0.8) - 0.05
    np.testing.assert_allclose(field.distance, np.minimum(expected, point), atol=1e-5)
    np.testing.assert_array_equal(field.which, point < expected)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, count=st.integers(2, 12))
def test_scattered_points_lie_in_their_ellipse_and_apart(seed, count):
    few = scatter(np.random.default_rng(seed), count, 0.7, aspect=2.0)
    assert few.shape == (count, 2)
    x, y = few[:, 0] / np.sqrt(2), few[:, 1] * np.sqrt(2)
    assert (np.hypot(x, y) <= 0.7 + 1e-9).all()
    gaps = np.hypot(*(few[:, None] - few[None]).transpose(2, 0, 1)) + 9 * np.eye(count)
    assert gaps.min() > 0.02


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, count=st.integers(1, 8))
def test_points_around_a_middle_are_evenly_spaced(seed, count):
    points = around(np.random.default_rng(seed), count, 0.6)
    if count == 1:
        np.testing.assert_array_equal(points, [[0, 0]])
        return
    np.testing.assert_allclose(np.hypot(*points.T), 0.6)
    gaps = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1)) + 9 * np.eye(count)
    assert gaps.min() > 0.7 * 2 * 0.6 * np.sin(np.pi / count)
