"""The exact test, reliability and the plan, against independent implementations and simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, binomtest, fisher_exact
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.power import TTestPower

from cas_metric.errors import InputError
from cas_metric.statistics.preference import Rankings, preference_scores
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


@pytest.mark.parametrize(("win_rate", "cases"), [(0.8, 16), (0.9, 7), (0.65, 92), (0.55, 783)])
def test_with_one_rater_the_planned_power_is_that_of_the_binomial_test(
    win_rate: float, cases: int
) -> None:
    rejected = [k for k in range(cases + 1) if binomtest(k, cases).pvalue <= 0.05]
    exact = binom.pmf(rejected, cases, win_rate).sum()
    assert power(Plan(win_rate), cases, 1) == pytest.approx(exact, abs=0.02)


def test_over_many_cases_the_power_is_about_that_of_students_test() -> None:
    plan = Plan(win_rate=0.55, correlation=0.4, comparisons=3)
    for cases, raters in ((500, 1), (300, 5)):
        both = TTestPower().power(0.05 / plan.spread(raters), cases, 0.05 / 3)
        assert power(plan, cases, raters) == pytest.approx(both, abs=0.03)


@pytest.mark.parametrize(("win_rate", "raters"), [(0.9, 1), (0.85, 2), (0.8, 3)])
def test_preference_finds_what_was_planned(win_rate: float, raters: int) -> None:
    cases = cases_needed(Plan(win_rate), raters)
    assert power(Plan(win_rate), cases, raters) >= 0.8
    chance = RNG.beta(win_rate * 7 / 3, (1 - win_rate) * 7 / 3, (300, cases, 1))  # 0.3 correlated
    better = RNG.random((300, cases, raters)) < chance
    case, rater = np.divmod(np.arange(cases * raters), raters)
    found = 0
    for one in better.reshape(300, -1, 1):
        study = Rankings(("a", "b"), case, rater, np.where(one, [1.0, 2.0], [2.0, 1.0]))
        found += preference_scores(study, ridge=0.01).differences[0].p <= 0.05
    assert found / 300 > 0.8 - 2.5 * 0.4 / np.sqrt(300)


@pytest.mark.parametrize(
    "wrong", [{"win_rate": 0.5}, {"win_rate": 1.2}, {"correlation": 2.0}, {"ties": 0.9}]
)
def test_impossible_plans_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError):
        Plan(**{"win_rate": 0.6, **wrong})
