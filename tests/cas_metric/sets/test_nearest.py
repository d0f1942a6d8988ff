"""Which class a set lies nearest to, and how often that is said by chance."""

import numpy as np
import pytest
from benchmarks.statistics.nearest import draw, warned

from cas_metric.sets.cohort import bandwidth, kernel_test
from cas_metric.sets.comparison import ImageSet, compare_sets
from cas_metric.sets.fidelity import frechet_distance
from cas_metric.sets.nearest import _leave_out, _Sample, nearest_class


@pytest.mark.parametrize(("generated", "real"), [(10, 14), (20, 70), (40, 40)])
def test_real_images_of_classes_that_are_alike_are_seldom_warned_of(generated, real):
    # By the smaller of two distances, 68 to 86 percent of such runs had a warning.
    runs = [warned(*draw(seed, generated, real, gap=0.7)) for seed in range(60)]
    assert np.mean([bool(names) for names in runs]) <= 0.05


def test_sets_halfway_between_the_classes_are_seldom_warned_of():
    runs = [warned(*draw(seed, 20, 40, gap=0.7, halfway=True)) for seed in range(60)]
    assert np.mean([bool(names) for names in runs]) <= 0.05


def test_two_classes_swapped_at_twenty_images_are_named():
    runs = [warned(*draw(seed, 20, 70, gap=2.5, swapped=True)) for seed in range(40)]
    assert np.mean([{"a", "b"} <= set(names) for names in runs]) > 0.9
    assert not any("c" in names for names in runs)


def test_images_of_one_patient_are_not_many_witnesses():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(40):
        labels = np.repeat(["a", "b"], 120)
        patients = np.repeat(np.arange(24), 10)
        real = rng.normal(size=(24, 3))[patients] + 0.1 * rng.normal(size=(240, 3))
        own = np.repeat(np.arange(8), 10)
        ours = rng.normal(size=(8, 3))[own] + 0.1 * rng.normal(size=(80, 3))
        found = nearest_class(
            *(ours, "a", real, labels),
            width=bandwidth(real),
            generated_clusters=own,
            real_clusters=patients,
        )
        hits += found.p <= 0.05
    assert hits <= 4


def test_the_distances_and_their_jackknife_are_those_of_the_kernel_test():
    rng = np.random.default_rng(1)
    ours, left, right = (rng.normal(size=(n, 3)) + n / 40 for n in (24, 30, 36))
    own, patients = np.repeat(np.arange(8), 3), np.repeat(np.arange(15), 2)

    def by_test(ours, own, left, patients):
        options = {"splits": 2, "width": 4.0, "generated_clusters": own}
        first = kernel_test(ours, left, real_clusters=patients, **options)
        return first.discrepancy - kernel_test(ours, right, **options).discrepancy

    sides = [
        _leave_out(_Sample(ours, own), _Sample(rows, codes), 4.0)
        for rows, codes in ((left, patients), (right, np.arange(36)))
    ]
    assert sides[0].value - sides[1].value == pytest.approx(by_test(ours, own, left, patients))
    some, most = own != 3, patients != 5
    expected = by_test(ours[some], own[some], left, patients)
    assert sides[0].without_ours[3] - sides[1].without_ours[3] == pytest.approx(expected)
    expected = by_test(ours, own, left[most], patients[most])
    assert sides[0].without_theirs[5] - sides[1].value == pytest.approx(expected)


def test_a_class_of_wide_spread_is_no_nearer_for_it():
    rng = np.random.default_rng(6)
    labels = np.repeat(["narrow", "wide"], 100)
    rows = np.concatenate([rng.normal(0, 1, (100, 16)), rng.normal(3, 8, (100, 16))])
    ours = rng.normal(1, 1, (60, 16))
    fits = {one: frechet_distance(ours, rows[labels == one]) for one in set(labels)}
    found = nearest_class(ours, "wide", rows, labels, width=bandwidth(rows))
    assert found.name == "narrow" == min(fits, key=fits.__getitem__)
    assert found.p < 0.001
    assert nearest_class(ours, "narrow", rows, labels, width=bandwidth(rows)).p == 1


def test_nothing_is_said_where_its_own_class_is_too_small():
    rng = np.random.default_rng(7)
    real = ImageSet(
        rng.normal(size=(48, 3)), np.repeat(["a", "b", "c"], [8, 20, 20]), np.arange(48)
    )
    ours = ImageSet(rng.normal(size=(20, 3)), np.full(20, "a"), np.arange(20))
    assert "nearest_class" not in compare_sets({"m": ours}, real)["m"]["a"]
