"""What is kept and why the rest is refused, against plain counting and simulation."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from tests.support.runs import score_rows

from cas_metric.errors import InputError
from cas_metric.selection.keep import choose, levels, risk_threshold, too_small
from cas_metric.selection.rule import Keep, parse_keep


def reasons(found):
    return dict(zip(found["id"], found["reason"], strict=True))


@pytest.fixture
def rows():
    return score_rows("m", n=20)


@pytest.mark.parametrize("size", [10, 50, 200])
def test_of_real_images_no_more_than_alpha_are_refused(size):
    rng, refused = np.random.default_rng(size), []
    for _ in range(400):
        values = rng.normal(size=size + 20)
        found = levels(values[size:], ["a"] * 20, values[:size], ["a"] * size)
        refused.append((found <= 0.2).mean())
    # In expectation floor(alpha (n + 1)) / (n + 1).
    expected = math.floor(0.2 * (size + 1)) / (size + 1)
    assert np.mean(refused) == pytest.approx(expected, abs=4 * np.std(refused) / 20)
    assert expected <= 0.2


def test_images_without_a_label_have_no_level():
    labels = pd.Series(["a", np.nan, None, "b"])
    found = levels([0.1] * 4, labels, [0.0, 0.2, 0.3], pd.Series(["a", "b", np.nan]))
    assert found[[0, 3]] == pytest.approx([1.0, 0.5])
    assert np.isnan(found[1:3]).all()


def test_levels_are_within_the_class():
    found = levels([1.0, 1.0, 1.0], ["a", "b", "c"], [0.0, 2.0, 3.0], ["a", "b", "b"])
    assert found[:2] == pytest.approx([1.0, 1 / 3])
    assert np.isnan(found[2])


def test_small_classes_of_cas_v2_count_together():
    made = {"a": 8, "b": 9, "c": 25}
    run = SimpleNamespace(
        summary={"cas_v2": {"calibration": {"ranked_among": made}}},
        calibrated=pd.DataFrame(),
        floor=None,
    )
    assert "of a, b there are 17, so that" in too_small(run, 0.05)[0]
    assert too_small(run, 0.06) == []
    made["b"] = 11
    assert too_small(run, 0.05) == []


@pytest.mark.parametrize("labelled", [30, 100])
def test_the_risk_is_held_in_expectation(labelled):
    """A further image is kept and bad with at most the risk, over fresh calibration sets."""
    rng, lost = np.random.default_rng(labelled), []
    for _ in range(1000):
        good = rng.random(labelled + 1) < 0.6
        score = rng.normal(size=labelled + 1) + good
        threshold = risk_threshold(score[1:], good[1:], 0.1)
        lost.append(score[0] >= threshold and not good[0])
    assert np.mean(lost) <= 0.1 + 3 * math.sqrt(0.09 / 1000)
    assert np.mean(lost) > 0.05  # and is not met by keeping nothing


def test_too_few_labels_are_refused_with_the_number_needed():
    with pytest.raises(InputError, match="label at least 19"):
        risk_threshold([0.1] * 10, [True] * 10, 0.05)
    assert risk_threshold([0.5] * 19, [False] * 19, 0.05) == math.inf


def test_each_refusal_has_its_first_reason(rows):
    level = np.linspace(0.05, 1, 20)
    rows.loc[19, "status"] = "failed"
    level[18] = np.nan
    found = choose(rows, level, Keep(alpha=0.2), copies={0: "the same file as x", 17: "a copy"})
    told = reasons(found)
    assert told["0"] == "the same file as x"  # though it is also low
    assert told["1"] == "lower than all but 0.2 of real images"
    assert told["17"] == "a copy"
    assert told["18"] == "has no score to be chosen by"
    assert told["19"] == "the image could not be scored"
    assert list(found["kept"]) == [told[str(k)] == "" for k in range(20)]


@pytest.mark.parametrize("percent", [7, 14, 28, 50, 55, 57])
def test_a_share_is_what_is_written(percent):
    rows = score_rows("m", n=100).assign(label="one")
    found = choose(rows, np.linspace(0.01, 1, 100), Keep(top=float(f"0.{percent:02d}")))
    assert found["kept"].sum() == percent


def test_a_risk_is_what_is_written():
    for percent in range(1, 100):
        needed = -(-100 // percent) - 1
        risk = float(f"0.{percent:02d}")
        assert risk_threshold([0.5] * max(needed, 1), [True] * max(needed, 1), risk) == 0.5
        if needed > 1:
            with pytest.raises(InputError, match=f"label at least {needed}$"):
                risk_threshold([0.5] * (needed - 1), [True] * (needed - 1), risk)


def test_the_top_share_is_of_each_class(rows):
    level = np.linspace(0.05, 1, 20)
    found = choose(rows, level, Keep(top=0.3))
    assert found.groupby("label")["kept"].sum().to_dict() == {"benign": 3, "malignant": 3}
    best = found[found["kept"]].groupby("label")["level"].min()
    assert (best > found[~found["kept"]].groupby("label")["level"].max()).all()


def test_groups_are_balanced_by_their_best(rows):
    rows = rows.assign(sex=["F"] * 15 + ["M"] * 5)
    found = choose(rows, np.linspace(0.05, 1, 20), Keep(), balance=["label", "sex"])
    kept = found["kept"].to_numpy()
    sizes = rows[kept].groupby(["label", "sex"]).size()
    assert set(sizes) == {2}
    women = found[(rows["sex"] == "F") & (rows["label"] == "benign")]
    assert set(women.nlargest(2, "level").index) == set(women[women["kept"]].index)
    with pytest.raises(InputError, match="no column 'age'"):
        choose(rows, np.ones(20), Keep(), balance=["age"])
    with pytest.raises(InputError, match="20 images have no site"):
        choose(rows.assign(site=""), np.ones(20), Keep(), balance=["site"])


def test_ties_do_not_hang_on_the_order_of_the_rows(rows):
    tied = rows.assign(cas=0.5)
    first = choose(tied, np.full(20, 0.5), Keep(top=0.5))
    mixed = tied.sample(frac=1, random_state=4)
    second = choose(mixed, np.full(20, 0.5), Keep(top=0.5))
    assert set(first[first["kept"]]["id"]) == set(second[second["kept"]]["id"])


@pytest.mark.parametrize("rule", ["alpha", "alpha:2", "top:0", "best:3", "alpha:x", "risk:1"])
def test_other_rules_are_refused(rule):
    with pytest.raises(InputError, match="is no rule"):
        parse_keep([rule])


def test_rules_are_read_once():
    assert parse_keep(["alpha:0.1", "top:1"]) == Keep(alpha=0.1, top=1.0)
    with pytest.raises(InputError, match="alpha twice"):
        parse_keep(["alpha:0.1", "alpha:0.2"])
