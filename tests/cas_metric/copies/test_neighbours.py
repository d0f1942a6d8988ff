"""Nearest neighbours are exact, matching has the mean of drawing, the test keeps its level."""

from __future__ import annotations

import sys
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cas_metric.copies import neighbours
from cas_metric.copies.feature_space import feature_columns
from cas_metric.copies.suspects import Features
from cas_metric.errors import InputError, MissingDependency


def unit(count: int, seed: int, dim: int = 4) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 30), st.integers(1, 35), st.integers(0, 99))
def test_nearest_equals_sorting_everything(n, m, k, seed):
    queries, others = unit(n, seed), unit(m, seed + 1)
    found = neighbours.nearest(queries, others, k)
    expected = np.sort(1 - queries.astype(np.float64) @ others.T.astype(np.float64), axis=1)
    assert found.distance.shape == (n, min(k, m))
    np.testing.assert_allclose(found.distance, expected[:, :k], atol=1e-6)
    again = 1 - (queries[:, None] * others[found.position]).sum(axis=2)
    np.testing.assert_allclose(again, found.distance, atol=1e-6)


def test_blocks_change_nothing(monkeypatch):
    queries, others = unit(11, 0), unit(53, 1)
    whole = neighbours.nearest(queries, others, 5)
    monkeypatch.setattr(neighbours, "_BLOCK_PAIRS", 50)
    monkeypatch.setattr(neighbours, "_OTHERS_TOGETHER", 10)
    parts = neighbours.nearest(queries, others, 5)
    np.testing.assert_array_equal(parts.position, whole.position)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 12), st.integers(1, 30), st.integers(1, 35), st.integers(0, 99))
def test_faiss_gives_the_same_answer(n, m, k, seed):
    pytest.importorskip("faiss")
    queries, others = unit(n, seed), unit(m, seed + 1)
    ours, theirs = (neighbours.nearest(queries, others, k, faiss=on) for on in (False, True))
    np.testing.assert_allclose(theirs.distance, ours.distance, atol=1e-6)
    again = 1 - (queries[:, None] * others[theirs.position]).sum(axis=2)
    np.testing.assert_allclose(again, theirs.distance, atol=1e-6)


def test_faiss_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingDependency, match="faiss"):
        neighbours.nearest(unit(1, 0), unit(2, 1), faiss=True)


def test_matching_sizes_is_the_mean_over_draws():
    queries, others = unit(3, 0), unit(40, 1)
    ordered = neighbours.nearest(queries, others, neighbours.depth(40, 12)).distance
    table = 1 - queries @ others.T
    rng = np.random.default_rng(0)
    drawn = np.mean(
        [table[:, rng.choice(40, 12, replace=False)].min(axis=1) for _ in range(20_000)], axis=0
    )
    expected = neighbours.expected_nearest(ordered, 40, 12)
    np.testing.assert_allclose(expected, drawn, atol=4 * table.std() / np.sqrt(20_000))


def test_matching_the_whole_set_is_the_nearest():
    ordered = neighbours.nearest(unit(5, 0), unit(9, 1), neighbours.depth(9, 9)).distance
    np.testing.assert_array_equal(neighbours.expected_nearest(ordered, 9, 9), ordered[:, 0])


@pytest.mark.parametrize(("train", "test"), [(30, 30), (60, 20)])
def test_permutation_p_is_uniform_when_membership_does_not_matter(train, test):
    values = np.array(
        [
            neighbours.permutation_p(
                unit(15, 3 * s), unit(train, 3 * s + 1), unit(test, 3 * s + 2),
                permutations=99, seed=s,
            )
            for s in range(200)
        ]
    )  # fmt: skip
    for level in (0.05, 0.25, 0.5):
        spread = 3.5 * np.sqrt(level * (1 - level) / len(values))
        assert abs(np.mean(values <= level) - level) < spread


def test_a_test_set_of_few_among_many_gives_the_same(monkeypatch):
    sets = unit(12, 0), unit(300, 1), unit(9, 2)
    whole = neighbours.compare(*sets, resamples=99)
    monkeypatch.setattr(neighbours, "_DEEPEST", 20)
    monkeypatch.setattr(neighbours, "_BLOCK_PAIRS", 700)
    parts = neighbours.compare(*sets, resamples=99)
    assert parts.p == whole.p
    assert parts.train == pytest.approx(whole.train, abs=1e-6)
    assert parts.matched_difference == pytest.approx(whole.matched_difference, abs=1e-6)
    # By brute force: exchanged at random, how often is the difference as low?
    pool = np.concatenate(sets[1:])
    rng = np.random.default_rng(5)
    distance = 1 - sets[0] @ pool.T

    def gap(rows):
        inside = np.isin(np.arange(309), rows)
        return distance[:, inside].min(axis=1).mean() - distance[:, ~inside].min(axis=1).mean()

    observed = gap(np.arange(300))
    lower = np.mean([gap(rng.permutation(309)[:300]) <= observed for _ in range(999)])
    assert parts.p == pytest.approx(lower, abs=0.08)


def test_copies_of_training_images_are_significant_and_flagged():
    train, test = unit(40, 1), unit(40, 2)
    copies = train[:20] + np.random.default_rng(0).normal(0, 1e-3, (20, 4)).astype(np.float32)
    copies /= np.linalg.norm(copies, axis=1, keepdims=True)
    found = neighbours.compare(copies, train, test, resamples=199)
    assert found.p == pytest.approx(1 / 200)
    assert found.difference.high < 0
    assert found.matched_difference == found.difference
    reference = neighbours.nearest(test, train).distance[:, 0]
    near = neighbours.nearest(copies, train).distance[:, 0]
    assert neighbours.nearer_than_real(near, reference).mean() > 0.9


def test_unequal_sizes_bias_the_plain_difference_but_not_the_matched_one():
    plain, matched = [], []
    for s in range(40):
        found = neighbours.compare(
            unit(20, 4 * s), unit(200, 4 * s + 1), unit(20, 4 * s + 2), resamples=10
        )
        plain.append(found.difference.estimate)
        matched.append(found.matched_difference.estimate)
    assert np.mean(plain) < -5 * np.std(plain) / np.sqrt(40)
    assert abs(np.mean(matched)) < 4 * np.std(matched) / np.sqrt(40)


def test_exchange_keeps_sizes_strata_and_patients():
    member = np.arange(30) < 18
    rng = np.random.default_rng(0)
    strata = [0, 1, 2] * 10
    patients = np.repeat(np.arange(10), 3)
    free = neighbours._exchangeable(member, strata, None)
    whole = neighbours._exchangeable(member, strata, patients.tolist())
    for _ in range(20):
        exchanged = neighbours._exchanged(member, free, rng)
        together = neighbours._exchanged(member, whole, rng)
        for layer in range(3):
            own = np.array(strata) == layer
            assert exchanged[own].sum() == together[own].sum() == member[own].sum()
        assert all(len(set(together[patients == p])) == 1 for p in range(10))


def test_only_patients_alike_in_number_and_class_change_places():
    # Two images of class 0 and 1 | one of class 0 | two of class 0 and 1 | three of class 1.
    patients, strata = [0, 0, 1, 2, 2, 3, 3, 3], [0, 1, 0, 1, 0, 1, 1, 1]
    member = np.array([True, True, True, False, False, False, False, False])
    (block,) = neighbours._exchangeable(member, strata, patients)
    assert sorted(map(sorted, block.tolist())) == [[0, 1], [3, 4]]


def test_without_a_patient_alike_nothing_is_tested():
    generated, train, test = unit(8, 0), unit(4, 1), unit(6, 2)
    patients = [0, 0, 0, 0, 1, 1, 2, 2, 3, 3]
    assert np.isnan(neighbours.permutation_p(generated, train, test, units=patients))


def test_false_alarms_of_the_exchange_are_as_rare_as_they_say():
    alarms = 0
    for run in range(120):
        rng = np.random.default_rng(run)
        who = np.repeat(np.arange(30), rng.integers(1, 4, 30))
        centres = rng.normal(size=(30, 8))[who]
        pool = centres + 0.3 * rng.normal(size=centres.shape)
        pool = (pool / np.linalg.norm(pool, axis=1, keepdims=True)).astype(np.float32)
        train = who < 18
        alarms += (
            neighbours.permutation_p(
                unit(20, 1000 + run, 8), pool[train], pool[~train],
                strata=(who % 2).tolist(), units=who.tolist(), permutations=99, seed=run,
            )
            <= 0.05
        )  # fmt: skip
    assert alarms / 120 <= 0.12


def test_nearest_of_all_by_chance_is_counted_exactly():
    # Of N + L exchangeable distances the k smallest are all generated with C(N, k) / C(N + L, k).
    distance, reference = np.array([0.1, 0.2, 0.9, 0.9]), np.array([0.5, 0.6, 0.7])
    assert neighbours.nearer_p(distance, reference) == pytest.approx(comb(4, 2) / comb(7, 2))
    assert neighbours.nearer_p(distance + 1, reference) == 1.0
    rng = np.random.default_rng(0)
    p = [neighbours.nearer_p(rng.random(40), rng.random(20)) for _ in range(2000)]
    assert np.mean(np.array(p) < 0.05) <= 0.06


def test_a_training_image_among_the_test_images_hides_no_copy():
    train, test = unit(60, 0, 16), unit(30, 1, 16)
    copies = train[:10] + 0.01 * unit(10, 2, 16)
    ours = np.concatenate([copies / np.linalg.norm(copies, axis=1, keepdims=True), unit(20, 3, 16)])
    for leaked in (0, 3):
        seen = np.concatenate([test, train[50 : 50 + leaked]])
        columns, reference = feature_columns(Features(ours, train, seen), np.arange(30))
        assert neighbours.nearer_than_real(columns["train_distance"], reference)[:10].all()
        p = neighbours.nearer_p(columns["train_distance"], reference)
        assert p <= comb(30, 10) / comb(60, 10)
    assert feature_columns(Features(ours, train, seen), np.arange(0))[1] is None


def test_samples_of_one_prompt_are_not_counted_as_so_many_copies():
    distance, reference = np.array([0.1, 0.1, 0.1, 0.9]), np.array([0.5, 0.6, 0.7])
    alone = neighbours.nearer_p(distance, reference)
    of_one = neighbours.nearer_p(distance, reference, clusters=["a", "a", "a", "b"])
    assert of_one > 2 * alone


def test_hits_are_held_against_those_of_real_images():
    hits, usual = np.arange(100) < 12, np.arange(80) < 2
    expected = stats.fisher_exact([[12, 88], [2, 78]], alternative="greater").pvalue
    assert neighbours.excess_p(hits, usual) == pytest.approx(expected)


def test_nothing_to_search_among():
    with pytest.raises(InputError, match="no image"):
        neighbours.nearest(unit(1, 0), np.empty((0, 4), np.float32))
