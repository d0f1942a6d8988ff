"""Scores against scikit-learn's definition, tests against scipy and statsmodels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as mcnemar_oracle
from statsmodels.stats.multitest import multipletests
from tests.support.runs import write_score_run

from cas_metric.downstream import comparison
from cas_metric.downstream.comparison import Outcome, compare_all, seed_test
from cas_metric.downstream.grid import REAL_ONLY, Cell
from cas_metric.downstream.scores import macro_f1, macro_f1_replicates
from cas_metric.errors import InputError
from cas_metric.statistics.comparison import sign_flip_test
from cas_metric.verbs.utility import correlation

RNG = np.random.default_rng(0)


def predictions(truth, right, rng):
    """Predictions of three classes that are right with a known probability."""
    wrong = (truth + rng.integers(1, 3, len(truth))) % 3
    return np.where(rng.random(len(truth)) < right, truth, wrong)


@pytest.fixture(scope="module")
def outcome():
    truth = RNG.integers(0, 3, 60)
    clusters = np.array([f"patient {i // 2}" for i in range(60)])
    skill = {REAL_ONLY: 0.5, "good": 0.8, "bad": 0.35}
    cells = {
        Cell(method, scale, seed): predictions(truth, right, RNG)
        for method, right in skill.items()
        for scale in (0.5, 1.0)
        for seed in range(5)
    }
    return Outcome(truth, clusters, 3, cells)


def naive_macro_f1(truth, predicted, classes):
    """F1 from precision and recall, class by class."""
    values = []
    for label in range(classes):
        hits = ((truth == label) & (predicted == label)).sum()
        if not hits:
            values.append(0.0)
            continue
        precision, recall = hits / (predicted == label).sum(), hits / (truth == label).sum()
        values.append(2 * precision * recall / (precision + recall))
    return np.mean(values)


def test_macro_f1_from_precision_and_recall():
    truth = RNG.integers(0, 4, 40)
    predicted = RNG.integers(0, 3, 40)  # one class is never predicted
    assert macro_f1(truth, predicted, 5) == pytest.approx(naive_macro_f1(truth, predicted, 5))


def test_macro_f1_of_resamples_equals_that_of_resampled_images():
    truth, predicted = RNG.integers(0, 3, 12), [RNG.integers(0, 3, 12) for _ in range(2)]
    clusters = np.array([str(i // 3) for i in range(12)])
    found = macro_f1_replicates(truth, predicted, 3, clusters=clusters, resamples=50, seed=3)
    drawn = np.random.default_rng(3).integers(4, size=(50, 4))
    for value, chosen in zip(found, drawn, strict=True):
        rows = np.concatenate([np.arange(3 * c, 3 * c + 3) for c in chosen])
        expected = np.mean([naive_macro_f1(truth[rows], p[rows], 3) for p in predicted])
        assert value == pytest.approx(expected)


def test_seed_test_is_the_paired_t_test_and_enumerates_signs():
    left, right = RNG.normal(0.6, 0.02, 5), RNG.normal(0.55, 0.02, 5)
    found, oracle = seed_test(left - right), stats.ttest_rel(left, right)
    assert found["p_t"] == pytest.approx(oracle.pvalue)
    interval = oracle.confidence_interval(0.95)
    assert (found["difference"]["low"], found["difference"]["high"]) == pytest.approx(interval)
    flips = stats.permutation_test(
        (left, right), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=np.inf
    )
    assert (found["p_sign_flip"], found["p_sign_flip_exact"]) == (
        pytest.approx(flips.pvalue), True,
    )  # fmt: skip


def test_seeds_without_spread_claim_nothing():
    assert seed_test(np.zeros(5))["p_t"] == 1.0
    assert np.isnan(seed_test(np.full(5, 0.1))["p_t"])
    assert np.isnan(seed_test(np.array([0.1]))["p_t"])


def test_mcnemar_against_statsmodels(outcome):
    left, right = outcome.of("good", 1.0)[0], outcome.of("bad", 1.0)[0]
    found = comparison.mcnemar(outcome.truth, left, right)
    one, other = left == outcome.truth, right == outcome.truth
    table = [[(one & other).sum(), (one & ~other).sum()],
             [(~one & other).sum(), (~one & ~other).sum()]]  # fmt: skip
    assert found["p"] == pytest.approx(mcnemar_oracle(table, exact=True).pvalue)
    assert (found["left_only"], found["right_only"]) == (table[0][1], table[1][0])


def test_the_image_test_of_one_seed_is_mcnemar():
    truth = np.zeros(30, np.int64)
    left, right = np.zeros(30, np.int64), np.zeros(30, np.int64)
    left[:2], right[2:11] = 1, 1
    gaps = (left == truth).astype(float) - (right == truth)
    assert sign_flip_test(gaps).value == pytest.approx(comparison.mcnemar(truth, left, right)["p"])


def test_comparisons_are_those_announced_and_corrected_by_holm(outcome):
    found = compare_all(outcome, "good")
    assert [(e["scale"], e["left"], e["right"], e["best_baseline"]) for e in found[:3]] == [
        (0.5, "good", REAL_ONLY, False),
        (0.5, "bad", REAL_ONLY, False),
        (0.5, "good", "bad", True),
    ]
    for family in (("accuracy", "seeds", "p_t"), ("accuracy", "images", "p")):
        score, unit, key = family
        raw = [e[score][unit][key] for e in found]
        adjusted = [e[score][unit][f"{key}_holm"] for e in found]
        np.testing.assert_allclose(adjusted, multipletests(raw, method="holm")[1])
    assert found[2]["accuracy"]["images"]["p_holm"] < 0.01
    gap = np.mean([np.mean(p == outcome.truth) for p in outcome.of("good", 0.5)]) - np.mean(
        [np.mean(p == outcome.truth) for p in outcome.of("bad", 0.5)]
    )
    assert found[2]["accuracy"]["images"]["difference"]["estimate"] == pytest.approx(gap)
    assert found[2]["accuracy"]["seeds"]["difference"]["estimate"] == pytest.approx(gap)


def test_cas_of_runs_is_correlated_with_both_scores(outcome, tmp_path):
    means = {"good": 0.7, "bad": 0.2, "middling": 0.5}
    runs = [
        str(write_score_run(tmp_path / name, name, means=(0.1, 0.1, dd, 0.8)))
        for name, dd in means.items()
    ]
    cells = {
        **outcome.predictions,
        **{Cell("middling", 1.0, s): predictions(outcome.truth, 0.6, RNG) for s in range(5)},
    }
    more = Outcome(outcome.truth, outcome.clusters, 3, cells)
    found = correlation(runs, more)
    rows = {row["method"]: row for row in found["rows"]}
    assert rows["good"]["cas"] == pytest.approx(
        pd.read_csv(tmp_path / "good" / "per_image.csv")["cas"].mean()
    )
    pearson = found["results"][0]["coefficients"][0]["value"]["estimate"]
    expected = stats.pearsonr(
        [row["cas"] for row in rows.values()], [row["accuracy"] for row in rows.values()]
    )
    assert pearson == pytest.approx(expected.statistic)
    with pytest.raises(InputError, match="no classifier was trained with"):
        correlation(runs, outcome)
    with pytest.raises(InputError, match="needs three methods"):
        correlation(runs[:2], more)
    with pytest.raises(InputError, match="two runs hold"):
        correlation([runs[0], f"good={tmp_path / 'bad'}"], more)
