import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cas_metric.errors import InputError
from cas_metric.statistics.uncertainty import (
    bootstrap,
    bootstrap_mean,
    bootstrap_means,
    bootstrap_quantiles,
    percentile_interval,
    resampling_counts,
)


def test_interval_of_a_mean_is_scipys():
    values = np.random.default_rng(0).gamma(2.0, size=300)
    ours = bootstrap_mean(values, resamples=20_000)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=1
    ).confidence_interval
    assert ours.estimate == pytest.approx(values.mean())
    # Monte Carlo error of a percentile at 20,000 resamples is about 1% of the standard error.
    tolerance = 0.05 * values.std() / np.sqrt(300)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=tolerance)


def test_interval_of_a_mean_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(7)
    runs = 1000
    covered = 0
    for run in range(runs):
        values = rng.normal(0.32, 0.03, 150) + 0.25 * (rng.random(150) < 0.6)
        interval = bootstrap_mean(values, resamples=400, seed=run)
        covered += interval.low <= 0.47 <= interval.high
    assert 0.93 <= covered / runs <= 0.97


def test_clusters_widen_the_interval_as_their_correlation_demands():
    rng = np.random.default_rng(3)
    effect = rng.normal(size=200)
    values, clusters = np.repeat(effect, 4), np.repeat(np.arange(200), 4)
    by_row = bootstrap_mean(values, resamples=4000)
    by_cluster = bootstrap_mean(values, clusters=clusters, resamples=4000)
    ratio = (by_cluster.high - by_cluster.low) / (by_row.high - by_row.low)
    assert ratio == pytest.approx(2.0, rel=0.1)  # sqrt of the cluster size


def test_general_bootstrap_agrees_with_the_matrix_one():
    rng = np.random.default_rng(4)
    values, clusters = rng.normal(size=120), rng.integers(40, size=120)
    general = bootstrap(lambda rows: float(rows.mean()), values, clusters=clusters, resamples=4000)
    matrix = bootstrap_mean(values, clusters=clusters, resamples=4000)
    assert general.low == pytest.approx(matrix.low, abs=0.02)
    assert general.high == pytest.approx(matrix.high, abs=0.02)


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


def test_same_seed_same_interval_other_seed_another():
    values = np.random.default_rng(6).normal(size=40)
    assert bootstrap_mean(values, seed=1) == bootstrap_mean(values, seed=1)
    assert bootstrap_mean(values, seed=1) != bootstrap_mean(values, seed=2)


def test_nothing_finite_gives_nan_not_an_error():
    interval = bootstrap_mean([np.nan, np.nan])
    assert np.isnan([interval.estimate, interval.low, interval.high]).all()
    assert np.isnan(percentile_interval(1.0, [], 0.95).low)


def test_wrong_number_of_clusters_is_named():
    with pytest.raises(InputError, match="2 cluster labels were given for 3 values"):
        bootstrap_mean([1.0, 2.0, 3.0], clusters=["a", "b"])


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


@given(
    st.lists(st.floats(-5, 5), min_size=1, max_size=20),
    st.data(),
    st.floats(0, 1),
)
def test_quantiles_from_counts_are_numpys(values, data, quantile):
    ordered = np.sort(values)
    size = len(values)
    counts = np.array(data.draw(st.lists(st.integers(0, 4), min_size=size, max_size=size)))
    found = bootstrap_quantiles(counts[None], ordered, quantile)[0]
    if counts.sum() == 0:
        assert np.isnan(found)
    else:
        expected = np.quantile(np.repeat(ordered, counts), quantile)
        assert found == pytest.approx(expected, abs=1e-9)
