import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from cas_metric.errors import InputError
from cas_metric.statistics.correlation import coefficient, correlate, permutation_p

SCIPY = {"pearson": stats.pearsonr, "spearman": stats.spearmanr, "kendall": stats.kendalltau}


def by_name(x, y):
    return {result.statistic: result for result in correlate(x, y)}


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=3, max_size=9))
def test_coefficients_with_ties_are_scipys(pairs):
    x, y = np.array(pairs, dtype=float).T
    assume(np.ptp(x) > 0 and np.ptp(y) > 0)
    for name, function in SCIPY.items():
        assert coefficient(x, y, name) == pytest.approx(function(x, y).statistic, abs=1e-9)


@pytest.mark.parametrize("name", SCIPY)
@pytest.mark.parametrize("ties", [False, True])
def test_exact_p_value_is_scipys_permutation_test(name, ties):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=6), rng.normal(size=6)
    if ties:
        x, y = np.round(x), np.round(y)
    reference = stats.permutation_test(
        (x,),
        lambda order: SCIPY[name](order, y).statistic,
        permutation_type="pairings",
        n_resamples=np.inf,
    )
    value, exact = permutation_p(x, y, name)
    assert exact
    # scipy doubles the smaller tail; ours counts both, so compare through the null distribution.
    null = np.abs(reference.null_distribution)
    assert value == pytest.approx(np.mean(null >= abs(reference.statistic) - 1e-9))


def test_spearman_of_point_nine_with_five_methods_is_not_significant():
    # Table 13, Fitzpatrick17k: 0.900 with p = 0.037 at n = 5.
    found = by_name([1, 2, 3, 4, 5], [1, 2, 3, 5, 4])["spearman"]
    assert found.value.estimate == pytest.approx(0.9)
    assert found.p_asymptotic == pytest.approx(0.037, abs=5e-4)
    assert found.exact
    assert found.p_permutation == pytest.approx(10 / 120)


def test_random_orders_beyond_eight_come_close_to_the_usual_p_value():
    rng = np.random.default_rng(2)
    x = rng.normal(size=25)
    y = 0.4 * x + rng.normal(size=25)
    for result in correlate(x, y):
        assert not result.exact
        assert result.p_permutation == pytest.approx(result.p_asymptotic, abs=0.015)


def test_leave_one_out_finds_the_pair_that_makes_the_correlation():
    x, y = np.array([0.0, 1, 2, 3, 20]), np.array([1.0, 0, 1, 0, 20])
    found = by_name(x, y)["pearson"]
    expected = [stats.pearsonr(np.delete(x, k), np.delete(y, k)).statistic for k in range(5)]
    np.testing.assert_allclose(found.leave_one_out, expected)
    assert int(np.argmax(np.abs(found.influence))) == 4


def test_pearson_interval_is_scipys():
    rng = np.random.default_rng(3)
    x = rng.normal(size=30)
    y = x + rng.normal(size=30)
    value = by_name(x, y)["pearson"].value
    reference = stats.pearsonr(x, y).confidence_interval(0.95)
    assert (value.low, value.high) == pytest.approx((reference.low, reference.high))


def test_no_interval_where_n_allows_none():
    found = by_name([1, 2, 3], [1, 3, 2])
    assert all(np.isnan(found[name].value.low) for name in SCIPY)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([1, 2], [1, 2], "at least 3 pairs"),
        ([1, 2, 3], [1, 2], "3 and 2 values"),
        ([1, 2, np.nan], [1, 2, 3], "missing"),
        ([1, 1, 1], [1, 2, 3], "same for every method"),
    ],
)
def test_what_cannot_be_correlated_is_refused(x, y, message):
    with pytest.raises(InputError, match=message):
        correlate(x, y)
