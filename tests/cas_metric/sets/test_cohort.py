"""Generated sets against real patients: by its definition, and by simulation."""

import math

import numpy as np
import pytest

from cas_metric.sets.cohort import (
    FLAG_LEVEL,
    block_means,
    kernel_test,
    matched_size,
    size_matched,
    splits_for,
)
from cas_metric.sets.comparison import ImageSet, compare_sets
from cas_metric.sets.fidelity import frechet_distance


def patients(rng, count, images, dim=8, shared=0.5):
    """``count`` patients with as many images each, a share of whose variance is the patient's."""
    own = np.repeat(rng.normal(size=(count, dim)), images, axis=0)
    rows = np.sqrt(shared) * own + np.sqrt(1 - shared) * rng.normal(size=(count * images, dim))
    return rows, np.repeat(np.arange(count), images)


def test_the_discrepancy_leaves_out_pairs_within_a_patient():
    rng = np.random.default_rng(0)
    real, codes = patients(rng, 12, 3, dim=3)
    ours, own = patients(rng, 8, 2, dim=3)
    pairs = np.triu_indices(len(real), 1)
    width = np.median(np.square(real[pairs[0]] - real[pairs[1]]).sum(axis=1))

    def mean(left, right, left_codes=None, right_codes=None):
        values = [
            np.exp(-np.square(left[i] - right[j]).sum() / width)
            for i in range(len(left))
            for j in range(len(right))
            if left_codes is None or left_codes[i] != right_codes[j]
        ]
        return np.mean(values)

    expected = mean(ours, ours, own, own) + mean(real, real, codes, codes) - 2 * mean(ours, real)
    found = kernel_test(ours, real, generated_clusters=own, real_clusters=codes, splits=49)
    assert found.discrepancy == pytest.approx(expected)
    assert (found.n_generated, found.n_real, found.real_clusters) == (16, 36, 12)


@pytest.mark.parametrize(("images", "own"), [(1, 1), (4, 1), (4, 3)])
def test_a_harmless_set_is_rarely_flagged(images, own):
    flags = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        real, codes = patients(rng, 200 // images, images)
        ours, clusters = patients(rng, 60 // own, own)
        found = kernel_test(
            ours, real, generated_clusters=clusters, real_clusters=codes, splits=199, seed=seed
        )
        flags += found.p <= FLAG_LEVEL
    assert flags <= 4  # of 40 at 2.5%: more has a probability of 0.3%


def test_a_shift_of_a_fifth_of_a_deviation_is_found_at_two_hundred_images():
    found = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        real, ours = rng.normal(size=(400, 8)), rng.normal(size=(200, 8)) + 0.2
        found += kernel_test(ours, real, splits=199, seed=seed).p <= FLAG_LEVEL
    assert found >= 16


def test_images_of_one_patient_are_no_evidence_of_their_own():
    # Each image ten times: a test that took them for independent would flag most of these.
    flags = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        real, codes = patients(rng, 40, 10, shared=0.95)
        ours = rng.normal(size=(80, 8))
        flags += kernel_test(ours, real, real_clusters=codes, splits=199, seed=seed).p <= FLAG_LEVEL
    assert flags <= 3


def test_too_few_patients_give_no_test():
    rng = np.random.default_rng(1)
    real, codes = patients(rng, 6, 30)
    assert kernel_test(real[:50] + 1, real, real_clusters=codes) is None
    assert size_matched(real[:1], real, frechet_distance) is None


def test_blocks_are_as_large_as_the_generated_set_and_share_no_patient():
    rng = np.random.default_rng(2)
    codes = np.repeat(np.arange(30), 4)
    real = np.column_stack([codes, np.arange(120)]).astype(float)
    seen = []

    def measure(left, right):
        seen.append((left, right))
        return [0.0]

    block_means(rng.normal(size=(25, 2)), real, measure, real_clusters=codes)
    assert matched_size(25, 120, codes) == 25
    assert matched_size(500, 120, codes) == 58
    for left, right in seen:
        assert len(left) == len(right) == 25
    against_real = seen[1::2]
    assert all(not set(a[:, 0]) & set(b[:, 0]) for a, b in against_real)


def test_the_ratio_is_one_for_the_same_population_and_rises_with_a_shift():
    rng = np.random.default_rng(3)
    real, same = rng.normal(size=(400, 6)), rng.normal(size=(150, 6))
    alike = size_matched(same, real, frechet_distance)
    apart = size_matched(same + 0.5, real, frechet_distance)
    assert alike.low < 1 < alike.high
    assert apart.low > 1.5
    assert apart.generated > 1.5 * apart.real


def test_sets_far_away_are_flagged_among_many():
    rng = np.random.default_rng(4)
    real = ImageSet(rng.normal(size=(40, 2)), np.full(40, "a"), np.arange(40))
    ours = [rng.normal(size=(12, 2)) + (50 if k % 2 else 0) for k in range(30)]
    methods = {
        f"m{k:02d}": ImageSet(rows, np.full(12, "a"), np.arange(12)) for k, rows in enumerate(ours)
    }
    tests = [one["all"]["test"] for one in compare_sets(methods, real).values()]
    assert [one["flagged"] for one in tests] == [bool(k % 2) for k in range(30)]
    assert 1 / splits_for(30) < FLAG_LEVEL / 30 / 9


def test_few_patients_have_too_few_splits_for_a_small_p():
    rng = np.random.default_rng(4)
    found = kernel_test(rng.normal(size=(30, 2)) + 99, rng.normal(size=(12, 2)), splits=9999)
    assert found.p == pytest.approx(10 / (1 + math.comb(12, 6) / 2))  # each split has two sides


def test_a_class_with_the_images_of_another_is_named():
    rng = np.random.default_rng(5)
    labels = np.repeat(["a", "b"], 80)
    centres = np.where(labels == "a", 0.0, 3.0)[:, None]
    real = ImageSet(rng.normal(size=(160, 4)) + centres, labels, np.arange(160))
    swapped = ImageSet(real.features[::-1] + 0.01, labels, np.arange(160))
    entries = compare_sets({"swapped": swapped, "right": real}, real)
    assert entries["swapped"]["a"]["nearest_class"] == "b"
    assert entries["right"]["a"]["nearest_class"] == "a"
    assert entries["swapped"]["a"]["test"]["flagged"]
    assert not entries["swapped"]["all"]["test"]["flagged"]
