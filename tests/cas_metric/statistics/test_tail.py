"""The tail against the paper's own tables.

Real rows are synthetic: the means and the DD rate of Table 1's Real row, with one normal spread of
VDC + CCS for all four data sets. That CAS is then a mixture of two narrow modes.
"""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.stats import norm

from cas_metric.errors import InputError
from cas_metric.gating.policy import Policy, Rule
from cas_metric.gating.rules import decide
from cas_metric.report.content import Entry
from cas_metric.report.warning_signs import graded_table
from cas_metric.statistics.bimodality import ashman_d, bimodality, wilson
from cas_metric.statistics.method_table import compare_methods
from cas_metric.statistics.tail import (
    STABILITY_QUANTILES,
    low_rate,
    reduction_intervals,
    reductions,
    samples,
    split_by_diagnosis,
    stability_curve,
    tail_statistics,
    threshold,
)

#: Table 1, Real row (VDC, CCS, DD) with the test-set size, and tau of Table 14.
REAL = {
    "Fitzpatrick17k": (3100, 0.168, 0.135, 0.666, 0.310),
    "CheXpert": (495, 0.149, 0.148, 0.511, 0.314),
    "BreakHis": (1041, 0.154, 0.135, 0.753, 0.530),
    "ORIGA": (196, 0.132, 0.171, 0.781, 0.564),
}
SPREAD = 0.0115


def real_rows(n, vdc, ccs, dd, spread=SPREAD):
    """CAS and DD of ``n`` real images: normal scores of the given spread in either mode."""
    n_right = round(n * dd)
    correct = np.r_[np.ones(n_right), np.zeros(n - n_right)]
    noise = np.r_[
        norm.ppf((np.arange(n_right) + 0.5) / n_right),
        norm.ppf((np.arange(n - n_right) + 0.5) / (n - n_right)),
    ]
    return (vdc + ccs + 1 + correct) / 4 + spread * noise, correct


@pytest.mark.parametrize("dataset", REAL)
def test_binary_dd_reproduces_the_papers_threshold(dataset):
    n, vdc, ccs, dd, tau = REAL[dataset]
    cas, _ = real_rows(n, vdc, ccs, dd)
    assert cas.mean() == pytest.approx((vdc + ccs + dd + 1) / 4, abs=2e-3)
    assert threshold(cas) == pytest.approx(tau, abs=0.025)
    # A graded DD of the same mean would make Real unimodal, and its quartile would lie elsewhere.
    unimodal = (vdc + ccs + dd + 1) / 4 + SPREAD * norm.ppf((np.arange(n) + 0.5) / n)
    assert abs(threshold(unimodal) - tau) > 2 * abs(threshold(cas) - tau)


@pytest.mark.parametrize(("dataset", "spread"), [("BreakHis", 0.0159), ("ORIGA", 0.0068)])
def test_one_fitted_spread_gives_the_upper_mode_thresholds_to_three_decimals(dataset, spread):
    n, vdc, ccs, dd, tau = REAL[dataset]
    cas, _ = real_rows(n, vdc, ccs, dd, spread)
    assert threshold(cas) == pytest.approx(tau, abs=1.5e-3)


@pytest.mark.parametrize(
    ("dataset", "mode", "warns"),
    [
        ("Fitzpatrick17k", "wrong", False),
        ("CheXpert", "wrong", False),
        ("BreakHis", "correct", True),
        ("ORIGA", "correct", True),
    ],
)
def test_bimodality_warning_fires_where_tau_sits_between_the_modes(dataset, mode, warns):
    n, vdc, ccs, dd, _ = REAL[dataset]
    found = bimodality(*real_rows(n, vdc, ccs, dd))
    assert found.mode == mode
    assert found.warning is warns
    assert bool(found.message) is warns
    assert found.gap == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize("patients", [None, 40])
def test_flip_probability_is_that_of_the_next_sample(patients):
    """Two samples of one world: how often their thresholds lie in different modes."""
    rng, n, share = np.random.default_rng(0), 400, 0.22

    def sample():
        who = np.arange(n) % patients if patients else np.arange(n)
        chance = rng.beta(share * 4, (1 - share) * 4, n)[who] if patients else share
        wrong = rng.random(n) < chance
        return 0.55 - 0.25 * wrong + 0.01 * rng.normal(size=n), ~wrong, who

    flips, claims = [], []
    for _ in range(300):
        (cas, correct, who), (other, _, _) = sample(), sample()
        claims.append(bimodality(cas, correct, clusters=who).flip_probability)
        flips.append((threshold(cas) < 0.42) != (threshold(other) < 0.42))
    assert np.mean(claims) == pytest.approx(np.mean(flips), abs=0.07)


def test_no_warning_without_two_modes():
    rng = np.random.default_rng(1)
    assert not bimodality(rng.normal(0.5, 0.1, 400), rng.random(400) < 0.75).warning
    assert not bimodality(rng.normal(0.5, 0.1, 400), np.ones(400)).warning


@pytest.mark.parametrize("n", [1, 7, 240, 3100])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_interval_is_scipys(n, level):
    for successes in sorted({0, 1, n // 4, n // 2, n}):
        expected = stats.binomtest(successes, n).proportion_ci(level, method="wilson")
        assert wilson(successes, n, level) == pytest.approx(
            (expected.low, expected.high), abs=1e-15
        )


def test_wilson_interval_of_the_textbook():
    # Newcombe (1998, Stat. Med. 17:857), Table I, method 3: 81 of 263.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_ashman_d_of_equal_spreads_is_twice_the_half_distance():
    left = np.random.default_rng(2).normal(0, 1, 100_000)
    assert ashman_d(left, left + 2) == pytest.approx(2.0, rel=0.01)


def test_tail_statistics_hold_the_point_estimates():
    rng = np.random.default_rng(3)
    cas, real = rng.normal(0.4, 0.1, 300), rng.normal(0.5, 0.1, 200)
    found = tail_statistics(np.r_[cas, np.nan], real)
    assert found.tau.estimate == np.quantile(real, 0.25)
    assert found.rate.estimate == low_rate(cas, found.tau.estimate) == found.n_low / found.n
    assert found.p10.estimate == np.quantile(cas, 0.1)
    assert found.n == 300
    for interval in (found.tau, found.rate, found.p10):
        assert interval.low < interval.estimate < interval.high
    assert found.as_dict()["rate_interval"] == [found.rate.low, found.rate.high]


def test_images_of_one_patient_leave_every_rate_without_limits():
    rng = np.random.default_rng(0)
    cas, real = rng.normal(0.45, 0.05, 40), rng.normal(0.45, 0.05, 60)
    found = tail_statistics(cas, real, clusters=["p"] * 40)
    assert np.isfinite(found.tau.low)
    assert np.isnan([found.rate.low, found.rate.high]).all()
    sets = [(cas, ["p"] * 40), (rng.normal(0.42, 0.05, 60), [f"q{k}" for k in range(60)])]
    (own, base, third), count = samples(sets, (real, [f"q{k}" for k in range(60)]))
    for reduction in reduction_intervals(own, base, third, count):
        assert np.isnan([reduction.low, reduction.high]).all()


def test_an_estimated_threshold_widens_the_interval_of_the_rate():
    rng = np.random.default_rng(4)
    cas, real = rng.normal(0.45, 0.1, 2000), rng.normal(0.5, 0.1, 60)
    found = tail_statistics(cas, real)
    fixed = 1.96 * np.sqrt(found.rate.estimate * (1 - found.rate.estimate) / 2000)
    assert found.rate.high - found.rate.low > 4 * fixed


def test_shared_cases_narrow_the_interval_of_the_rate():
    rng = np.random.default_rng(5)
    real = rng.normal(0.5, 0.1, 400)
    cas = real - 0.02 + rng.normal(0, 0.005, 400)
    names = np.arange(400).astype(str)
    joint = tail_statistics(cas, real, clusters=names, real_clusters=names).rate
    apart = tail_statistics(cas, real).rate
    assert joint.high - joint.low < 0.7 * (apart.high - apart.low)


def test_stability_curve_rises_from_5_to_50():
    rng = np.random.default_rng(6)
    curve = stability_curve(rng.normal(0.4, 0.1, 300), rng.normal(0.5, 0.1, 300))
    assert [q for q, _, _ in curve] == list(STABILITY_QUANTILES)
    assert (curve[0][0], curve[-1][0]) == (0.05, 0.5)
    assert (np.diff([rate for _, _, rate in curve]) >= 0).all()


def test_split_by_diagnosis_accounts_for_the_tail():
    cas = np.array([0.1, 0.2, 0.6, 0.3, 0.9, np.nan])
    dd = np.array([0, 0, 0, 1, 1, 0])
    split = split_by_diagnosis(cas, dd, tau=0.35)
    assert split == {
        "n_correct": 2,
        "n_wrong": 3,
        "rate_correct": 0.5,
        "rate_wrong": pytest.approx(2 / 3),
        "share_wrong_of_low": pytest.approx(2 / 3),
    }


def test_both_readings_of_the_strongest_baseline_on_breakhis():
    # Table 14: the lowest tail is DPO's, the best mean CAS is TI+LoRA's.
    baselines = {"DPO": (0.868, 0.378), "TI": (0.983, 0.367), "TI+LoRA": (0.890, 0.402)}
    lowest, best = reductions(0.521, baselines)
    assert (lowest.baseline, best.baseline) == ("DPO", "TI+LoRA")
    assert lowest.absolute == pytest.approx(0.347)
    assert lowest.relative == pytest.approx(0.3998, abs=1e-4)
    assert best.relative == pytest.approx(0.4146, abs=1e-4)


def test_few_real_cases_leave_tau_and_rate_without_an_interval():
    rng = np.random.default_rng(7)
    few = tail_statistics(rng.normal(size=30), rng.normal(size=12))
    assert np.isnan(few.tau.low)
    assert np.isnan([few.rate.low, few.rate.high]).all()
    enough = tail_statistics(rng.normal(size=30), rng.normal(size=13))
    assert np.isfinite([*enough.tau[:3], *enough.rate[:3]]).all()
    assert np.isnan(enough.p10.low)


def test_a_reduction_has_an_interval_in_every_averaging():
    rng = np.random.default_rng(8)
    ids = np.arange(120)
    real = rng.normal(0.5, 0.1, 120)
    sets = [(real + 0.02, ids), (real - 0.06 + rng.normal(0, 0.02, 120), ids)]
    (own, baseline, reference), count = samples(sets, (real, ids))
    absolute, relative = reduction_intervals(own, baseline, reference, count)
    rates = [low_rate(one, threshold(real)) for one, _ in sets]
    assert absolute.estimate == pytest.approx(rates[1] - rates[0])
    assert relative.estimate == pytest.approx(1 - rates[0] / rates[1])
    assert 0 < absolute.low < absolute.estimate < absolute.high
    assert 0 < relative.low < relative.estimate < relative.high < 1
    # Swapping the two turns the absolute reduction round.
    swapped, _ = reduction_intervals(baseline, own, reference, count)
    assert (swapped.low, swapped.high) == pytest.approx((-absolute.high, -absolute.low))
    classes = ids % 3
    balanced, _ = reduction_intervals(
        own._replace(classes=classes), baseline._replace(classes=classes), reference, count
    )
    assert balanced.low < absolute.estimate < balanced.high


def test_a_ratio_of_small_counts_has_no_interval():
    rng = np.random.default_rng(9)
    ids, real = np.arange(30), rng.normal(size=30)
    (own, baseline, reference), count = samples([(real, ids), (real - 1, ids)], (real, ids))
    absolute, relative = reduction_intervals(own, baseline, reference, count)
    assert np.isfinite(absolute.low)
    assert np.isnan(relative.low)


def test_rate_is_strict_and_empty_sets_are_refused():
    assert low_rate([0.1, 0.2, 0.3], 0.2) == pytest.approx(1 / 3)
    with pytest.raises(InputError, match="no image has a finite CAS of Real"):
        tail_statistics([0.1], [np.nan])


def _rows(cas, **columns):
    names = [f"{k}.png" for k in range(len(cas))]
    scores = dict.fromkeys(("vdc", "ccs", "sfs"), cas) | {"dd": 1.0, "dd_prob": cas, "cas": cas}
    told = {"id": names, "image": names, "reference": names, "label": "a", "status": "ok"}
    return pd.DataFrame(told | scores | columns)


def test_every_verb_has_one_tail_of_a_part_of_the_cases():
    """Images were made for 20 of 40 real cases: tau is of these, wherever a tail is told."""
    rng = np.random.default_rng(0)
    real, rows = _rows(np.linspace(0.2, 0.6, 40)), _rows(rng.uniform(0.1, 0.5, 20), method="a")
    tau = np.quantile(real["cas"][:20], 0.25)
    rate = (rows["cas"] < tau).mean()
    assert rate != (rows["cas"] < np.quantile(real["cas"], 0.25)).mean()
    compared = compare_methods(rows, real, real)
    assert compared["tail"]["tau"] == pytest.approx(tau)
    assert [compared["tail"][kind]["a"]["rate"] for kind in ("by_cas", "by_floor")] == [rate] * 2
    assert "20 of 40 real cases were scored: the tail is of these alone" in compared["warnings"]
    base = rows.assign(cas=rows["cas"] + 0.05)
    rules = ({"at_most": 1}, {"against": "baseline", "margin": 1})
    policy = Policy(rules=tuple(Rule(metric="low_rate", **rule) for rule in rules))
    absolute, against = decide(policy, rows, {"real": real, "baseline": base})
    assert absolute.estimate == rate
    assert against.estimate == pytest.approx(rate - (base["cas"] < tau).mean())
    own, known = Entry("a", "m0", {}, {}, rows), Entry("Real", "real", {}, {}, real)
    assert graded_table([own], [known]).rows[0].cells[1].value == rate


def test_methods_of_different_cases_are_held_against_all_of_them():
    cas = np.linspace(0.2, 0.6, 40)
    rows = pd.concat([_rows(cas[:20], method="a"), _rows(cas, method="b").iloc[10:30]])
    compared = compare_methods(rows, _rows(cas))
    assert compared["tail"]["tau"] == pytest.approx(np.quantile(cas[:30], 0.25))
    assert "b: scored for 20 of the 30 real cases that make tau" in compared["warnings"]
