"""What a table of any paper lets one recompute: free metrics, intervals, tests of counts."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, kendalltau

from cas_metric.errors import InputError
from cas_metric.statistics.claims import Document, check_document, load_document, load_paper
from cas_metric.statistics.claims.correlations import kendall_p
from cas_metric.statistics.claims.finding import Stated
from cas_metric.statistics.claims.scores import rate_exists


def check(*tables):
    return check_document(Document.model_validate({"title": "t", "tables": list(tables)}))


def verdicts(findings, name):
    return {finding.item: finding.verdict for finding in findings if finding.check == name}


@pytest.fixture(scope="module")
def paper():
    return check_document(load_paper())


def found(paper, table, words):
    """The one finding of a table whose item and check hold all of the words."""
    matching = [
        f for f in paper if f.table == table and all(w in f"{f.item} {f.check}" for w in words)
    ]
    assert len(matching) == 1, matching
    return matching[0]


def only(table, **fields):
    """The findings of one table of one row."""
    return check({"name": "t", "rows": [fields], **table})


def test_inequalities_percentages_and_thousands_are_numbers():
    assert (Stated("<0.01").low, Stated("<0.01").high) == (-math.inf, 0.01)
    assert (Stated("> 5").low, Stated("≥5").high) == (5.0, math.inf)
    assert Stated("7,424").value == 7424
    assert str(Stated("87.5%").as_share()) == "0.875"
    with pytest.raises(ValueError, match="not a plain decimal"):
        Stated("7,42")


def test_a_difference_in_the_other_direction_is_no_sampling_error():
    shares = {"label": "ours", "n": 400, "left": "62%", "right": "81%"}
    found = verdicts(only({"kind": "proportions"}, **shares), "difference against sampling error")
    assert found == {"ours": "mismatch"}


def test_two_shares_may_have_two_sizes():
    # 13 of 40 and 7 of 16: neither share exists at the other's size.
    row = {"label": "r", "n": 40, "n_right": 16, "left": ".325", "right": ".4375"}
    found = only({"kind": "proportions"}, **row)
    assert {f.verdict for f in found if f.check.startswith("share")} == {"holds"}
    alone = only({"kind": "proportions"}, **{**row, "n_right": None})
    assert "impossible" in {f.verdict for f in alone}


@given(st.integers(30, 200), st.integers(30, 200), st.data())
def test_the_p_value_of_two_shares_is_that_of_a_usual_test(n, m, data):
    a, b = data.draw(st.integers(1, n - 1)), data.draw(st.integers(1, m - 1))
    p = chi2_contingency([[a, n - a], [b, m - b]], correction=data.draw(st.booleans())).pvalue
    row = {"label": "r", "n": n, "n_right": m, "left": f"{a / n:.6f}", "right": f"{b / m:.6f}"}
    found = only({"kind": "proportions"}, **row, p=f"{p:.3f}")
    assert verdicts(found, "p-value of two independent shares") == {"r, p": "holds"}


def test_a_share_that_was_cut_off_is_not_impossible():
    finding = rate_exists("t", "i", Stated("66.6"), 3, scale=100)
    assert (finding.verdict, finding.recomputed) == ("rounding", "2/3")
    assert "cut off" in finding.note
    assert rate_exists("t", "i", Stated("66.5"), 3, scale=100).verdict == "impossible"


def test_free_metrics_have_a_direction():
    table = {
        "kind": "metrics",
        "name": "t",
        "n": 5,
        "directions": {"FID": "down", "F1": "up"},
        "best": {"FID": "ours", "F1": "ours"},
        "rows": [
            {"method": "ours", "values": {"FID": "21.4", "F1": ".83"}, "spreads": {"F1": ".02"}},
            {"method": "gan", "values": {"FID": "19.9", "F1": ".82"}, "spreads": {"F1": ".02"}},
            {"method": "Real", "real": True, "values": {"F1": ".80"}},
        ],
    }
    found = check(table)
    assert verdicts(found, "best as printed, lower is better") == {"FID": "mismatch"}
    assert verdicts(found, "best as printed, higher is better") == {"F1": "holds"}
    assert verdicts(found, "lead against the spread") == {"F1, ours over gan": "weak"}
    assert len([f for f in found if f.check == "not better than Real"]) == 2


@given(st.floats(0.05, 0.95), st.floats(0.05, 0.95), st.integers(2, 4))
def test_a_true_f1_never_mismatches(precision, recall, decimals):
    printed = [f"{v:.{decimals}f}" for v in (precision, recall)]
    value = 2 * precision * recall / (precision + recall)
    row = {"label": "r", "formula": "f1", "inputs": printed, "stated": f"{value:.{decimals}f}"}
    (finding,) = only({"kind": "derived"}, **row)
    assert finding.verdict in ("holds", "rounding")
    (wrong,) = only({"kind": "derived"}, **{**row, "stated": f"{value + 0.05:.{decimals}f}"})
    assert wrong.verdict == "mismatch"


def test_intervals_and_p_values_must_agree():
    def verdict(p, low="0.02", high="0.22"):
        row = {"label": "r", "estimate": "0.12", "low": low, "high": high, "p": p}
        return verdicts(only({"kind": "intervals"}, **row), "interval and p-value agree")["r, p"]

    assert verdict("0.019") == "holds"
    assert verdict("<0.05") == "holds"
    assert verdict("0.40") == "mismatch"
    assert verdict("0.0000001") == "weak"
    assert verdict("0.20", low="-0.06", high="0.30") == "holds"


def test_tests_of_counts_are_scipys():
    counts = [[20, 30], [35, 15]]
    statistic, p, *_ = chi2_contingency(counts, correction=False)
    row = {"label": "r", "test": "chi-square", "counts": counts}
    found = only({"kind": "tests"}, **row, statistic=f"{statistic:.2f}", p=f"{p:.4f}")
    assert [f.verdict for f in found] == ["holds", "holds"]
    wrong = only({"kind": "tests"}, **{**row, "test": "chi-square-corrected"}, p=f"{p:.4f}")
    assert [f.verdict for f in wrong] == ["mismatch"]
    fisher = {"label": "r", "test": "fisher", "counts": counts, "p": "<0.01"}
    assert [f.verdict for f in only({"kind": "tests"}, **fisher)] == ["holds"]


def test_a_turing_test_is_checked_over_all_divisions_of_the_right_answers():
    def verdict(right, p):
        row = {"label": "r", "test": "detection", "counts": [[right, 50, 50]], "p": p}
        (finding,) = only({"kind": "tests"}, **row)
        return finding.verdict

    assert verdict(61, "0.043") == "holds"
    assert verdict(61, "0.430") == "mismatch"


@pytest.mark.parametrize("n", [5, 8])
def test_kendalls_exact_p_value_is_scipys(n):
    rng = np.random.default_rng(n)
    for _ in range(20):
        value, p = kendalltau(np.arange(n), rng.permutation(n), method="exact")
        assert kendall_p(value, n)[0] == pytest.approx(p)


def test_kendalls_coefficient_must_be_attainable():
    row = {"label": "r", "statistic": "kendall", "value": "0.733", "p": "0.056"}
    found = only({"kind": "correlations", "n": 6}, **row)
    assert [f.verdict for f in found] == ["holds", "holds"]
    found = only({"kind": "correlations", "n": 6}, **{**row, "value": "0.70"})
    assert found[0].verdict == "weak"


def test_all_problems_of_a_document_are_told_at_once(tmp_path):
    path = tmp_path / "t.json"
    rows = [{"label": "l", "n": 0, "left": "2", "right": "x"}]
    path.write_text(json.dumps({"tables": [{"kind": "proportions", "name": "n", "rows": rows}]}))
    with pytest.raises(InputError) as caught:
        load_document(path)
    for place in ("title", "rows.0.n", "rows.0.left", "rows.0.right"):
        assert place in str(caught.value)


def test_csv_with_free_metrics(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("method,seeds,FID ↓,F1 ↑\nours,3,**20.1**,.81 ± .01\ngan,3,19.0,.80 ± .02\n")
    found = check_document(load_document(path))
    assert verdicts(found, "best as printed, lower is better") == {"t: FID": "mismatch"}
    assert verdicts(found, "lead against the spread") == {"t: F1, ours over gan": "weak"}


def test_rows_of_free_metrics_alone_hide_no_scores(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(
        "dataset,method,vdc,ccs,dd,sfs,cas,FID ↓\n"
        "x,Real,,,,,,5.0\nx,A,.3,.3,.9,.7,.999,10.0\ny,A,.3,.3,.9,.7,.55,\n"
    )
    found = check_document(load_document(path))
    means = verdicts(found, "mean of the four primitives")
    assert means == {"x: A, CAS": "mismatch", "y: A, CAS": "holds"}


@pytest.mark.parametrize("others", ["A,5.0\nB,6.0\n", "A,\n"])
def test_bold_of_real_is_not_the_best_method(others, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(f"method,FID ↓\nReal,**1.0**\n{others}")
    assert not verdicts(check_document(load_document(path)), "best as printed, lower is better")


@pytest.mark.parametrize("best", ["**.83** ± .02", "**.83 ± .02**", "**.83**±**.02**"])
def test_bold_of_a_mean_or_of_its_spread_as_well(best, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(f"method,seeds,F1 ↑\nours,3,{best}\ngan,3,.85 ± .01\n")
    found = check_document(load_document(path))
    assert verdicts(found, "best as printed, higher is better") == {"t: F1": "mismatch"}
    assert verdicts(found, "lead against the spread") == {"t: F1, gan over ours": "weak"}
