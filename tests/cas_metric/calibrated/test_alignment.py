"""Ranks are uniform for what is exchangeable, whatever was measured."""

from __future__ import annotations

import numpy as np
import pytest

from cas_metric.calibrated.alignment import RANKS, calibrate, combine, small_together
from cas_metric.calibrated.conformal import conformal_rank, tie_breakers
from cas_metric.calibrated.measures import Measured
from cas_metric.calibrated.run import held_out

PLACES = np.array([0.05, 0.1, 0.25])


def images(numbers: np.ndarray, classes: np.ndarray, prefix: str, start: int = 0) -> Measured:
    names = tuple(f"{prefix}{row}" for row in range(start, start + len(numbers)))
    return Measured(numbers, classes, np.arange(start, start + len(numbers)), names)


def test_rank_without_ties_is_that_of_a_sorted_list() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=40)
    for row in range(40):
        others = np.delete(values, row)
        expected = 1 + np.flatnonzero(np.argsort(values) == row)[0]
        assert conformal_rank(values[row], others, 1.0) == pytest.approx(expected / 40)


def test_rank_of_nothing_is_nothing() -> None:
    assert np.isnan(conformal_rank(float("nan"), [1.0], 0.5))
    assert np.isnan(conformal_rank(1.0, [], 0.5))
    assert np.isnan(conformal_rank(1.0, [float("nan")], 0.5))


def test_tie_breakers_are_uniform_and_the_same_each_time() -> None:
    names = [f"image {k}" for k in range(4000)]
    found = tie_breakers(names, "a")
    assert (found == tie_breakers(names, "a")).all()
    assert abs(np.corrcoef(found, tie_breakers(names, "b"))[0, 1]) < 0.06
    assert np.abs(np.quantile(found, PLACES) - PLACES).max() < 0.025


@pytest.mark.parametrize("kind", ["informative", "noise", "constant", "coarse"])
def test_the_share_of_real_images_called_low_is_alpha(kind: str) -> None:
    rng = np.random.default_rng(1)
    shares = []
    for split in range(150):
        classes = rng.integers(2, size=70)
        numbers = rng.normal(size=(70, 4)) + (classes[:, None] if kind == "informative" else 0)
        if kind == "informative":
            numbers[:, 3] = -(np.abs(numbers[:, 3]) ** 3)
        if kind == "constant":
            numbers[:] = 0.3
        if kind == "coarse":
            numbers = np.round(numbers)
        everything = images(numbers, classes, f"{split}|")
        new = np.arange(70) < 20
        found = calibrate(everything.take(new), everything.take(~new))
        shares.append((found.to_numpy()[:, :5, None] <= PLACES).mean(axis=0))
    error = np.sqrt(PLACES * (1 - PLACES) / (150 * 20) + PLACES * (1 - PLACES) / (150 * 25))
    assert (np.abs(np.mean(shares, axis=0) - PLACES) < 4 * error).all()


def test_order_of_the_rows_has_no_influence() -> None:
    rng = np.random.default_rng(2)
    real = images(rng.normal(size=(60, 4)), rng.integers(2, size=60), "r")
    own = images(rng.normal(size=(30, 4)), rng.integers(2, size=30), "g")
    turned = np.arange(60)[::-1]
    other = Measured(
        real.primitives[turned], real.classes[turned], real.groups[turned], real.names[::-1]
    )
    left, right = calibrate(own, real), calibrate(own, other)
    np.testing.assert_allclose(left, right, rtol=1e-9)


def test_an_image_is_not_held_against_its_own_origin() -> None:
    real = images(np.arange(30.0)[:, None] * np.ones(4), np.zeros(30, dtype=int), "r")
    found = calibrate(real, real)
    expected = (np.arange(30) + tie_breakers(real.names, "alignment")) / 30
    np.testing.assert_allclose(found["alignment"], expected)


def test_images_without_class_or_embedding_have_no_rank() -> None:
    rng = np.random.default_rng(3)
    real = images(rng.normal(size=(40, 4)), np.zeros(40, dtype=int), "r")
    numbers = rng.normal(size=(4, 4))
    numbers[1] = np.nan
    numbers[2, :2] = np.nan  # neither prompt nor checklist
    found = calibrate(images(numbers, np.array([-1, 0, 0, 0]), "g"), real)
    assert found.iloc[:2].isna().all(axis=None)
    assert found.loc[2, list(RANKS[:2])].isna().all()
    assert np.isfinite(found.loc[2, ["rank_dd", "rank_sfs", "alignment", "deviation"]]).all()
    assert np.isfinite(found.loc[3]).all()


def test_small_classes_are_calibrated_together() -> None:
    classes = np.repeat([0, 1, 2, -1], [25, 19, 3, 2])
    found = small_together(classes)
    assert (found[:25] == 0).all()
    assert len(set(found[25:47])) == 1
    assert found[25] not in (0, -1)
    assert (found[47:] == -1).all()


def test_combination_weighs_in_units_of_spread() -> None:
    rng = np.random.default_rng(4)
    bag = rng.normal(size=(50, 2))
    weights = np.array([4.0, 1.0])
    np.testing.assert_allclose(combine(bag * [1, 1000], weights), combine(bag, weights), atol=1e-9)
    flat = np.column_stack([bag[:, 0], np.full(50, 0.1 + 0.2)])
    np.testing.assert_array_equal(np.argsort(combine(flat, weights)), np.argsort(bag[:, 0]))


def test_a_half_ranks_classes_apart_where_the_whole_does() -> None:
    # Halves of two classes of 30 are too small to be ranked in alone, the whole is not.
    shares = []
    for seed in range(20):
        classes = np.repeat([0, 1], 30)
        numbers = np.random.default_rng(seed).normal(3 * classes[:, None], 1, (60, 4))
        found = held_out(images(numbers, classes, f"{seed}|"))
        shares.append([(found[classes == label] <= 0.1).mean() for label in (0, 1)])
    # Binomial for 600 images, each ranked among some 15.
    assert np.abs(np.mean(shares, axis=0) - 0.1).max() < 4 * np.sqrt(0.09 / 600 + 0.09 / 300)
