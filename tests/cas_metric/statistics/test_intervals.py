"""Intervals against independent implementations, and a short form of their simulated coverage."""

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from cas_metric.errors import InputError
from cas_metric.statistics.balanced import balanced_mean_part, balanced_rate_part
from cas_metric.statistics.intervals import (
    NO_SPREAD,
    TOO_FEW,
    combine,
    jackknife_interval,
    mean_interval,
    mean_part,
    rate_interval,
    rate_part,
)
from cas_metric.statistics.quantiles import quantile_interval
from cas_metric.statistics.rounding import between, fixed, percent, points


@given(st.integers(0, 10_000), st.integers(3, 60))
@settings(max_examples=20, deadline=None)
def test_interval_of_a_mean_is_scipys(seed, n):
    values = np.random.default_rng(seed).gamma(2.0, size=n)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = mean_interval(values)
    assert found.estimate == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_clustered_standard_error_is_that_of_statsmodels():
    rng = np.random.default_rng(1)
    clusters = np.repeat(np.arange(12), 4)
    values = rng.normal(size=12)[clusters] + rng.normal(size=48)
    theirs = sm.OLS(values, np.ones(48)).fit(cov_type="cluster", cov_kwds={"groups": clusters})
    found = mean_interval(values, clusters=clusters)
    reach = stats.t.ppf(0.975, 11)
    assert (found.high - found.low) / 2 / reach == pytest.approx(theirs.bse[0], rel=1e-9)


def test_clusters_widen_the_interval_as_their_correlation_demands():
    effect = np.random.default_rng(3).normal(size=200)
    values, clusters = np.repeat(effect, 4), np.repeat(np.arange(200), 4)
    by_row, by_cluster = mean_interval(values), mean_interval(values, clusters=clusters)
    ratio = (by_cluster.high - by_cluster.low) / (by_row.high - by_row.low)
    assert ratio == pytest.approx(2.0, rel=0.02)  # sqrt of the cluster size


@given(st.integers(2, 300), st.data(), st.sampled_from([0.9, 0.95]))
@settings(max_examples=30, deadline=None)
def test_interval_of_a_rate_is_wilsons(n, data, level):
    won = data.draw(st.integers(0, n))
    found = rate_interval([1.0] * won + [0.0] * (n - won), level=level)
    expected = proportion_confint(won, n, 1 - level, method="wilson")
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-12)


def test_copies_of_a_patient_do_not_narrow_a_rate():
    wrong = np.array([1.0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0])
    once = rate_interval(wrong)
    many = rate_interval(np.repeat(wrong, 5), clusters=np.repeat(np.arange(12), 5))
    assert many.high - many.low >= once.high - once.low


def test_difference_of_two_rates_is_newcombes():
    rates = []
    for code, (won, n) in enumerate(((9, 20), (3, 25))):
        values = np.array([1.0] * won + [0.0] * (n - won))
        rates.append(rate_part(values, np.arange(n) + 20 * code, 45))
    found = combine(rates, [1.0, -1.0])
    expected = confint_proportions_2indep(9, 20, 3, 25, method="newcomb", compare="diff")
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-9)


def test_class_means_of_equal_spread_have_welchs_interval():
    rng = np.random.default_rng(4)
    first, second = rng.normal(0, 1, 8), rng.normal(1, 3, 15)
    values, labels = np.r_[first, second], np.r_[np.zeros(8), np.ones(15)]
    found = balanced_mean_part(values, labels, np.arange(23), 23)
    # The mean of two means is half the difference to a sign-flipped second: Welch's interval.
    welch = stats.ttest_ind(first, -second, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((welch.low / 2, welch.high / 2))


@given(st.integers(0, 10_000), st.sampled_from([0.1, 0.25, 0.5]), st.integers(40, 120))
@settings(max_examples=20, deadline=None)
def test_quantile_limits_lie_within_the_exact_ones(seed, quantile, n):
    values = np.random.default_rng(seed).gamma(2.0, size=n)
    exact = stats.quantile_test(values, p=quantile).confidence_interval(0.95)
    found = quantile_interval(values, quantile)
    assert found.estimate == np.quantile(values, quantile)
    # Interpolation between two order statistics makes the conservative interval shorter.
    ordered = np.sort(values)
    inner = ordered[np.searchsorted(ordered, exact.low) + 1]
    assert exact.low <= found.low <= inner
    assert found.low < found.estimate < found.high <= exact.high


def test_jackknife_of_a_mean_is_students():
    values = np.random.default_rng(5).normal(size=15)
    without = [np.delete(values, k).mean() for k in range(15)]
    found, expected = jackknife_interval(values.mean(), without), mean_interval(values)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("interval", [mean_interval, rate_interval])
def test_one_case_has_no_interval(interval):
    one = interval([1.0])
    assert one.estimate == 1.0
    assert np.isnan([one.low, one.high]).all()
    alike = interval([1.0, 0.0, 1.0], clusters=["p", "p", "p"])
    assert np.isnan([alike.low, alike.high]).all()


def test_a_sum_is_not_known_where_a_part_of_it_is_not():
    rng, one = np.random.default_rng(8), np.zeros(40, dtype=int)
    known = rate_part((rng.random(40) < 0.5).astype(float), np.arange(40) + 1, 41)
    patient = rate_part((rng.random(40) < 0.5).astype(float), one, 41)
    still = mean_part(np.full(40, 0.3), np.arange(40) + 1, 41)
    assert (patient.lacks, still.lacks) == (TOO_FEW, NO_SPREAD)
    unknown = combine([known, patient], [1.0, -1.0])
    assert np.isnan([unknown.low, unknown.high]).all()
    assert unknown.lacks == TOO_FEW
    # What never varies adds nothing; what has no weight is not asked.
    shifted = combine([known, still], [1.0, 1.0])
    assert (shifted.low, shifted.high) == pytest.approx((known.low + 0.3, known.high + 0.3))
    assert combine([known, patient], [1.0, 0.0])[:3] == pytest.approx(known[:3])
    assert combine([still, still], [1.0, 1.0]).lacks == NO_SPREAD


def test_a_class_of_one_patient_leaves_the_class_balanced_rate_without_limits():
    values, labels = np.array([1.0, 0, 1, 0, 1, 1, 0, 1]), np.repeat([0, 1], 4)
    patients = np.array([0, 0, 0, 0, 1, 2, 3, 4])
    assert balanced_rate_part(values, labels, patients, 5).lacks == TOO_FEW
    assert balanced_rate_part(values, labels, np.arange(8), 8).low > 0


def test_nothing_finite_gives_nan_not_an_error():
    for found in (mean_interval([np.nan]), rate_interval([]), quantile_interval([], 0.25)):
        assert np.isnan(found[:3]).all()


def test_no_interval_has_zero_width():
    assert np.isnan(mean_interval([0.3, 0.3, 0.3]).low)
    assert rate_interval([1.0] * 20).low < 0.9
    assert np.isnan(quantile_interval([0.5] * 40, 0.25).low)


def test_too_few_cases_for_a_quantile_leave_its_end_open():
    values = np.random.default_rng(7).normal(size=35)
    assert np.isnan(quantile_interval(values, 0.1).low)
    assert np.isfinite(quantile_interval(np.r_[values, 0.0], 0.1).low)
    assert np.isnan(quantile_interval(values[:12], 0.25).low)
    assert np.isfinite(quantile_interval(values[:13], 0.25).low)


def test_a_few_large_patients_do_not_reach_a_quantile_with_single_images_beside_them():
    rng = np.random.default_rng(9)
    sizes = np.array([100] * 5 + [1] * 35)
    who = np.repeat(np.arange(40), sizes)
    values = rng.normal(size=40)[who] + rng.normal(0, 0.2, len(who))
    for quantile in (0.1, 0.25):
        assert np.isnan(quantile_interval(values, quantile, clusters=who).low)
    equal = np.repeat(np.arange(36), 4)
    assert np.isfinite(quantile_interval(values[:144], 0.1, clusters=equal).low)
    assert np.isnan(quantile_interval(values[:140], 0.1, clusters=equal[:140]).low)


def test_wrong_number_of_clusters_is_named():
    with pytest.raises(InputError, match="2 cluster labels were given for 3 values"):
        mean_interval([1.0, 2.0, 3.0], clusters=["a", "b"])


@pytest.mark.parametrize(
    ("value", "text"), [(0.8125, "0.813"), (-0.0625, "−0.063"), (2.5e-5, "0.000"), (-1e-9, "0.000")]
)
def test_halves_are_rounded_away_from_zero(value, text):
    assert fixed(value) == text


@pytest.mark.parametrize("share", [0.0045, 0.0055, 0.0185, -0.0295, 0.0515])
def test_points_round_halves_as_percentages_do(share):
    assert points(share) + "%" == percent(share)


def test_a_share_that_is_not_all_is_never_a_hundred_percent():
    assert percent(0.996) == "99.6%"
    assert percent(0.996, 0) == "> 99%"
    assert percent(1.0, 0) == "100%"
    assert percent(0.0004) == "< 0.1%"
    assert percent(0.0) == "0.0%"


def test_an_interval_with_a_negative_end_is_written_with_to():
    assert between([-0.01, 0.02]) == "−0.010 to 0.020"
    assert between([0.01, 0.02]) == "0.010–0.020"
    assert between([np.nan, 0.02]) == ""


# -- the short form of benchmarks/statistics/coverage.py ----------------------------------------


def covered(trial, runs=600):
    return np.mean([low <= truth <= high for truth, low, high in (trial() for _ in range(runs))])


@pytest.mark.parametrize("n", [10, 50])
def test_means_cover_as_often_as_they_say(n):
    rng = np.random.default_rng(n)
    assert covered(lambda: (0.0, *mean_interval(rng.normal(size=n))[1:3])) > 0.92


@pytest.mark.parametrize("n", [10, 20, 50])
def test_rare_failures_cover_as_often_as_they_say(n):
    rng = np.random.default_rng(n)

    def trial():
        p = rng.uniform(0.02, 0.12)
        return p, *rate_interval((rng.random(n) < p).astype(float))[1:3]

    assert 0.92 < covered(trial) < 0.98


@pytest.mark.parametrize("count", [10, 50])
def test_clustered_means_cover_as_often_as_they_say(count):
    rng = np.random.default_rng(count)

    def trial():
        who = np.repeat(np.arange(count), rng.integers(1, 7, count))
        values = rng.normal(size=count)[who] + rng.normal(size=len(who))
        return 0.0, *mean_interval(values, clusters=who)[1:3]

    assert 0.92 < covered(trial) < 0.98
