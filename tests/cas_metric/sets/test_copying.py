"""Against the definitions as plain loops, and against sets of known copies."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from cas_metric.errors import InputError
from cas_metric.sets.copying import authenticity, copying_in_cells, data_copying


def test_authenticity_is_its_definition():
    rng = np.random.default_rng(0)
    train, ours = rng.normal(size=(40, 3)), rng.normal(size=(30, 3))
    authentic = 0
    for image in ours:
        distances = [np.linalg.norm(image - one) for one in train]
        nearest = int(np.argmin(distances))
        others = [np.linalg.norm(train[nearest] - t) for k, t in enumerate(train) if k != nearest]
        authentic += distances[nearest] > min(others)
    assert authenticity(ours, train) == pytest.approx(100 * authentic / 30)


def test_copies_are_not_authentic_and_new_images_are():
    rng = np.random.default_rng(1)
    train = rng.normal(size=(100, 5))
    assert authenticity(train + 1e-6, train) == 0.0
    assert authenticity(rng.normal(size=(100, 5)), train) > 40


def test_c_t_is_the_weighted_mean_of_standardised_u():
    rng = np.random.default_rng(2)
    train, test, ours = (rng.normal(size=(n, 4)) for n in (90, 60, 120))
    cells = [np.arange(len(rows)) % 3 for rows in (ours, train, test)]

    def nearest(rows, others):
        return [min(np.linalg.norm(row - other) for other in others) for row in rows]

    expected = 0.0
    for cell in range(3):
        a, t, b = (rows[c == cell] for rows, c in zip((ours, train, test), cells, strict=True))
        u = mannwhitneyu(nearest(a, t), nearest(b, t), alternative="less").statistic
        m, n = len(a), len(b)
        z = (u - (m * n / 2 - 0.5)) / np.sqrt(m * n * (m + n + 1) / 12)
        expected += n / 60 * z
    found = copying_in_cells(ours, train, test, *cells)
    assert found.c_t == pytest.approx(expected)
    assert found.cells == 3


def test_copies_lie_nearer_to_training_images_than_unseen_ones():
    rng = np.random.default_rng(3)
    train, test, new = (rng.normal(size=(200, 80)) for _ in range(3))
    assert data_copying(train + 0.05 * rng.normal(size=train.shape), train, test).c_t < -5
    assert abs(data_copying(new, train, test).c_t) < 3


def test_too_few_generated_images_for_any_cell_are_refused():
    rng = np.random.default_rng(4)
    with pytest.raises(InputError, match="no cell holds more than 20"):
        data_copying(*(rng.normal(size=(15, 3)) for _ in range(3)))
