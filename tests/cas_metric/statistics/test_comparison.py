import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from tests.support.runs import score_rows

from cas_metric.errors import InputError
from cas_metric.statistics.comparison import (
    case_table,
    difference_part,
    holm,
    paired_differences,
    seed_spread,
    sign_flip_test,
    sign_flip_values,
)
from cas_metric.statistics.exceeds_real import exceeds_real, reward_trained
from cas_metric.statistics.method_table import compare_methods
from cas_metric.statistics.tables import csv_rows, markdown_report


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
@settings(max_examples=25, deadline=None)
def test_holm_is_that_of_statsmodels(p_values):
    np.testing.assert_allclose(holm(p_values), multipletests(p_values, method="holm")[1])


def test_holm_leaves_out_what_was_not_tested():
    found = holm([0.03, np.nan, 0.01, np.nan])
    assert np.isnan(found[[1, 3]]).all()
    assert found[[0, 2]].tolist() == multipletests([0.03, 0.01], method="holm")[1].tolist()


@pytest.mark.parametrize("n", [5, 9, 12])
def test_exact_sign_flips_are_scipys(n):
    values = np.random.default_rng(n).normal(0.3, 1, n)
    ours = sign_flip_test(values)
    theirs = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    assert ours.exact
    assert ours.value == pytest.approx(theirs.pvalue)


@pytest.mark.parametrize("clusters", [9, 40])
def test_columns_that_share_their_patterns_have_the_p_values_of_each_alone(clusters):
    sums = np.random.default_rng(3).normal(0.3, 1.0, size=(clusters, 5))
    alone = [sign_flip_test(column).value for column in sums.T]
    assert sign_flip_values(sums).tolist() == pytest.approx(alone, abs=0.02)
    assert (sign_flip_values(sums[:, :1]) == alone[:1]).all()


def test_random_sign_flips_come_close_to_scipys():
    values = np.random.default_rng(1).normal(0.15, 1, 120)
    ours = sign_flip_test(values)
    theirs = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=20_000, rng=2, vectorized=True
    )
    assert not ours.exact
    assert ours.value == pytest.approx(theirs.pvalue, abs=0.012)


def test_all_of_one_sign_gives_the_smallest_p_value():
    assert sign_flip_test([1.0, 2.0, 3.0, 4.0]).value == 2 / 2**4
    assert sign_flip_test([0.0, 0.0]) == (1.0, True)


def test_clusters_flip_together():
    # Four images of one patient say no more than one.
    values, clusters = np.ones(12), np.repeat(["p", "q", "r"], 4)
    assert sign_flip_test(values, clusters=clusters).value == 2 / 2**3
    assert sign_flip_test(values).value == 2 / 2**12


def test_p_values_are_uniform_when_nothing_differs():
    rng = np.random.default_rng(8)
    p_values = [sign_flip_test(rng.normal(size=10)).value for _ in range(400)]
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


def test_seed_spread_is_of_the_seed_means():
    found = seed_spread([1.0, 3.0, 2.0, 6.0, np.nan], [0, 0, 1, 1, 2])
    assert found == (2, 3.0, pytest.approx(np.std([2.0, 4.0], ddof=1)))
    assert np.isnan(seed_spread([1.0, 2.0], [0, 0]).std)


def long_rows(values, references, method, **columns):
    return pd.DataFrame(
        {
            "id": [f"{method}-{k}" for k in range(len(values))],
            "method": method,
            "reference": references,
            "cas": values,
            **columns,
        }
    )


def test_case_table_pairs_by_reference_and_averages_seeds():
    rows = pd.concat(
        [
            long_rows([0.1, 0.3, 0.5], ["x", "x", "y"], "A", seed=[0, 1, 0]),
            long_rows([0.7, 0.9], ["y", "z"], "B", seed=0),
        ]
    )
    table, clusters = case_table(rows)
    assert list(table.columns) == ["A", "B"]
    assert table.loc["x", "A"] == pytest.approx(0.2)
    assert np.isnan(table.loc["x", "B"])
    assert list(clusters) == ["reference x", "reference y", "reference z"]


def test_paired_difference_uses_common_cases_only():
    rng = np.random.default_rng(2)
    shared = rng.normal(size=80)
    table = {"A": shared + 0.1 + rng.normal(0, 0.05, 80), "B": shared.copy(), "C": shared.copy()}
    table["B"][:10] = np.nan
    first, _, last = paired_differences(table)
    assert (first.left, first.right, first.n_cases) == ("A", "B", 70)
    assert first.difference.estimate == pytest.approx(np.nanmean(table["A"] - table["B"]))
    # Pairing removes the variance between cases.
    assert first.difference.high - first.difference.low < 0.05
    assert first.p_adjusted >= first.p.value
    assert first.wins + first.losses == 70
    assert first.win_rate.estimate == pytest.approx(first.wins / 70)
    assert (last.wins, last.losses, last.win_rate.estimate, last.p.value) == (0, 0, 0.5, 1.0)


def test_methods_without_a_common_case_are_named():
    with pytest.raises(InputError, match="'A' and 'B' have no case in common"):
        paired_differences({"A": [1.0, np.nan], "B": [np.nan, 1.0]})


def test_one_sided_sign_flips_are_scipys():
    values = np.random.default_rng(5).normal(0.3, 1, 10)
    theirs = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="greater"
    )
    assert sign_flip_test(values, one_sided=True).value == pytest.approx(theirs.pvalue)


def test_a_difference_in_cas_keeps_the_error_of_diagnoses_that_never_failed():
    # All twenty right in both: the rate of wrong diagnoses may yet differ by several per cent.
    rng = np.random.default_rng(6)
    table = {name: rng.normal(0.55, 1e-4, 20) for name in "AB"}
    right = {name: np.ones(20) for name in "AB"}
    right["B"][0] = 0.0
    table["B"][0] -= 0.25
    (plain,) = paired_differences(table)
    (found,) = paired_differences(table, diagnoses=right)
    assert found.difference.estimate == pytest.approx(plain.difference.estimate)
    assert found.difference.low < 0 < found.difference.high


def test_diagnoses_over_seeds_are_shares_of_all_their_images():
    rng, n, seeds = np.random.default_rng(7), 60, 5
    right = {name: rng.binomial(seeds, 0.7, n) / seeds for name in "AB"}
    table = {name: rng.normal(0.3, 0.01, n) + right[name] / 4 for name in "AB"}
    images = {name: np.full(n, seeds) for name in "AB"}
    (few,) = paired_differences(table, diagnoses=right)
    (found,) = paired_differences(table, diagnoses=right, images=images)
    gap = table["A"] - table["B"]
    low, high = stats.t.interval(0.95, n - 1, gap.mean(), stats.sem(gap))
    widths = [one.difference.high - one.difference.low for one in (few, found)]
    assert widths[0] > 1.3 * (high - low)
    assert widths[1] == pytest.approx(high - low, rel=0.1)


def test_the_tables_hold_a_method_called_real_and_what_is_above_real_without_a_tail():
    real = score_rows("Real", n=40, sfs_one=True)
    named = score_rows("Real", n=40, seed=1)
    found = compare_methods(pd.concat([named, score_rows("b", n=40)], ignore_index=True), real)
    method, _, reference = csv_rows(found)
    assert method["low_rate"] == found["tail"]["by_cas"]["Real"]["rate"]
    assert "low_rate" not in reference
    right = score_rows("b", n=40, means=(0.15, 0.14, 1.0, 0.85))
    bare = compare_methods(right, real.assign(cas=np.nan, dd=0.0))
    assert "tail" not in bare
    assert "## Above Real" in markdown_report(bare)


def test_rows_without_a_seed_are_no_further_seed():
    rows = score_rows("m", n=40).drop(columns="seed")
    seeds = pd.Series(np.repeat([0, 1, None, None], 10), dtype="Int64")
    spread = compare_methods(rows.assign(seed=seeds))["methods"][0]["seeds"]["cas"]
    assert (spread["seeds"], spread["mean"]) == (2, pytest.approx(rows["cas"].head(20).mean()))
    for none in (rows, rows.assign(seed=None)):
        assert compare_methods(none)["methods"][0]["seeds"]["cas"]["seeds"] == 1


def scored_rows(rng, n, dd, vdc=0.15, hot=None):
    labels = np.array(["a", "b"])[np.arange(n) % 2]
    correct = (rng.random(n) < dd).astype(float)
    if hot is not None:
        correct[labels == hot] = 1.0
    return pd.DataFrame(
        {
            "id": [str(k) for k in range(n)],
            "label": labels,
            "dd": correct,
            "vdc": rng.normal(vdc, 0.02, n),
            "ccs": rng.normal(0.14, 0.02, n),
        }
    )


def test_exceeding_real_is_reported_with_the_class_that_carries_it():
    rng = np.random.default_rng(3)
    real = scored_rows(rng, 400, dd=0.7)
    (found,) = exceeds_real({"m": scored_rows(rng, 400, dd=0.7, vdc=0.12, hot="b")}, real)["m"]
    assert found.primitive == "dd"
    assert found.apart
    assert found.classes[0].label == "b"
    assert (found.cases, found.clusters) == (400, 400)
    assert found.p_adjusted < 0.01
    total = sum(entry.contribution for entry in found.classes)
    assert total == pytest.approx(found.generated.estimate - found.real.estimate)


def test_a_set_like_real_is_not_reported():
    rng = np.random.default_rng(4)
    rows, real = scored_rows(rng, 400, dd=0.55, vdc=0.14), scored_rows(rng, 400, dd=0.7)
    assert exceeds_real({"m": rows}, real) == {"m": []}


def test_real_drawn_twice_is_above_itself_in_one_family_of_twenty():
    rng = np.random.default_rng(5)
    alarms = 0
    for _ in range(100):
        real = scored_rows(rng, 60, dd=0.8)
        sets = {name: scored_rows(rng, 60, dd=0.8) for name in "ABC"}
        alarms += any(exceeds_real(sets, real, permutations=199).values())
    assert alarms <= 12


def test_one_patient_or_one_case_never_exceeds_real():
    rng = np.random.default_rng(6)
    real = scored_rows(rng, 30, dd=0.5).assign(patient="p")
    better = scored_rows(rng, 30, dd=1.0, vdc=0.5).assign(patient="p")
    assert exceeds_real({"m": better}, real) == {"m": []}
    assert exceeds_real({"m": better.head(1).drop(columns="patient")}, real.head(1)) == {"m": []}


@pytest.mark.parametrize(
    ("provenance", "trained"),
    [
        ({"stage": "craft"}, True),
        ([{"adapter": {"stage": "craft", "steps": 300}}], True),
        ({"rewards": {"vdc": 0.2}}, True),
        ({"stage": "lora", "rewards": {}}, False),
        ({"made_by": "craft-trainer generate", "stage": "lora"}, False),
        ({}, False),
        (None, False),
        ({"stage": "CRAFT (reward)"}, True),
        ({"method": "craft training"}, True),
        ({"method": "recrafted"}, False),
        ({"reward": "none"}, False),
        ({"reward": "cas"}, True),
    ],
)
def test_a_reward_is_read_from_the_provenance(provenance, trained):
    assert reward_trained(provenance) is trained


def test_diagnoses_that_agree_everywhere_still_have_a_spread():
    """A lost diagnosis in twenty costs 0.0125: without what was not seen one in seven misses it."""
    rng, missed, n = np.random.default_rng(3), 0, 10
    for _ in range(300):
        right = np.ones(n)
        worse = (rng.random(n) > 0.05).astype(float)
        gap = rng.normal(0, 0.03, n) + 0.25 * (worse - right)
        found = difference_part(gap, (worse, right), np.arange(n), n)
        missed += not found.low <= -0.0125 <= found.high
    assert missed <= stats.binom.ppf(0.999, 300, 0.05)
    same = difference_part(np.zeros(n), (right, right), np.arange(n), n)
    assert np.isnan(same.low)
