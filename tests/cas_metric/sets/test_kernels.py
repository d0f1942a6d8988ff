import numpy as np
import pytest

from cas_metric.sets.fidelity import frechet_distance, frechet_infinity
from cas_metric.sets.kernels import cmmd, kernel_distance


def test_cmmd_is_its_definition():
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(20, 5)), rng.normal(0.5, 1, size=(30, 5))
    a, b = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (left, right))

    def mean(x, y):
        return np.mean([[np.exp(-np.square(p - q).sum() / 200) for q in y] for p in x])

    assert cmmd(left, right) == pytest.approx(1000 * (mean(a, a) + mean(b, b) - 2 * mean(a, b)))
    assert cmmd(left, left) == pytest.approx(0, abs=1e-9)


def test_kernel_distance_needs_raw_features_to_be_read():
    rng = np.random.default_rng(1)
    left, right = rng.normal(size=(200, 64)), rng.normal(0.3, 1, size=(200, 64))
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (left, right)]
    assert kernel_distance(left, right).mean > 50 * kernel_distance(*unit).mean


def test_frechet_infinity_is_the_line_through_the_same_subsets():
    rng = np.random.default_rng(2)
    left, right = rng.normal(size=(300, 4)), rng.normal(0.4, 1, size=(500, 4))
    sizes = np.linspace(30, 300, 15).astype(int)
    draw = np.random.default_rng(7)
    values = [frechet_distance(left[draw.choice(300, n, replace=False)], right) for n in sizes]
    x = 1 / sizes
    slope = ((x - x.mean()) * (values - np.mean(values))).sum() / np.square(x - x.mean()).sum()
    assert frechet_infinity(left, right, seed=7) == pytest.approx(
        np.mean(values) - slope * x.mean()
    )


def test_frechet_infinity_takes_the_bias_out():
    rng = np.random.default_rng(3)
    left, right = rng.normal(size=(400, 20)), rng.normal(size=(20_000, 20))
    assert abs(frechet_infinity(left, right)) < 0.4 * frechet_distance(left, right)
