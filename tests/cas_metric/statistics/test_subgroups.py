"""Gaps between groups of patients: found where planted, silent where there are none."""

import numpy as np
import pandas as pd
import pytest

from cas_metric.errors import InputError
from cas_metric.statistics.subgroups import attribute_groups, markdown, subgroups


def scores(rng, size, gap=0.0, per=1):
    """Rows of ``size`` images of each sex, ``per`` of each patient, and their attributes."""
    patients = 2 * size // per
    own = pd.DataFrame(
        {
            "sex": np.repeat(["f", "m"], patients // 2),
            "age": rng.integers(20, 90, patients).astype(str),
        }
    )
    table = own.loc[np.repeat(np.arange(patients), per)].reset_index(drop=True)
    right = rng.random(len(table)) < np.repeat(rng.beta(6, 2, patients), per)
    cas = 0.3 + 0.25 * right + rng.normal(0, 0.05, len(table)) - gap * (table["sex"] == "m")
    names = np.repeat(np.arange(patients), per).astype(str)
    return pd.DataFrame({"cas": cas, "status": "ok", "patient": names}), table


def gaps_of(rows, table, **options):
    groups = attribute_groups(table, list(table))
    return subgroups(rows, groups, permutations=199, **options).gaps


def test_a_planted_gap_is_found_and_its_interval_holds_it():
    found = held = 0
    for seed in range(10):
        gaps = gaps_of(*scores(np.random.default_rng(seed), 500, gap=0.05), tau=0.5)
        planted = gaps[(gaps["attribute"] == "sex") & (gaps["quantity"] == "cas")].iloc[0]
        found += planted["p"] <= 0.05
        held += planted["low"] <= 0.05 <= planted["high"]
    assert found == 10
    assert held >= 9


@pytest.mark.parametrize("per", [1, 5])
def test_no_gap_is_found_where_there_is_none(per):
    alarms = sum(
        (gaps_of(*scores(np.random.default_rng(seed), 100, per=per), tau=0.5)["p"] <= 0.05).any()
        for seed in range(40)
    )
    assert alarms <= 6  # of 40 at 5%: more has a probability of 1%


def test_gap_and_error_are_those_of_cluster_means():
    rng = np.random.default_rng(3)
    rows, table = scores(rng, 60, per=3)
    gap = gaps_of(rows, table[["sex"]]).iloc[0]
    sides = [rows[table["sex"] == sex] for sex in ("f", "m")]
    assert gap["gap"] == pytest.approx(sides[0]["cas"].mean() - sides[1]["cas"].mean())
    errors = []
    for side in sides:
        sums = (side["cas"] - side["cas"].mean()).groupby(side["patient"]).sum()
        errors.append((sums**2).sum() / len(side) ** 2 * 20 / 19)
    critical = (gap["high"] - gap["gap"]) / np.sqrt(sum(errors))
    assert 1.5 < critical < 3.5


def test_numbers_are_cut_at_quartiles_with_stated_edges_and_the_same_in_both_sets():
    real = pd.DataFrame({"age": [str(k) for k in range(20, 100)], "type": list("12345678") * 10})
    ours = pd.DataFrame({"age": ["25", "99", "", "unknown"], "type": ["1", "8", "", "2"]})
    cut = attribute_groups(real, ["age", "type"])
    assert sorted(set(cut["age"])) == [
        "20 to <39.75",
        "39.75 to <59.5",
        "59.5 to <79.25",
        "79.25 to 99",
    ]
    assert (cut["type"] == real["type"]).all()
    same = attribute_groups(ours.iloc[:3], ["age"], reference=real)["age"].tolist()
    assert same == ["20 to <39.75", "79.25 to 99", ""]
    with pytest.raises(InputError, match="no column 'sex'"):
        attribute_groups(ours, ["sex"])


def test_words_among_numbers_are_groups_and_a_comma_is_a_point():
    ages = [str(k) for k in range(20, 100)]
    table = pd.DataFrame({"age": [*ages, "unknown", "unknown", ""]})
    cut = attribute_groups(table, ["age"])["age"]
    expected = pd.qcut(pd.Series(range(20, 100)), 4, labels=False)
    assert cut[:80].groupby(cut[:80], sort=False).ngroup().tolist() == expected.tolist()
    assert cut[80:].tolist() == ["unknown", "unknown", ""]
    german = pd.DataFrame({"mm": [f"{k},{k % 10}" for k in range(4, 44)]})
    english = pd.DataFrame({"mm": german["mm"].str.replace(",", ".")})
    pd.testing.assert_frame_equal(*(attribute_groups(one, ["mm"]) for one in (german, english)))
    # Not known to be decimals, and codes of which a few are numbers: names.
    for texts in ([f"{k},234" for k in range(1, 40)], ["1a", "2b", *"3456789", *"cdefghi", "10"]):
        assert attribute_groups(pd.DataFrame({"x": texts}), ["x"])["x"].tolist() == texts


def test_groups_of_numbers_are_in_their_order_and_intervals_within_what_can_be():
    rng = np.random.default_rng(6)
    ages = pd.DataFrame({"age": [*map(str, range(40)), "unknown", "unknown"]})
    rows = pd.DataFrame({"cas": rng.choice([-0.74, 0.99], 42), "status": "ok"})
    found = subgroups(rows, attribute_groups(ages, ["age"]), permutations=99)
    lows = [name.split()[0] for name in found.groups["group"]]
    assert lows == ["0", "9.75", "19.5", "29.25", "unknown"]
    assert found.groups["cas_low"].min() >= -0.75
    assert found.groups["cas_high"].max() <= 1
    assert found.gaps["low"].min() >= -1.75
    assert found.gaps["high"].max() <= 1.75
    few = pd.DataFrame({"stage": ["2", "10", "1"] * 14})
    found = subgroups(rows, attribute_groups(few, ["stage"]), permutations=9)
    assert found.groups["group"].tolist() == ["1", "2", "10"]


def test_edges_that_six_digits_do_not_tell_apart_are_written_out():
    days = pd.DataFrame({"day": [str(20200101 + k) for k in range(40)]})
    found = attribute_groups(days, ["day"])["day"].value_counts()
    assert sorted(found) == [10, 10, 10, 10]
    assert "20200110.75 to <20200120.5" in found


def test_small_groups_are_named_and_not_compared():
    rows, table = scores(np.random.default_rng(4), 40)
    table["site"] = ["north"] * 77 + ["south"] * 3
    found = subgroups(rows, attribute_groups(table, ["site"]), permutations=99)
    assert found.gaps.empty
    assert "The smallest group is site south: 3 images of 3 cases" in markdown(found)
    assert "Too small to compare" in markdown(found)
    with pytest.raises(InputError, match="no image has a value of site"):
        subgroups(rows, attribute_groups(table.assign(site=""), ["site"]))


def test_failures_are_a_quantity_of_their_own():
    rows, table = scores(np.random.default_rng(5), 60)
    rows.loc[table["sex"].eq("m") & (np.arange(120) % 3 == 0), ["cas", "status"]] = [
        np.nan,
        "failed",
    ]
    gaps = gaps_of(rows, table[["sex"]])
    failures = gaps[gaps["quantity"] == "failure_rate"].iloc[0]
    assert failures["gap"] == pytest.approx(-1 / 3)
    assert failures["p"] < 0.02


def test_a_group_of_which_nothing_was_scored_has_no_gap_but_in_failures():
    rows, table = scores(np.random.default_rng(6), 40)
    men = table["sex"] == "m"
    found = {}
    for scored in (0, 9, 10):
        failed = men & (men.cumsum() > scored)
        own = rows.assign(cas=rows["cas"].mask(failed), status=np.where(failed, "failed", "ok"))
        found[scored] = subgroups(own, table[["sex"]], tau=0.5, permutations=99)
        own = found[scored].groups.set_index("group").loc["m"]
        assert (own["clusters"], own["scored"]) == (40, scored)
    assert [set(one.gaps["quantity"]) for one in found.values()] == [
        {"failure_rate"},
        {"failure_rate"},
        {"cas", "low_rate", "failure_rate"},
    ]
    assert "below 10 scored cases: sex m" in markdown(found[0])
    # The error is that of the scored clusters alone: Welch's, on clusters of one.
    gap = found[10].gaps.set_index("quantity").loc["cas"]
    sides = [rows["cas"][~men], rows["cas"][men].head(10)]
    error = np.sqrt(sum(side.var() / len(side) for side in sides))
    assert gap["gap"] == pytest.approx(sides[0].mean() - sides[1].mean())
    assert 1.5 < (gap["high"] - gap["gap"]) / error < 4
