import json
import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr

from cas_metric.errors import InputError
from cas_metric.statistics.claims import Document, check_document, load_document, load_paper
from cas_metric.statistics.claims.correlations import patterns_giving, student_p
from cas_metric.statistics.claims.finding import Stated, counts_for, judge
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


def test_a_printed_number_keeps_its_decimals():
    assert (Stated(".310").decimals, Stated(".310").value) == (3, 0.31)
    assert (Stated("90").low, Stated("90").high) == (89.5, 90.5)
    assert Stated("−0.0111").value == -0.0111
    with pytest.raises(ValueError, match="not a plain decimal"):
        Stated("4.1e-3")


@given(st.integers(1, 400), st.data())
def test_a_rate_that_occurred_is_never_called_impossible(n, data):
    k = data.draw(st.integers(0, n))
    decimals = data.draw(st.integers(0, 3))
    printed = Stated(f"{100 * k / n:.{decimals}f}")
    assert k in counts_for(printed, n, scale=100)
    assert rate_exists("t", "i", printed, n, scale=100).verdict == "holds"


@given(st.integers(1, 60), st.integers(0, 999))
def test_a_rate_is_impossible_exactly_when_no_count_prints_it(n, thousandths):
    printed = Stated(f"{thousandths / 1000:.3f}")
    possible = any(abs(k / n - printed.value) <= printed.half_unit + 1e-9 for k in range(n + 1))
    assert bool(len(counts_for(printed, n))) is possible


def test_impossible_rates_are_found_and_means_over_seeds_allowed():
    # 19 cases: .50 cannot be; over 2 seeds 19/38 can.
    assert rate_exists("t", "i", Stated(".50"), 19).verdict == "impossible"
    assert rate_exists("t", "i", Stated(".50"), 19, seeds=2).recomputed == "19/38"


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_a_true_mean_never_mismatches(values):
    row = dict(zip(("vdc", "ccs", "dd", "sfs"), (f"{v:.3f}" for v in values), strict=True))
    row |= {"method": "m", "cas": f"{np.mean(values):.3f}"}
    (finding,) = check({"kind": "scores", "name": "t", "dataset": "d", "rows": [row]})
    assert finding.verdict in ("holds", "rounding")


def test_no_cosines_have_a_mean_above_one():
    rows = [
        {"method": "a", "vdc": "0.1", "ccs": "1.2", "dd": "0.7", "sfs": "1.00"},
        {"method": "b", "vdc": "-1.004", "cas": "-0.76"},
    ]
    table = {"kind": "scores", "name": "T", "dataset": "D", "rows": rows}
    found = verdicts(check(table), "inside what it can be")
    wrong = ("D: a, CCS", "D: b, VDC", "D: b, CAS")
    assert found == dict.fromkeys(wrong, "impossible")


def test_judge_tells_rounding_from_mismatch():
    assert judge(Stated("0.402"), 0.40275, 0.40225, 0.40325) == "rounding"
    assert judge(Stated("0.402"), 0.4041, 0.4036, 0.4046) == "mismatch"
    assert judge(Stated("0.40"), 0.4041, 0.4036, 0.4046) == "holds"


@pytest.mark.parametrize("n", [4, 5])
def test_attainable_coefficients_are_those_of_all_rankings(n):
    orders = [spearmanr(range(n), order).statistic for order in permutations(range(n))]
    attained = {f"{value:.3f}" for value in orders}
    for thousandths in range(-1000, 1001, 7):
        printed = Stated(f"{thousandths / 1000:.3f}")
        plain = (1,) * n in patterns_giving(printed, n)
        near = any(abs(v - printed.value) <= printed.half_unit + 1e-9 for v in orders)
        assert plain is near
    assert all((1,) * n in patterns_giving(Stated(text), n) for text in attained)


@pytest.mark.parametrize("text", ["0.667", "0.821"])
def test_the_coefficients_of_table_13_need_a_tie(text):
    patterns = patterns_giving(Stated(text), 5)
    assert (1, 1, 1, 1, 1) not in patterns
    assert (2, 1, 1, 1) in patterns
    # A tie of two methods does give it.
    tied = [0.2, 0.32, 0.32, 0.35, 0.4]
    assert any(
        f"{spearmanr(tied, order).statistic:.3f}" == text for order in permutations(range(5))
    )


def test_usual_p_value_is_scipys():
    rng = np.random.default_rng(0)
    x = rng.normal(size=9)
    y = x + rng.normal(size=9)
    result = pearsonr(x, y)
    assert student_p(result.statistic, 9) == pytest.approx(result.pvalue)


def test_the_paper_reports_an_average_that_its_table_does_not_give(paper):
    finding = found(paper, "Abstract and Section 4.2.2", ["average"])
    assert finding.verdict == "mismatch"
    parts = [(54.2, 48.7), (68.9, 60.8), (86.8, 52.1), (89.8, 77.0)]
    mean = 100 * np.mean([(b - r) / b for b, r in parts])
    pooled = 100 * (1 - sum(r for _, r in parts) / sum(b for b, _ in parts))
    assert f"mean of the relative reductions {mean:.1f}%" in finding.recomputed
    assert f"reduction of the mean rate {pooled:.1f}%" in finding.recomputed
    assert finding.note == "the stated number is the reduction of the mean rate"
    assert found(paper, "Abstract and Section 4.2.2", ["least"]).verdict == "holds"
    assert found(paper, "Abstract and Section 4.2.2", ["most"]).verdict == "holds"


def test_every_cas_of_the_paper_is_the_mean_of_its_primitives(paper):
    means = [f for f in paper if f.check == "mean of the four primitives"]
    assert len(means) == 24 + 11
    assert {f.verdict for f in means} <= {"holds", "rounding"}


def test_tau_lies_between_the_modes_for_breakhis_and_origa(paper):
    found_modes = verdicts(paper, "tau within one mode of Real")
    assert found_modes == {
        "Fitzpatrick17k: tau": "holds",
        "CheXpert: tau": "holds",
        "BreakHis: tau": "weak",
        "ORIGA: tau": "weak",
    }


def test_the_tail_of_fitzpatrick_and_chexpert_restates_dd(paper):
    restating = verdicts(paper, "says more than 1 - DD")
    for dataset in ("Fitzpatrick17k", "CheXpert"):
        assert {v for item, v in restating.items() if item.startswith(dataset)} == {"weak"}
    assert restating["ORIGA: CRAFT, rate"] == "holds"


def test_rank_correlations_of_five_methods_are_weak(paper):
    exact = found(paper, "Table 13", ["Fitzpatrick17k: CAS with accuracy", "spearman", "exact"])
    assert (exact.verdict, exact.recomputed) == ("weak", f"{10 / math.factorial(5):.4f}")
    usual = [f for f in paper if f.check == "p-value by Student's t at n = 5"]
    assert len(usual) == 8
    assert {f.verdict for f in usual} <= {"holds", "rounding"}


def test_label_tables_are_added_up(paper):
    totals = {(f.table, f.item): f for f in paper if f.check == "sum of the classes"}
    wrong = {key: f.recomputed for key, f in totals.items() if f.verdict != "holds"}
    assert wrong == {("Table 19", "train, total"): "3091"}
    sizes = {f.item: f.verdict for f in paper if f.check.startswith("size of the class")}
    assert sizes["Adenosis, train + test"] == "holds"
    assert sizes["Glaucoma, train + test"] == "mismatch"


def test_diagnoses_no_better_than_guessing_are_weak(paper):
    guessing = verdicts(paper, "above guessing")
    assert guessing["BreakHis: TI, DD"] == "weak"
    assert guessing["BreakHis: CRAFT, DD"] == "holds"
    assert guessing["CheXpert: TI+LoRA, DD"] == "weak"


def test_cas_is_the_same_in_all_tables(paper):
    across = [f for f in paper if f.table == "across tables"]
    assert len(across) == 20
    assert {f.verdict for f in across} == {"holds"}


def test_contradictions_between_tables_and_orders_are_found():
    head = {"dataset": "d", "kind": "scores"}
    findings = check(
        {**head, "name": "one", "rows": [{"method": "m", "cas": ".417"}]},
        {**head, "name": "two", "rows": [{"method": "m", "cas": ".42"}]},
        {**head, "name": "three", "rows": [{"method": "n", "cas": ".30"}]},
        {"kind": "tail", "name": "four", "dataset": "d", "rows": [
            {"method": "n", "mean": ".33", "rate": "5.0", "p10": ".1"}], "tau": ".2"},
        {"kind": "orderings", "name": "five", "rows": [
            {"label": "l", "first": {"a": ".1", "b": ".2"}, "second": {"a": ".4", "b": ".3"}}]},
    )  # fmt: skip
    by_item = {f.item: f.verdict for f in findings}
    assert by_item["d: m, CAS"] == "rounding"
    assert by_item["d: n, CAS"] == "mismatch"
    assert by_item["d: n, 10th percentile"] == "mismatch"  # p10 below tau needs a rate above 10%
    assert by_item["l"] == "mismatch"


def test_csv_gives_scores_spreads_and_tails(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text(
        "dataset,method,n,classes,vdc,ccs,dd,sfs,cas,cas_std,tau,low_rate,p10\n"
        "d,Real,100,2,.15,.14,.75,1.00,.510,,,,\n"
        "d,A,100,2,.10,.10,.40,.80,.350,.004,.530,66.6,.20\n"
        "d,B,100,2,.10,.10,.60,.80,.500,.004,.530,40.0,.25\n"
    )
    document = load_document(path)
    assert [table.kind for table in document.tables] == ["scores", "spread", "tail"]
    findings = check_document(document)
    means = verdicts(findings, "mean of the four primitives")
    assert means == {"d: Real, CAS": "holds", "d: A, CAS": "holds", "d: B, CAS": "mismatch"}
    rates = verdicts(findings, "share of a whole number of cases")
    assert rates["d: A, rate"] == "impossible"  # 66.6% of 100
    assert verdicts(findings, "tau within one mode of Real") == {"d: tau": "weak"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "model,cas\nA,1\n", "unknown columns model"),
        ("t.csv", "dataset,cas\nd,.1\n", "no column 'method'"),
        ("t.json", "{", "not readable as JSON"),
        ("t.json", '{"title": "x", "tables": [{"kind": "tales"}]}', "tables.0"),
        ("t.csv", "method,cas\nA,high\n", "not a plain decimal number"),
        ("t.txt", "", "neither .json nor .csv"),
        ("t.csv", "method\n", "no rows"),
        ("t.csv", "method,dd\nA,71.0\n", "71.0 is not between 0 and 1: write a share"),
        ("t.csv", "method,dd\nA,.7\n,.6\n", "line 3: no method is named"),
        ("t.csv", "method,n,dd\nA,0,.7\n", "greater than or equal to 1"),
        ("t.csv", "method,n,dd\nA,10,.7\nB,20,.6\n", "disagree on n: 10, 20"),
        ("t.csv", "method,low_rate\nA,120\n", "write a percentage"),
    ],
)
def test_unusable_tables_are_refused_with_the_place(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        load_document(path)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"kind": "counts", "columns": {"a": {"x": 1}}, "totals": {"b": 1}}, "no column 'b'"),
        (
            {"kind": "counts", "columns": {"a": {"x": 1}}, "totals": {}, "splits": ["a"],
             "known": {"y": 1}},
            "column 'a' lacks 'y'",
        ),
        (
            {"kind": "orderings", "rows": [{"label": "l", "first": {"a": "1"}, "second": {}}]},
            "'a' is under one measure only",
        ),
        ({"kind": "equalities", "rows": [{"label": "l", "values": {}}]}, "at least 1"),
        (
            {"kind": "proportions", "rows": [{"label": "l", "n": 5, "left": "80", "right": "7"}]},
            "write a share",
        ),
        (
            {"kind": "correlations", "n": 2, "rows": []}, "greater than or equal to 3",
        ),
        (
            {"kind": "reductions", "least": "1", "most": "2", "average_relative": "3", "rows": []},
            "at least 1",
        ),
        (
            {"kind": "reductions", "least": "1", "most": "2", "average_relative": "3", "rows": [
                {"dataset": "d", "n": 5, "method": "0", "lowest_tail": "0", "best_mean": "1"}]},
            "reduced from a rate of 0",
        ),
        (
            {"kind": "derived", "rows": [
                {"label": "l", "formula": "percent", "inputs": ["0", "0"], "stated": "0"}]},
            "no percentage of a whole of 0",
        ),
    ],
)  # fmt: skip
def test_tables_that_nothing_can_be_recomputed_from_are_refused(tmp_path, table, message):
    path = tmp_path / "t.json"
    path.write_text(json.dumps({"title": "x", "tables": [{"name": "n", **table}]}))
    with pytest.raises(InputError, match=message):
        load_document(path)


def test_real_does_not_tell_the_number_of_seeds(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("method,n,seeds,dd\nA,10,5,.72\nReal,10,1,.70\n")
    (table,) = load_document(path).tables
    assert table.seeds == 5


def test_rounding_is_no_mismatch_of_percentile_and_rate():
    head = {"kind": "tail", "name": "n", "dataset": "d", "tau": ".50"}
    rows = [
        {"method": "a", "rate": "12.0", "p10": ".50"},
        {"method": "b", "rate": "10.0", "p10": ".49"},
        {"method": "c", "rate": "12.0", "p10": ".52"},
    ]
    found = verdicts(
        check({**head, "rows": rows}), "10th percentile below tau exactly if the rate exceeds 10%"
    )
    assert list(found.values()) == ["rounding", "rounding", "mismatch"]


@pytest.mark.parametrize(("n", "below"), [(105, 11), (105, 10), (100, 10), (33, 4), (7, 1)])
@pytest.mark.parametrize("kind", ["linear", "weibull", "hazen", "lower", "higher", "inverted_cdf"])
def test_a_percentile_that_occurred_is_never_a_mismatch(n, below, kind):
    rng = np.random.default_rng(n + below)
    cas = np.r_[rng.uniform(0.2, 0.49, below), rng.uniform(0.51, 0.8, n - below)]
    p10 = np.percentile(cas, 10, method=kind)
    row = {"method": "a", "rate": f"{100 * below / n:.1f}", "p10": f"{p10:.4f}"}
    head = {"kind": "tail", "name": "n", "dataset": "d", "tau": ".5000", "n": n}
    findings = check({**head, "rows": [row]})
    assert {one.verdict for one in findings} <= {"holds", "rounding"}


def test_a_rate_over_seeds_is_a_share_of_all_their_images(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("method,n,seeds,low_rate\nA,100,5,12.4\nReal,100,1,24.4\n")
    rates = verdicts(check_document(load_document(path)), "share of a whole number of cases")
    assert rates == {"t: A, rate": "holds", "t: Real, rate": "impossible"}  # 62 of 500


def test_a_coefficient_that_may_be_zero_allows_the_greatest_p():
    row = {"label": "l", "statistic": "pearson", "value": ".0", "p": ".998"}
    (usual, _) = check({"kind": "correlations", "name": "n", "n": 5, "rows": [row]})
    assert usual.verdict == "rounding"


def test_json_numbers_keep_their_trailing_zeros(tmp_path):
    path = tmp_path / "t.json"
    rows = '[{"label": "l", "left": 0.310, "right": 0.10, "stated": 0.21}]'
    path.write_text(
        f'{{"title": "x", "tables": [{{"kind": "differences", "name": "n", "rows": {rows}}}]}}'
    )
    (table,) = load_document(path).tables
    assert table.rows[0].left.decimals == 3


def test_the_shipped_tables_name_their_source():
    document = load_paper()
    assert document.license == "CC BY 4.0"
    assert "Chung" in document.source
    assert json.dumps(Document.model_json_schema())
