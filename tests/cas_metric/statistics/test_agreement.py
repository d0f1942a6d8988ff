import krippendorff
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from tests.support.rankings import draw

from cas_metric.statistics.agreement import agreement, kendall_w, krippendorff_alpha
from cas_metric.statistics.preference import Rankings


def test_raters_of_one_opinion_agree_whichever_methods_they_were_shown():
    rng = np.random.default_rng(0)
    ranks = np.full((180, 4), np.nan)
    for row in ranks:
        row[np.sort(rng.choice(4, int(rng.integers(2, 5)), replace=False))] = 1.0
        row[np.isfinite(row)] = np.arange(np.isfinite(row).sum()) + 1.0
    cases = np.repeat(np.arange(60), 3)
    found = agreement(Rankings(tuple("ABCD"), cases, np.tile(list("xyz"), 60), ranks))
    assert (found.alpha.estimate, found.kendall_w.estimate) == (1.0, 1.0)
    masks = pd.DataFrame({"case": cases, "mask": [str(m) for m in np.isfinite(ranks)]})
    assert found.n_shared == masks[masks.duplicated(keep=False)]["case"].nunique()
    alone = Rankings(("A", "B", "C"), np.zeros(2), np.arange(2), ranks[:2, :3] * 0 + 1)
    alone.ranks[:] = [[1, 2, np.nan], [np.nan, 1, 2]]
    assert agreement(alone) is None


@given(st.integers(0, 10_000), st.integers(2, 4), st.booleans())
@settings(max_examples=25, deadline=None)
def test_alpha_is_that_of_the_krippendorff_package(seed, raters, holes):
    rng = np.random.default_rng(seed)
    ratings = rng.integers(1, 5, size=(raters, 20)).astype(float)
    if holes:
        ratings[rng.random(ratings.shape) < 0.2] = np.nan
    expected = krippendorff.alpha(reliability_data=ratings, level_of_measurement="ordinal")
    assert krippendorff_alpha(ratings) == pytest.approx(expected, abs=1e-9)


def test_kendalls_w_of_two_raters_is_a_rescaled_spearman():
    rng = np.random.default_rng(7)
    ranks = rng.integers(1, 5, size=(2, 8)).astype(float)
    # Exact also with ties, for average ranks and the tie correction, when both raters tie alike.
    assert kendall_w(np.array([[1, 2, 3, 4], [1, 2, 3, 4.0]])) == 1
    strict = np.argsort(rng.random((2, 8)), axis=1) + 1.0
    rho = spearmanr(*strict).statistic
    assert kendall_w(strict) == pytest.approx((1 + rho) / 2)
    assert 0 <= kendall_w(ranks) <= 1


def test_kendalls_w_with_ties_of_the_textbook():
    # Siegel and Castellan (1988), section 9.4: three judges, ten candidates, W = .828 with ties.
    ranks = np.array(
        [
            [1, 4.5, 2, 4.5, 3, 7.5, 6, 9, 7.5, 10],
            [2.5, 1, 2.5, 4.5, 4.5, 8, 9, 6.5, 10, 6.5],
            [2, 1, 4.5, 4.5, 4.5, 4.5, 8, 8, 8, 10],
        ]
    )
    assert kendall_w(ranks) == pytest.approx(0.828, abs=5e-4)


def test_agreement_of_copies_and_of_strangers():
    copies = draw(raters=1, seed=8)
    twice = Rankings(
        copies.methods,
        np.tile(copies.cases, 2),
        np.repeat(["a", "b"], len(copies.cases)),
        np.tile(copies.ranks, (2, 1)),
    )
    found = agreement(twice)
    assert (found.alpha.estimate, found.kendall_w.estimate) == pytest.approx((1.0, 1.0))
    strangers = agreement(draw(n_cases=400, spread=0.0, seed=9))
    assert strangers.alpha.estimate == pytest.approx(0, abs=0.06)
    assert strangers.kendall_w.estimate == pytest.approx(strangers.kendall_w_chance, abs=0.03)
    assert agreement(copies) is None
