import numpy as np

from cas_metric.statistics.uncertainty import (
    percentile_interval,
    resampling_counts,
)


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
