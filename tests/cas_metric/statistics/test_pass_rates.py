"""Pass rates against counting by hand, and intervals against repeated draws."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr

from cas_metric.statistics import pass_rates
from cas_metric.statistics.intervals import rate_interval
from cas_metric.statistics.pass_rates import (
    ABSENT,
    ALL_METHODS,
    NOT_ASSESSABLE,
    PRESENT,
    VERDICTS,
)


def items(verdicts: dict[tuple[str, str], list[str]], label: str = "one", **columns: object):
    """Rows of images: (method, id) to the verdicts of its items."""
    return pd.DataFrame(
        [
            {
                "method": method, "seed": pd.NA, "id": name, "label": label,
                "attribute": f"item {n}", "verdict": verdict, "status": "ok", **columns,
            }
            for (method, name), words in verdicts.items()
            for n, verdict in enumerate(words)
        ]
    )  # fmt: skip


ROWS = items(
    {
        ("a", "x"): [PRESENT, PRESENT, ABSENT],
        ("a", "y"): [PRESENT, NOT_ASSESSABLE, NOT_ASSESSABLE],
        ("a", "z"): [NOT_ASSESSABLE] * 3,
        ("a", "w"): ["", "", ""],
        ("b", "x"): [ABSENT, ABSENT, ABSENT],
        ("b", "y"): [PRESENT, ABSENT, PRESENT],
    }
)


def test_a_class_that_nothing_could_be_assessed_of_leaves_no_class_balanced_rate():
    lost = items({("a", "v"): [NOT_ASSESSABLE, ""], ("b", "v"): [PRESENT, ABSENT]}, label="two")
    a, b = pass_rates.summarise_audit(pd.concat([ROWS, lost], ignore_index=True))["methods"]
    assert np.isnan(a["class_balanced"])
    assert (a["class_balanced_lacks"], b["class_balanced_lacks"]) == (["two"], [])
    assert b["class_balanced"] == pytest.approx(((0 + 2 / 3) / 2 + 1 / 2) / 2)


def test_a_verdict_that_is_missing_is_none():
    words = pd.Series([PRESENT, None, ABSENT], dtype="string")
    assert pass_rates.verdict_values(words).tolist() == pytest.approx([1, np.nan, 0], nan_ok=True)
    rows = ROWS.assign(verdict=ROWS["verdict"].replace("", pd.NA).astype("string"))
    table = pass_rates.image_table(rows)
    pd.testing.assert_frame_equal(table, pass_rates.image_table(ROWS))


def test_not_assessable_and_unanswered_leave_the_denominator_and_are_counted_beside_it():
    found = pass_rates.summarise_audit(ROWS)
    a, b = found["methods"]
    assert (a["images"], a["unanswered"]) == (4, 1)
    assert (a["present"], a["absent"], a["not_assessable"]) == (3, 1, 5)
    assert a["pass_rate"]["estimate"] == pytest.approx((2 / 3 + 1) / 2)
    assert a["item_rate"]["estimate"] == pytest.approx(3 / 4)
    assert a["complete"]["estimate"] == pytest.approx(1 / 2)
    assert b["pass_rate"]["estimate"] == pytest.approx((0 + 2 / 3) / 2)
    (pair,) = found["pairs"]
    assert pair["n_cases"] == 2
    assert pair["difference"]["estimate"] == pytest.approx(((2 / 3 - 0) + (1 - 2 / 3)) / 2)


def test_a_single_rate_has_wilsons_interval_and_clusters_widen_it():
    # Wilson's interval of 8 of 10, by its formula.
    z, p, n = 1.959964, 0.8, 10
    centre, half = p + z * z / 2 / n, z * np.sqrt(p * (1 - p) / n + z * z / 4 / n / n)
    found = rate_interval([1] * 8 + [0] * 2 + [np.nan], clusters=range(11))
    assert found.low == pytest.approx((centre - half) / (1 + z * z / n), abs=1e-6)
    assert found.high == pytest.approx((centre + half) / (1 + z * z / n), abs=1e-6)
    # Every case five times over: Wilson on 50 rows would be far too narrow.
    again = rate_interval([1] * 40 + [0] * 10, clusters=np.repeat(range(10), 5))
    assert again.high - again.low > 0.8 * (found.high - found.low)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from([*VERDICTS, ""]), min_size=3, max_size=3), min_size=1),
    st.randoms(use_true_random=False),
)
def test_rates_lie_within_their_intervals_and_do_not_hang_on_the_order(verdicts, random):
    rows = items({("a", str(n)): words for n, words in enumerate(verdicts)})
    shuffled = rows.sample(frac=1, random_state=random.randrange(2**31))
    found, other = (pass_rates.summarise_audit(r)["methods"][0] for r in (rows, shuffled))
    for name in ("pass_rate", "item_rate", "complete"):
        one = found[name]
        alone = np.isnan(one["low"])  # nothing is said of one image
        assert alone or one["low"] <= one["estimate"] <= one["high"]
        assert one["estimate"] == pytest.approx(other[name]["estimate"], nan_ok=True)
    assert found["present"] == sum(words.count(PRESENT) for words in verdicts)


def noisy_draws(rng, truth: np.ndarray, flip: float, count: int):
    """Verdicts of an evaluator that errs with probability ``flip``: ``(count, N, M)`` booleans."""
    return truth ^ (rng.random((count, *truth.shape)) < flip)


def test_intervals_of_a_noisy_evaluator_cover_the_expected_rate_as_often_as_they_say():
    """Truth fixed, the evaluator's errors redrawn; the images are a draw from a population."""
    rng = np.random.default_rng(0)
    draws, n, m, flip, quality = 400, 60, 5, 0.1, 0.7
    expected = quality * (1 - flip) + (1 - quality) * flip
    item_hits = mean_hits = 0
    for _ in range(draws):
        # A whole image shows its class or does not: its items are far from independent.
        truth = np.repeat(rng.random((n, 1)) < quality, m, axis=1)
        seen = noisy_draws(rng, truth, flip, 1)[0].astype(float)
        item = rate_interval(seen[:, 0])
        mean = rate_interval(seen.mean(axis=1), trials=seen.size)
        item_hits += item.low <= expected <= item.high
        mean_hits += mean.low <= expected <= mean.high
    # Three standard errors of a coverage of 0.95 over 400 draws are 0.033.
    assert abs(item_hits / draws - 0.95) < 0.033
    assert abs(mean_hits / draws - 0.95) < 0.033


def scored_images(n: int = 120) -> pd.DataFrame:
    """Two classes: CCS follows the pass rate within each, against it between them."""
    rng = np.random.default_rng(3)
    label = np.repeat(["one", "two"], n // 2)
    quality = rng.integers(0, 6, n) / 5 * 0.5 + 0.5 * (label == "two")
    ccs = 0.1 * quality - 0.3 * (label == "two") + rng.normal(0, 0.004, n)
    return pd.DataFrame(
        {
            "method": "a", "seed": pd.NA, "id": [str(k) for k in range(n)], "label": label,
            "pass_rate": quality, "complete": (quality == 1.0).astype(float), "ccs": ccs,
        }
    )  # fmt: skip


def test_agreement_with_ccs_within_classes_sees_what_the_classes_hide():
    images = scored_images()
    found = pass_rates.agreement_with_score(images)["a"]
    expected = spearmanr(images["pass_rate"], images["ccs"]).statistic
    assert found["spearman"]["estimate"] == pytest.approx(expected)
    assert found["spearman"]["estimate"] < -0.4
    assert found["spearman_within_class"]["estimate"] > 0.9
    plain = pearsonr(images["complete"], images["ccs"]).statistic
    assert found["point_biserial"]["estimate"] == pytest.approx(plain)
    assert found["spearman"]["low"] < found["spearman"]["estimate"] < found["spearman"]["high"]


def test_coefficients_of_weighted_samples_are_those_of_the_samples_written_out():
    rng = np.random.default_rng(5)
    x, y = rng.integers(0, 4, 30).astype(float), rng.normal(size=30).round(1)
    weights = rng.integers(0, 4, (20, 30)).astype(float)
    ranks = [pass_rates.weighted_ranks(v, weights) for v in (x, y)]
    found = pass_rates.weighted_correlation(*ranks, weights)
    plain = pass_rates.weighted_correlation(x[None], y[None], weights)
    for k, row in enumerate(weights.astype(int)):
        left, right = np.repeat(x, row), np.repeat(y, row)
        assert found[k] == pytest.approx(spearmanr(left, right).statistic)
        assert plain[k] == pytest.approx(pearsonr(left, right).statistic)
    constant = pass_rates.weighted_correlation(np.full((1, 30), 0.1), y[None], weights)
    assert np.isnan(constant).all()


def test_agreement_lists_all_methods_together_and_survives_constants():
    images = scored_images()
    constant = images.assign(method="b", pass_rate=1.0, complete=1.0)
    found = pass_rates.agreement_with_score(pd.concat([images, constant]))
    assert list(found) == ["a", "b", ALL_METHODS]
    assert np.isnan(found["b"]["spearman"]["estimate"])
    assert found[ALL_METHODS]["n"] == 240


def test_the_control_tells_an_evaluator_that_looks_from_one_that_agrees():
    own = pass_rates.image_table(ROWS)
    yes = own.assign(pass_rate=1.0)
    agreeing = pass_rates.compare_with_control(yes, yes)
    assert agreeing["a"]["difference"]["estimate"] == 0.0
    looking = pass_rates.compare_with_control(yes, own.assign(pass_rate=0.25))
    assert looking["a"]["difference"]["estimate"] == pytest.approx(0.75)
    assert looking["b"]["pass_rate"]["estimate"] == pytest.approx(0.25)
