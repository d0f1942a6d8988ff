"""Against torch-fidelity on shared features, and against what is known by construction."""

import numpy as np
import pytest
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from cas_metric.errors import InputError
from cas_metric.sets.fidelity import (
    Manifolds,
    frechet_distance,
    manifolds,
    small_sample_warnings,
)
from cas_metric.sets.kernels import kernel_distance


def features(n, dim, shift=0.0, seed=0):
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(dim, dim)) / np.sqrt(dim)
    return rng.normal(size=(n, dim)) @ mixing + shift


@pytest.mark.parametrize(("n", "m", "dim"), [(300, 250, 16), (40, 60, 64)])
def test_frechet_distance_is_torch_fidelitys(n, m, dim):
    left, right = features(n, dim, 0.2, 1), features(m, dim, 0.0, 2)
    statistics = [fid_features_to_statistics(torch.from_numpy(rows)) for rows in (left, right)]
    expected = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert frechet_distance(left, right) == pytest.approx(expected, rel=1e-5)


def test_frechet_distance_of_normals_is_the_closed_form():
    rng = np.random.default_rng(3)
    left, right = rng.normal(0, 1, (20_000, 3)), rng.normal(0.5, 2, (20_000, 3))
    assert frechet_distance(left, right) == pytest.approx(3 * (0.25 + 1), rel=0.03)
    assert frechet_distance(left, left) == pytest.approx(0, abs=1e-9)


def test_kernel_distance_is_torch_fidelitys_on_whole_sets():
    left, right = features(80, 12, 0.3, 4), features(80, 12, 0.0, 5)
    expected = kid_features_to_metric(
        torch.from_numpy(left),
        torch.from_numpy(right),
        kid_subsets=1,
        kid_subset_size=80,
        verbose=False,
    )["kernel_inception_distance_mean"]
    # A subset of the size of the set is the set, whatever is drawn: one value, and no deviation.
    found = kernel_distance(left, right, subsets=3, subset_size=500)
    assert found.mean == pytest.approx(expected, rel=1e-6)
    assert np.isnan(found.std)
    assert found.subset_size == 80


def test_kernel_distance_is_unbiased_around_zero_for_one_distribution():
    found = kernel_distance(features(400, 8, seed=6), features(400, 8, seed=7), subset_size=100)
    assert abs(found.mean) < 3 * found.std


@pytest.mark.parametrize("k", [3, 5])
def test_precision_and_recall_are_torch_fidelitys(k):
    left, right = features(120, 6, 0.4, 8), features(150, 6, 0.0, 9)
    expected = prc_features_to_metric(
        torch.from_numpy(left),
        torch.from_numpy(right),
        prc_neighborhood=k,
        prc_batch_size=1000,
        save_cpu_ram=False,
        verbose=False,
    )
    found = manifolds(left, right, k=k)
    assert found.precision == pytest.approx(expected["precision"])
    assert found.recall == pytest.approx(expected["recall"])


def test_density_and_coverage_by_their_definitions():
    left, right = features(60, 4, 0.3, 10), features(50, 4, 0.0, 11)
    distance = np.linalg.norm(right[:, None] - right[None], axis=2)
    radius = np.sort(distance, axis=1)[:, 5]
    inside = np.linalg.norm(right[:, None] - left[None], axis=2) < radius[:, None]
    found = manifolds(left, right, k=5)
    assert found.density == pytest.approx(inside.sum() / (5 * 60))
    assert found.coverage == pytest.approx(inside.any(axis=1).mean())


def test_a_copy_at_the_radius_is_inside_for_precision_and_outside_for_density():
    real = np.array([[0.0], [1.0], [3.0], [7.0]])  # radii for k = 1: 1, 1, 2, 4
    found = manifolds(real[2:], real, k=1)  # copies of the images at 3 and 7
    # Inside each ball by less than its radius: at 3 its own, at 7 its own.
    assert found == Manifolds(precision=1.0, recall=1.0, density=1.0, coverage=0.5)
    # At 5 = 3 + 2 on the edge of one ball, inside that of 7.
    found = manifolds([[5.0], [-1.0]], real, k=1)
    assert (found.precision, found.density, found.coverage) == (1.0, 0.5, 0.25)


def test_blocks_do_not_change_the_manifolds(monkeypatch):
    left, right = features(70, 5, 0.2, 12), features(90, 5, 0.0, 13)
    whole = manifolds(left, right)
    monkeypatch.setattr("cas_metric.sets.fidelity._BLOCK", 7)
    assert manifolds(left, right) == whole


def test_copies_of_one_real_image_are_precise_and_cover_nothing():
    real = features(100, 4, seed=14)
    found = manifolds(np.tile(real[:1], (100, 1)), real)
    assert found.precision == 1.0
    assert found.recall < 0.1
    assert found.coverage < 0.2


def test_failed_images_are_left_out_and_too_few_are_refused():
    left, right = features(30, 4, seed=15), features(30, 4, seed=16)
    broken = np.vstack([left, np.full((2, 4), np.nan)])
    assert frechet_distance(broken, right) == frechet_distance(left, right)
    with pytest.raises(InputError, match="5 generated images are too few: 6 are needed"):
        manifolds(left[:5], right)
    with pytest.raises(InputError, match="4 and of 3 dimensions"):
        frechet_distance(left, right[:, :3])


def test_small_samples_are_warned_about():
    assert "singular" in small_sample_warnings(500, 600, 768)[0]
    assert "customary 2048" in small_sample_warnings(1000, 3000, 768)[0]
    assert small_sample_warnings(3000, 3000, 768) == []
