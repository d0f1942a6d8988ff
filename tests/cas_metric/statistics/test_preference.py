from itertools import combinations, product

import choix
import evalica
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from tests.support.rankings import draw

from cas_metric.errors import InputError
from cas_metric.statistics import choice_model
from cas_metric.statistics.preference import (
    Rankings,
    parse_rankings,
    preference_scores,
    rank_distribution,
    top1_rates,
    win_matrix,
)


def orders(rankings):
    return [[int(k) for k in np.argsort(row)] for row in rankings.ranks]


def pairs_of(rankings):
    return [
        (o[i], o[j]) for o in orders(rankings) for i in range(len(o)) for j in range(i + 1, len(o))
    ]


def fitted(rankings, model, **options):
    scores = preference_scores(rankings, model=model, **options).scores
    return np.array([scores[method].estimate for method in rankings.methods])


@given(seed=st.integers(0, 10_000), m=st.integers(2, 6))
@settings(max_examples=15, deadline=None)
def test_bradley_terry_is_that_of_choix_and_of_evalica(seed, m):
    rankings = draw(40, 1, m, seed, spread=0.5)
    pairs = pairs_of(rankings)
    ours = fitted(rankings, "bradley-terry")
    by_choix = choix.ilsr_pairwise(m, pairs, alpha=0.0)
    np.testing.assert_allclose(ours, by_choix - by_choix.mean(), atol=1e-6)
    winners, losers = zip(*pairs, strict=True)
    result = evalica.bradley_terry(
        winners, losers, [evalica.Winner.X] * len(pairs), tolerance=1e-12, limit=10_000
    )
    by_evalica = np.log(result.scores.sort_index().to_numpy())
    np.testing.assert_allclose(ours, by_evalica - by_evalica.mean(), atol=1e-6)


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_plackett_luce_is_that_of_choix(ridge):
    rankings = draw(m=5, seed=1)
    theirs = choix.opt_rankings(5, orders(rankings), alpha=ridge, tol=1e-8)
    np.testing.assert_allclose(
        fitted(rankings, "plackett-luce", ridge=ridge), theirs - theirs.mean(), atol=1e-6
    )


def test_partial_rankings_are_choixs():
    rankings = draw(m=5, seed=2)
    ranks = rankings.ranks.copy()
    ranks[::2, 0] = np.nan
    ranks[1::3, 3] = np.nan
    partial = rankings._replace(ranks=ranks)
    data = [[int(k) for k in np.argsort(row) if np.isfinite(row[k])] for row in ranks]
    theirs = choix.ilsr_rankings(5, data, alpha=0.0)
    np.testing.assert_allclose(fitted(partial, "plackett-luce"), theirs - theirs.mean(), atol=1e-6)


def test_a_tie_counts_half_for_either_side():
    ranks = np.array([[1.0, 1.0, 2.0], [2.0, 1.0, 3.0], [1.0, 3.0, 2.0], [3.0, 2.0, 1.0]])
    rankings = Rankings(("A", "B", "C"), np.arange(4).astype(str), np.full(4, "r"), ranks)
    doubled = []
    for row in ranks:
        for i in range(3):
            for j in range(i + 1, 3):
                if row[i] == row[j]:
                    doubled += [(i, j), (j, i)]
                else:
                    doubled += [(i, j) if row[i] < row[j] else (j, i)] * 2
    theirs = choix.ilsr_pairwise(3, doubled, alpha=0.0)
    np.testing.assert_allclose(fitted(rankings, "bradley-terry"), theirs - theirs.mean(), atol=1e-6)


@pytest.mark.parametrize("model", choice_model.MODELS)
def test_every_resample_is_fitted_as_if_alone(model):
    rankings = draw(n_cases=25, seed=3)
    codes = np.unique(rankings.cases, return_inverse=True)[1]
    choices = choice_model.count_choices(rankings.ranks, codes, model)
    counts = np.random.default_rng(4).multinomial(25, [1 / 25] * 25, size=8).astype(float)
    together = choice_model.fit(choices.sets, np.einsum("bc,csm->bsm", counts, choices.counts))
    for weights, scores in zip(counts, together, strict=True):
        chosen = np.repeat(np.arange(len(codes)), weights[codes].astype(int))
        alone = rankings._replace(
            cases=chosen.astype(str), raters=rankings.raters[chosen], ranks=rankings.ranks[chosen]
        )
        np.testing.assert_allclose(scores, fitted(alone, model), atol=1e-9)


def test_intervals_are_on_an_identified_scale_and_hold_the_estimate():
    found = preference_scores(draw(seed=5))
    assert sum(score.estimate for score in found.scores.values()) == pytest.approx(0, abs=1e-9)
    assert all(s.low < s.estimate < s.high for s in found.scores.values())
    assert found.cases == 60


def test_raters_of_a_case_are_not_independent_observations():
    # Two raters who copy each other add nothing.
    one = draw(n_cases=80, raters=1, seed=6)
    two = Rankings(
        one.methods, np.tile(one.cases, 2), np.repeat(["a", "b"], 80), np.tile(one.ranks, (2, 1))
    )
    lone, copied = (preference_scores(r).scores["D"] for r in (one, two))
    assert copied.low == pytest.approx(lone.low, abs=1e-6)
    assert copied.high == pytest.approx(lone.high, abs=1e-6)


def test_groups_never_compared_are_named():
    frame = pd.DataFrame(
        {"case": [1, 2], "A": [1, None], "B": [2, None], "C": [None, 1], "D": [None, 2]}
    )
    with pytest.raises(InputError, match=r"\{A, B\} \| \{C, D\}"):
        preference_scores(parse_rankings(frame))


def test_a_method_that_always_wins_has_no_finite_score():
    rankings = parse_rankings(pd.DataFrame({"case": [1, 2], "A": [1, 1], "B": [2, 3], "C": [3, 2]}))
    with pytest.raises(InputError, match=r"unbounded.*\{A\}"):
        preference_scores(rankings)
    scores = preference_scores(rankings, ridge=0.1).scores
    assert scores["A"].estimate > scores["B"].estimate


def test_score_errors_are_those_of_a_clustered_logistic_regression():
    rankings = draw(n_cases=30, raters=2, m=3, seed=12)
    rows, won, case = [], [], []
    for ranks, label in zip(rankings.ranks, rankings.cases, strict=True):
        for i, j in combinations(range(3), 2):
            rows.append(np.eye(3)[i] - np.eye(3)[j])
            won.append(float(ranks[i] < ranks[j]))
            case.append(int(label))
    design = np.array(rows)[:, 1:]  # the score of A is zero
    theirs = sm.GLM(won, design, family=sm.families.Binomial()).fit(
        cov_type="cluster", cov_kwds={"groups": np.array(case), "df_correction": False}
    )
    found = {(d.left, d.right): d for d in preference_scores(rankings).differences}
    reach = stats.t.ppf(0.975, 29) * np.sqrt(30 / 29)
    for k, name in enumerate("BC"):
        ours = found["A", name].difference
        assert -ours.estimate == pytest.approx(theirs.params[k], abs=1e-6)
        raw = np.sqrt(theirs.cov_params()[k, k])
        # statsmodels' own factor for the number of clusters is C / (C - 1) or none.
        assert (ours.high - ours.low) / 2 / reach == pytest.approx(raw, rel=0.02)


@pytest.mark.parametrize("model", ["bradley-terry", "plackett-luce", "davidson"])
@pytest.mark.parametrize(("won", "of"), [(6, 7), (18, 20), (15, 20), (70, 100)])
def test_with_one_rater_p_is_that_of_the_binomial_test(won, of, model):
    ranks = np.where(np.arange(of)[:, None] < won, [1.0, 2.0], [2.0, 1.0])
    found = preference_scores(Rankings(("a", "b"), np.arange(of), np.zeros(of), ranks), model=model)
    assert found.differences[0].p == pytest.approx(stats.binomtest(won, of).pvalue)


def test_p_of_several_raters_is_that_of_all_exchanges_of_the_names():
    ranks = draw(n_cases=12, raters=3, m=2, seed=21).ranks
    net = np.sign(ranks[:, 1] - ranks[:, 0]).reshape(12, 3).sum(axis=1)
    patterns = np.array(list(product([1, -1], repeat=12))) @ net
    found = preference_scores(Rankings(("a", "b"), np.repeat(range(12), 3), np.ones(36), ranks))
    expected = np.mean(np.abs(patterns) >= abs(net.sum()))
    assert found.differences[0].p == pytest.approx(expected)


def test_p_does_not_depend_on_the_ridge_where_one_method_always_won():
    ranks = np.tile([1.0, 2.0], (7, 1))
    data = Rankings(("a", "b"), np.arange(7), np.zeros(7), ranks)
    for ridge in (0.01, 1.0):
        assert preference_scores(data, ridge=ridge).differences[0].p == pytest.approx(2 / 2**7)


def test_p_of_a_method_that_always_won_is_small_and_not_nothing():
    ranks = np.tile([1.0, 2.0], (120, 1))
    found = preference_scores(
        Rankings(("a", "b"), np.arange(120), np.zeros(120), ranks), ridge=0.01
    )
    assert found.differences[0].p == pytest.approx(2.0**-119, rel=1e-9)


def test_two_equal_methods_among_others_are_rarely_told_apart():
    rng, found = np.random.default_rng(4), 0
    for _ in range(150):
        seen = np.array([0.0, 0.0, 1.5]) + rng.normal(size=(12, 1, 3)) + rng.gumbel(size=(12, 2, 3))
        ranks = (-seen).argsort(axis=2).argsort(axis=2).reshape(-1, 3) + 1.0
        data = Rankings(("a", "b", "c"), np.repeat(range(12), 2), np.tile([0, 1], 12), ranks)
        found += preference_scores(data, ridge=0.01).differences[0].p < 0.05
    assert found / 150 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 150)


def test_davidson_is_what_a_general_optimiser_finds():
    rng = np.random.default_rng(3)
    ranks = np.ceil(draw(n_cases=25, raters=2, m=3, seed=3).ranks / 1.5) + (
        rng.random((50, 3)) < 0.2
    )
    rankings = Rankings(("A", "B", "C"), np.repeat(np.arange(25), 2), np.tile([0, 1], 25), ranks)

    def loss(v):
        total = (v[:3].sum()) ** 2
        for row in ranks:
            for i, j in combinations(range(3), 2):
                weights = np.array([v[i], v[j], v[3] + (v[i] + v[j]) / 2])
                outcome = 0 if row[i] < row[j] else 1 if row[i] > row[j] else 2
                total -= weights[outcome] - np.logaddexp.reduce(weights)
        return total

    expected = optimize.minimize(loss, np.zeros(4), tol=1e-10).x
    found = preference_scores(rankings, model="davidson")
    assert [found.scores[m].estimate for m in "ABC"] == pytest.approx(list(expected[:3]), abs=1e-4)
    assert found.ties == pytest.approx(np.exp(expected[3]), abs=1e-4)


def test_davidson_without_ties_is_bradley_terry():
    rankings = draw(seed=4)
    ours, theirs = (preference_scores(rankings, model=m) for m in ("davidson", "bradley-terry"))
    assert ours.ties == 0
    for name in rankings.methods:
        assert ours.scores[name] == pytest.approx(theirs.scores[name], abs=1e-6)


@pytest.mark.parametrize(
    ("ranks", "finite"),
    [
        ([[1, 2]] * 5 + [[1, 1]] * 3, False),  # B never won
        ([[1, 2]] * 5 + [[1, 1]] * 3 + [[2, 1]], True),
        ([[1, 2, 2]] * 6 + [[1, 1, 1]] * 6, False),  # A never lost, B and C always tie
        ([[1, 2, 2]] * 6 + [[1, 1, 1]] * 6 + [[2, 1, 3]], True),
        ([[1, 2, 3], [2, 3, 1], [3, 1, 2], [1, 1, 1]], True),
    ],
)
def test_davidson_refuses_what_has_no_finite_scores(ranks, finite):
    table = np.array(ranks, dtype=float)
    names = tuple("ABC"[: table.shape[1]])
    rankings = Rankings(names, np.arange(len(table)), np.zeros(len(table)), table)
    if finite:
        assert preference_scores(rankings, model="davidson").ties < 10
        return
    with pytest.raises(InputError, match=r"unbounded.*\{A\} \| \{B"):
        preference_scores(rankings, model="davidson")


def test_win_matrix_counts_pairs_and_halves_ties():
    frame = pd.DataFrame({"case": [1, 2, 3, 4], "A": [1, 1, 2, 1], "B": [2, 1, 1, 2]})
    wins = win_matrix(parse_rankings(frame))
    assert wins["A"]["B"].rate.estimate == pytest.approx(2.5 / 4)
    assert wins["B"]["A"].rate.estimate == pytest.approx(1.5 / 4)
    assert (wins["A"]["B"].n, wins["A"]["B"].ties) == (4, 1)


def test_the_weakest_of_ten_cases_has_an_interval_with_a_width():
    ranks = np.tile([1.0, 2.0, 3.0], (10, 1))
    rankings = Rankings(("A", "B", "C"), np.arange(10), np.zeros(10), ranks)
    for rate in top1_rates(rankings).values():
        assert rate.high - rate.low > 0.2


def test_top1_rates_and_rank_distribution():
    rankings = parse_rankings(
        pd.DataFrame(
            {"case": [1, 2, 3, 4], "A": [1, 1, 2, 1], "B": [2, 1, 1, 2], "C": [3, 3, 3, None]}
        )
    )
    rates = top1_rates(rankings)
    assert rates["A"].estimate == pytest.approx((1 + 0.5 + 0 + 1) / 4)
    assert rates["C"].estimate == 0
    shares = rank_distribution(rankings)
    assert shares["A"] == pytest.approx([2.5 / 4, 1.5 / 4, 0])
    assert shares["C"] == pytest.approx([0, 0, 1])
    assert all(sum(row) == pytest.approx(1) for row in shares.values())


def test_long_and_wide_layouts_are_the_same():
    wide = pd.DataFrame(
        {"case": [1, 1, 2], "rater": ["x", "y", "x"], "A": [1, 2, 1], "B": [2, 1, 2]}
    )
    long = wide.melt(id_vars=["case", "rater"], var_name="method", value_name="rank")
    one, other = parse_rankings(wide), parse_rankings(long)
    np.testing.assert_array_equal(one.ranks, other.ranks)
    assert list(one.cases) == list(other.cases) == ["1", "1", "2"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"method": ["A"], "rank": [1]}, "no column 'case'"),
        ({"case": [1], "A": [0], "B": [1]}, "no positive number"),
        ({"case": [1], "A": ["first"], "B": ["second"]}, "'first' is no positive number"),
        ({"case": [1], "A": [1], "B": [None]}, "fewer than two methods"),
        (
            {"case": [1, 1], "rater": ["x", "x"], "method": ["A", "A"], "rank": [1, 2]},
            "ranked 'A' twice",
        ),
        ({"case": [1, None], "A": [1, 2], "B": [2, 1]}, "2 of the 4 ranks name no case"),
        (
            {"case": [1, 1], "rater": ["x", ""], "method": ["A", "B"], "rank": [1, 2]},
            "1 of the 2 ranks name no rater",
        ),
        ({"case": [1, 1], "method": ["A", None], "rank": [1, 2]}, "name no method"),
        ({"case": [1], "A": [1], "B": [np.inf]}, "no positive number"),
        (
            {"case": [1, 1], "method": ["A", "B"], "rank": [1, 2], "position": ["left", "right"]},
            "position 'left' is no positive number",
        ),
    ],
)
def test_unusable_rankings_are_refused_with_the_reason(columns, message):
    with pytest.raises(InputError, match=message):
        parse_rankings(pd.DataFrame(columns))
