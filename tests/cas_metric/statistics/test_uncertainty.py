import numpy as np

from cas_metric.statistics.uncertainty import (
    bootstrap_means,
    percentile_interval,
    resampling_counts,
)


def test_all_columns_see_the_same_resamples():
    values = np.random.default_rng(5).normal(size=(50, 1))
    replicates = bootstrap_means(np.hstack([values, values + 1]), resamples=100)
    np.testing.assert_allclose(replicates[:, 1] - replicates[:, 0], 1.0)


def test_missing_values_leave_their_own_column_alone():
    values = np.array([[1.0, 1.0], [3.0, np.nan], [5.0, 3.0]])
    replicates = bootstrap_means(values, resamples=500)
    assert replicates[:, 0].min() == 1.0
    assert np.nanmax(replicates[:, 1]) == 3.0
    assert np.isnan(replicates[:, 1]).any()  # the resample that drew the second row three times


def test_no_replicate_is_no_interval():
    assert np.isnan(percentile_interval(1.0, [], 0.95).low)


def test_strata_are_drawn_apart():
    counts = np.concatenate(list(resampling_counts([3, 5], 40, seed=0)))
    assert (counts[:, :3].sum(axis=1) == 3).all()
    assert (counts[:, 3:].sum(axis=1) == 5).all()


def test_blocks_do_not_change_what_is_drawn(monkeypatch):
    whole = np.concatenate(list(resampling_counts(7, 30, seed=2)))
    monkeypatch.setattr("cas_metric.statistics.uncertainty._BLOCK_ELEMENTS", 21)
    blocks = list(resampling_counts(7, 30, seed=2))
    assert len(blocks) == 10
    np.testing.assert_array_equal(np.concatenate(blocks), whole)
