"""Whether a reference out of two sites is found out, and one population left alone."""

import numpy as np
import pytest

from cas_metric.sets.comparison import ImageSet
from cas_metric.sets.homogeneity import one_mode_p, two_groups
from cas_metric.sets.modes import mode_trial
from cas_metric.sets.reference import examine, groups_apart


def images(rng, n=200, dim=12, *, sites=1, apart=0.0):
    """Two classes; images of every other site lie ``apart`` deviations away in some directions."""
    labels = rng.choice(["a", "b"], n)
    site = rng.integers(sites, size=n)
    rows = rng.normal(size=(n, dim)) + np.where(labels == "a", 0.0, 2.0)[:, None]
    rows[:, :4] += apart / 2 * site[:, None]
    return ImageSet(rows, labels, np.arange(n)), site.astype(str)


def test_two_sites_are_found_without_being_named():
    for seed in range(5):
        real, _ = images(np.random.default_rng(seed), sites=2, apart=5.0)
        facts, warnings = examine(real, {})
        assert facts["two_groups"]["share"] > 0.3
        assert "two groups within their classes" in warnings[0]


def test_named_sites_are_found_when_they_hardly_differ():
    for seed in range(5):
        real, site = images(np.random.default_rng(seed), n=300, sites=2, apart=1.2)
        facts, warnings = examine(real, {"site": site})
        assert [one["column"] for one in facts["apart"]] == ["site"]
        assert "site = 0" in warnings[0]
        assert "--by site" in warnings[0]


def test_one_population_is_left_alone():
    flags = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        real, _ = images(rng)
        flags += bool(examine(real, {"site": rng.choice(["x", "y"], 200)})[1])
    assert flags <= 2


def test_one_site_of_many_is_found():
    rng = np.random.default_rng(3)
    site = np.repeat([f"s{k:02d}" for k in range(12)], 20)
    rows = rng.normal(size=(240, 3)) + 20 * (site == "s00")[:, None]
    real = ImageSet(rows, np.full(240, "a"), np.arange(240))
    assert [one.group for one in groups_apart(real, {"site": site})][:1] == ["s00"]


def test_silvermans_test_tells_one_mode_from_two():
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=300), np.concatenate([rng.normal(-3, 1, 150), rng.normal(3, 1, 150)])
    assert one_mode_p(one, rng) > 0.05
    assert one_mode_p(two, rng) < 0.01
    assert two_groups(rng.normal(size=(30, 3))) is None


def test_images_of_one_patient_are_no_group():
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(60), 4)
    rows = rng.normal(size=(60, 3))[patients] + 0.1 * rng.normal(size=(240, 3))
    assert two_groups(rows, clusters=patients) is None
    assert two_groups(rows[:160], clusters=patients[:160]) is None  # too few patients
    rows[patients % 2 == 0, 0] += 8
    found = two_groups(rows, clusters=patients)
    assert found.share == 0.5
    assert len(set(zip(found.members, patients % 2, strict=True))) == 2


def test_directions_without_spread_are_no_axes():
    rng = np.random.default_rng(4)
    rows = np.concatenate([rng.normal(size=(60, 3)), np.zeros((60, 5))], axis=1)
    assert two_groups(rows) is None
    rows[:30, 0] += 9
    assert two_groups(rows).axis == 1
    assert two_groups(np.zeros((60, 4))) is None


def test_few_patients_are_said_to_be_few():
    real, _ = images(np.random.default_rng(1))
    few = real._replace(clusters=np.arange(200) % 9)
    assert "only 9 patients" in examine(few, {})[1][-1]


@pytest.mark.parametrize(("dim", "seen"), [(6, True), (400, False)])
def test_recall_is_tried_on_dropped_modes_before_it_is_believed(dim, seen):
    rng = np.random.default_rng(2)
    # Modes that lie apart are missed; modes that drown in noise of many dimensions are not.
    centres = rng.normal(size=(8, dim)) * (3 if seen else 0.02)
    real = centres[rng.integers(8, size=240)] + rng.normal(size=(240, dim))
    trial = mode_trial(real, 5)
    assert trial.seen is seen
    assert (trial.whole - trial.dropped > 0.2) is seen
