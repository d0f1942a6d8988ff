"""The exact test, reliability and the plan, against independent implementations and simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, fisher_exact, ttest_1samp
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.power import TTestPower

from cas_metric.errors import InputError
from cas_metric.study.planning import Plan, cases_needed, power
from cas_metric.study.reliability import icc, weighted_kappa
from cas_metric.study.turing import exact_p, turing_test

RNG = np.random.default_rng(7)


@pytest.mark.parametrize("seed", range(5))
def test_one_rater_and_one_stratum_give_fishers_exact_test(seed: int) -> None:
    rng = np.random.default_rng(seed)
    is_real, called = rng.random(30) < 0.4, (rng.random(30) < 0.5).astype(int)
    table = [[sum((called == c) & (is_real == r)) for c in (1, 0)] for r in (True, False)]
    expected = fisher_exact(table, alternative="greater").pvalue
    assert exact_p([(called, is_real)]) == pytest.approx(expected, rel=1e-9)


def test_pairs_give_mcnemars_exact_test() -> None:
    called = RNG.integers(0, 2, (25, 2))
    strata = [(pair, np.array([True, False])) for pair in called]
    right, wrong = ((called[:, k] > called[:, 1 - k]).sum() for k in (0, 1))
    expected = binomtest(right, right + wrong, alternative="greater").pvalue
    assert exact_p(strata) == pytest.approx(expected, rel=1e-9)


def test_calls_of_raters_who_only_repeat_each_other_are_one_witness() -> None:
    calls = pd.DataFrame({"case": list("aabbccdd"), "is_real": [True, False] * 4})
    calls["image"] = range(8)
    calls["called_real"] = calls["is_real"].astype(int)
    alone = turing_test(calls)
    together = turing_test(pd.concat([calls] * 3))
    assert alone.p == together.p == 1 / 16
    assert (together.calls, together.accuracy.estimate) == (24, 1.0)
    only = turing_test(calls[calls["is_real"]])  # nothing to tell apart
    assert np.isnan(only.accuracy.estimate)
    assert only.p == 1.0
    never = turing_test(calls.assign(called_real=0))
    assert (never.accuracy.estimate, never.p) == (0.5, 1.0)


def test_the_exact_test_keeps_its_level_with_raters_who_agree() -> None:
    rejected = 0
    for _ in range(400):
        looks = RNG.normal(size=(20, 2))  # some images look real, to every rater
        scores = (looks[None] + RNG.normal(size=(3, 20, 2)) > 0).sum(axis=0)
        rejected += exact_p([(pair, np.array([True, False])) for pair in scores]) <= 0.05
    assert rejected / 400 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


def test_weighted_kappa_is_that_of_statsmodels() -> None:
    first = RNG.integers(1, 6, 60)
    second = np.clip(first + RNG.integers(-1, 2, 60), 1, 5)
    counts = np.zeros((5, 5))
    np.add.at(counts, (first - 1, second - 1), 1)
    expected = cohens_kappa(counts, weights=np.arange(5), wt="fc").kappa
    distance = np.subtract.outer(np.arange(5), np.arange(5)) ** 2
    quadratic = cohens_kappa(counts, weights=distance).kappa
    assert weighted_kappa(first, second) == pytest.approx(quadratic, abs=1e-12)
    assert expected == pytest.approx(quadratic, abs=1e-12)
    assert np.isnan(weighted_kappa([2, 2], [2, 2]))


def test_the_intraclass_correlation_is_that_of_the_published_example() -> None:
    # Shrout and Fleiss (1979), table 2: six targets, four judges; here judges 1 and 3, whose
    # ICC(A,1) follows from the mean squares of a two-way analysis of variance.
    ratings = np.array([[9, 5], [6, 3], [8, 6], [7, 2], [10, 6], [6, 4]], float)
    frame = pd.DataFrame(
        {"y": ratings.ravel(), "target": np.repeat(range(6), 2), "judge": [0, 1] * 6}
    )
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    squares = anova_lm(ols("y ~ C(target) + C(judge)", frame).fit())["mean_sq"]
    rows, columns, error = squares.to_numpy()
    expected = (rows - error) / (rows + error + 2 / 6 * (columns - error))
    assert icc(ratings[:, 0], ratings[:, 1]) == pytest.approx(expected, abs=1e-10)


def test_power_is_that_of_statsmodels() -> None:
    plan = Plan(win_rate=0.65, correlation=0.4, comparisons=3)
    for cases, raters in ((20, 1), (60, 2), (100, 5)):
        effect = 0.15 / plan.spread(raters)
        both = TTestPower().power(effect, cases, 0.05 / 3)
        assert power(plan, cases, raters) == pytest.approx(both, abs=1e-3)  # less the wrong side
    assert power(plan, cases_needed(plan, 2), 2) >= 0.8 > power(plan, cases_needed(plan, 2) - 1, 2)


def test_the_planned_power_is_what_simulated_studies_have() -> None:
    # Preferences of raters of one case share a probability drawn from a beta distribution.
    win_rate, correlation, raters = 0.68, 0.3, 2
    cases = cases_needed(Plan(win_rate, correlation), raters)
    total = 1 / correlation - 1
    chance = RNG.beta(win_rate * total, (1 - win_rate) * total, (2000, cases))
    share = RNG.binomial(raters, chance) / raters
    found = (ttest_1samp(share, 0.5, axis=1).pvalue < 0.05).mean()
    assert found == pytest.approx(0.8, abs=0.04)


@pytest.mark.parametrize(
    "wrong", [{"win_rate": 0.5}, {"win_rate": 1.2}, {"correlation": 2.0}, {"ties": 0.9}]
)
def test_impossible_plans_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError):
        Plan(**{"win_rate": 0.6, **wrong})
