"""Verdicts of the gate, against intervals known from elsewhere."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from tests.support.runs import score_rows

from cas_metric.errors import InputError
from cas_metric.gating import Policy, Rule, decide, overall


def judge(rows, references=None, *, confidence=0.99, **rule):
    return decide(Policy(rules=[Rule(**rule)], confidence=confidence), rows, references or {})


@pytest.fixture
def rows():
    return score_rows("m", n=80)


@pytest.mark.parametrize(("step", "verdict"), [(-1, "pass"), (0.5, "undecided"), (2, "fail")])
def test_the_verdict_is_where_the_whole_interval_lies(step, verdict, rows):
    low, high = stats.t.interval(0.99, 79, rows["vdc"].mean(), stats.sem(rows["vdc"]))
    limit = low + step * (high - low)
    (found,) = judge(rows, metric="vdc", at_least=limit)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.verdict == verdict
    opposite = {"pass": "fail", "fail": "pass"}.get(verdict, verdict)
    assert judge(rows, metric="vdc", at_most=limit)[0].verdict == opposite


def test_the_error_is_shared_out_among_all_decisions(rows):
    policy = Policy(
        confidence=0.95,
        rules=[Rule(metric="vdc", at_least=0.1), Rule(metric="sfs", at_least=0.1, label="each")],
    )
    decisions = decide(policy, rows, {})
    assert [one.label for one in decisions] == ["", "benign", "malignant"]
    assert [one.level for one in decisions] == pytest.approx([1 - 0.05 / 3] * 3)
    assert overall(decisions) == "pass"


def test_against_a_baseline_cases_are_paired(rows):
    shift = np.random.default_rng(0).normal(-0.01, 0.004, 80)
    worse = rows.assign(vdc=rows["vdc"] + shift)
    (found,) = judge(worse, {"baseline": rows}, metric="vdc", against="baseline")
    expected = stats.t.interval(0.99, 79, shift.mean(), stats.sem(shift))
    assert (found.low, found.high) == pytest.approx(expected)
    assert found.verdict == "fail"
    # Unpaired, the same two sets could not be told apart.
    assert stats.ttest_ind(worse["vdc"], rows["vdc"]).pvalue > 0.01
    (found,) = judge(worse, {"baseline": rows}, metric="vdc", against="baseline", margin=0.02)
    assert found.verdict == "pass"


def test_a_tail_against_a_baseline_is_that_of_the_common_cases(rows):
    real = score_rows("Real", sfs_one=True)
    rows = rows.assign(cas=np.r_[np.full(40, 0.6), np.full(40, 0.1)])
    rule = {"metric": "low_rate", "against": "baseline", "margin": 0.05}
    (found,) = judge(rows, {"baseline": rows.head(40), "real": real}, **rule)
    assert (found.images, found.estimate) == (40, 0)
    (found,) = judge(rows, {"baseline": rows, "real": real}, **rule)
    assert (found.images, found.estimate) == (80, 0)


def test_the_same_images_once_more_pass_without_a_margin(rows):
    metrics = ("cas", "vdc", "dd", "sfs", "low_rate")
    real = score_rows("Real", sfs_one=True)
    policy = Policy(rules=[Rule(metric=name, against="baseline") for name in metrics])
    decisions = decide(policy, rows, {"baseline": rows.copy(), "real": real})
    # The rate below tau has an interval all the same: tau is an estimate.
    assert [one.verdict for one in decisions[:-1]] == ["pass"] * 4
    assert decisions[-1].verdict in ("pass", "undecided")


def test_real_images_are_the_cases_of_their_partners(rows):
    real = score_rows("Real", sfs_one=True).sample(frac=1, random_state=3)
    (found,) = judge(rows, {"real": real}, metric="vdc", against="real", margin=0.05)
    partner = real.set_index("image")["vdc"]
    gap = rows["vdc"].to_numpy() - partner[rows["reference"]].to_numpy()
    assert found.estimate == pytest.approx(gap.mean())
    assert found.images == 80
    assert found.verdict == "pass"


def test_patients_not_images_are_counted(rows):
    patients = rows.assign(patient=[f"p{k // 8}" for k in range(80)])
    (found,) = judge(patients, metric="vdc", at_least=0.1)
    assert found.clusters == 10
    assert found.images == 80


def test_a_rate_below_tau_and_failed_images():
    rows, real = score_rows("m", means=(0.15, 0.14, 0.1, 0.85)), score_rows("Real", sfs_one=True)
    (found,) = judge(rows, {"real": real}, metric="low_rate", at_most=0.3)
    assert found.verdict == "fail"
    assert found.estimate > 0.8
    broken = rows.assign(status=["failed"] + ["ok"] * 79)
    assert judge(broken, metric="failed", at_most=0.0)[0].verdict == "fail"
    assert judge(broken, metric="failed", at_most=0.02)[0].verdict == "pass"
    assert judge(rows, metric="failed", at_most=0.0)[0].verdict == "pass"


def test_one_case_decides_nothing(rows):
    (found,) = judge(rows.head(1), metric="vdc", at_least=0.1)
    assert found.verdict == "undecided"
    assert "too few" in found.reason
    (found,) = judge(rows.assign(vdc=np.nan), metric="vdc", at_least=0.1)
    assert found.reason == "no image has vdc"


def test_a_tail_of_one_patient_decides_nothing(rows):
    real = score_rows("Real", sfs_one=True)
    one = rows.assign(patient="p")
    rule = {"metric": "low_rate", "at_most": 0.99}
    (found,) = judge(one, {"real": real.assign(patient=[f"q{k}" for k in range(80)])}, **rule)
    assert (found.verdict, found.clusters) == ("undecided", 1)
    assert "too few" in found.reason


def test_a_share_that_never_occurred_has_wilsons_interval(rows):
    (found,) = judge(rows, metric="prompt_truncated", at_most=0.1)
    expected = stats.binomtest(0, 80).proportion_ci(0.99, method="wilson")
    assert (found.low, found.high) == pytest.approx((0, expected.high))
    assert found.verdict == "pass"
    (found,) = judge(rows.assign(vdc=0.2), metric="vdc", at_least=0.1)
    assert (found.verdict, found.clusters) == ("undecided", 80)
    assert "same value" in found.reason


@pytest.mark.parametrize(
    "rule",
    [
        {"metric": "low_rate", "at_most": 0.9},
        {"metric": "low_rate", "against": "baseline"},
        {"metric": "failed", "at_most": 0},
        {"metric": "vdc", "at_least": 0.1},
    ],
)
def test_a_class_that_a_method_lacks_is_undecided(rule, rows):
    other = rows[rows["label"] == "benign"].assign(method="x")
    references = {"real": score_rows("Real", sfs_one=True), "baseline": rows}
    both = pd.concat([rows, other], ignore_index=True)
    found = {(one.method, one.label): one for one in judge(both, references, label="each", **rule)}
    assert len(found) == 4
    lacking = found["x", "malignant"]
    assert (lacking.verdict, lacking.reason) == (
        "undecided",
        "the method has no image of malignant",
    )
    assert not any(one.reason for one in found.values() if one is not lacking)


def test_nothing_in_common_is_undecided_not_passed(rows):
    others = rows.assign(reference=[f"real/x{k}.png" for k in range(80)])
    (found,) = judge(rows, {"baseline": others}, metric="vdc", against="baseline", margin=1)
    assert found.verdict == "undecided"
    assert found.reason == "no case in common with baseline"


@pytest.mark.parametrize(
    ("rule", "named"),
    [
        ({"metric": "fid", "at_most": 3}, "no column 'fid'"),
        ({"metric": "label", "at_least": 0}, "column 'label' of the run holds no numbers"),
        ({"metric": "image", "at_most": 1}, "column 'image' of the run holds no numbers"),
        ({"metric": "vdc", "at_least": 0, "method": "x"}, "no method 'x'"),
        ({"metric": "vdc", "at_least": 0, "label": "x"}, "no class 'x'"),
        ({"metric": "vdc", "against": "baseline"}, "no baseline"),
        ({"metric": "vdc", "against": "floor"}, "no floor"),
        ({"metric": "low_rate", "at_most": 1}, "no CAS and so no tail"),
    ],
)
def test_a_rule_of_what_is_not_there_names_what_is(rule, named, rows):
    with pytest.raises(InputError, match=named):
        judge(rows, **rule)


def test_an_unchanged_generator_is_rarely_red():
    """60 reruns of made-up scores with six rules without a margin: at most 1% may fail."""
    policy = Policy(
        rules=[
            *(Rule(metric=name, against="baseline") for name in ("cas", "vdc", "dd", "sfs")),
            Rule(metric="vdc", at_least=0.15),
            Rule(metric="sfs", at_least=0.85),
        ]
    )
    rng, red = np.random.default_rng(5), 0
    for k in range(60):
        pair = []
        for side in (0, 1):
            made = score_rows("m", n=40, seed=2 * k + side)
            made["dd"] = (rng.random(40) < 0.8).astype(float)
            made["cas"] = made[["vdc", "ccs", "dd", "sfs"]].mean(axis=1)
            pair.append(made)
        red += overall(decide(policy, pair[0], {"baseline": pair[1]})) == "fail"
    assert red <= stats.binom.ppf(0.999, 60, 0.01)


@pytest.mark.parametrize("n", [1, 12, 60, 300])
def test_a_diagnosis_that_merely_agrees_has_exact_limits(n):
    """Not zero width: by Clopper and Pearson nothing is known of what n cases did not show."""
    ours, theirs = score_rows("m", n=n), score_rows("m", n=n, seed=1).assign(dd=1.0)
    ours["dd"] = 1.0
    (found,) = judge(ours, {"baseline": theirs}, metric="dd", against="baseline", margin=0.02)
    if n == 1:
        assert (found.verdict, np.isnan(found.low)) == ("undecided", True)
        assert "too few" in found.reason
        return
    most = stats.binomtest(0, n).proportion_ci(0.99, method="exact").high
    assert (found.low, found.high) == pytest.approx((-most, most))
    assert found.verdict == ("pass" if n == 300 else "undecided")


def test_one_case_is_no_pass_even_of_the_same_images(rows):
    one = rows.head(1)
    for name in ("cas", "dd", "vdc"):
        (found,) = judge(one, {"baseline": one}, metric=name, against="baseline", margin=0.1)
        assert (found.verdict, np.isnan(found.low)) == ("undecided", True)


@pytest.mark.parametrize("n", [5, 20])
def test_a_diagnosis_that_is_rarely_worse_rarely_passes(n):
    """One diagnosis in twenty lost, 0.04 allowed: the error of 1% holds with few cases."""
    rng, passed = np.random.default_rng(n), 0
    for k in range(60):
        ours, theirs = score_rows("m", n=n, seed=2 * k), score_rows("m", n=n, seed=2 * k + 1)
        theirs["dd"], ours["dd"] = 1.0, (rng.random(n) > 0.05).astype(float)
        rule = {"metric": "dd", "against": "baseline", "margin": 0.04}
        passed += judge(ours, {"baseline": theirs}, **rule)[0].verdict == "pass"
    assert passed <= stats.binom.ppf(0.999, 60, 0.01)


def test_intervals_of_differences_stay_within_what_can_be(rows):
    for metric, most in (("cas", 1.75), ("dd", 1), ("vdc", 2)):
        two, other = rows.head(2), rows.head(2).assign(vdc=[0.9, -0.9], dd=[1.0, 0.0])
        other = other.assign(cas=other[["vdc", "ccs", "dd", "sfs"]].mean(axis=1))
        (found,) = judge(two, {"baseline": other}, metric=metric, against="baseline")
        assert -most <= found.low <= found.high <= most
