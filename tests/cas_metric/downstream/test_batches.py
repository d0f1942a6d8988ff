"""A batch is what it is said to be, and seeds pair what is compared."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cas_metric.downstream.batches import batches, real_subset, synthetic_per_batch
from cas_metric.errors import InputError


@given(st.integers(1, 130), st.integers(1, 130), st.integers(0, 5))
def test_every_batch_is_one_fifth_synthetic(n_real, n_synthetic, seed):
    real, synthetic = np.arange(n_real), 1000 + np.arange(n_synthetic)
    drawn = list(islice(batches(real, synthetic, batch_size=50, share=0.2, seed=seed), 40))
    assert {(len(a), len(b)) for a, b in drawn} == {(40, 10)}
    assert all((a < 1000).all() and (b >= 1000).all() for a, b in drawn)
    seen = np.concatenate([b for _, b in drawn])
    times = np.bincount(seen - 1000, minlength=n_synthetic)
    assert np.ptp(times) <= 1  # each comes once before any comes again


def test_without_synthetic_pictures_the_batch_is_real():
    a, b = next(batches(np.arange(9), np.empty(0, np.int64), batch_size=50, share=0.2, seed=0))
    assert (len(a), len(b)) == (50, 0)


def test_a_share_must_be_a_whole_number_of_pictures():
    assert synthetic_per_batch(50, 0.2) == 10
    assert synthetic_per_batch(10, 0.7) == 7
    with pytest.raises(InputError, match="no whole number"):
        synthetic_per_batch(32, 0.2)
    with pytest.raises(InputError, match="no whole number"):
        synthetic_per_batch(10, 1.0)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.integers(0, 3))
def test_scales_are_nested_and_keep_the_shares_of_the_classes(labels, seed):
    classes = np.array(labels)
    subsets = [real_subset(classes, s, np.random.default_rng(seed)) for s in (0.25, 0.5, 1.0)]
    assert set(subsets[0]) <= set(subsets[1]) <= set(subsets[2]) == set(range(len(labels)))
    for label in set(labels):
        total = labels.count(label)
        assert (classes[subsets[1]] == label).sum() == max(1, round(0.5 * total))
