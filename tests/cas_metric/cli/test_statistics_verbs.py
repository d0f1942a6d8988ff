"""The verbs that read runs and tables, from the command line on."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from tests.support.runs import write_score_run
from typer.testing import CliRunner

import cas_metric
from cas_metric.cli import check, compare, correlate, preference
from cas_metric.errors import InputError
from cas_metric.verbs.correlate import correlate as cas_correlate

FIGURES = (".svg", ".pdf", ".png")


def invoke(app, *arguments):
    """Run a verb; its errors come out as they are."""
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def two_runs(tmp_path):
    weak = write_score_run(tmp_path / "weak", "weak", seeds=(0, 1), means=(0.1, 0.1, 0.5, 0.8))
    good = write_score_run(tmp_path / "good", "good", seeds=(0, 1), means=(0.2, 0.13, 0.6, 0.9))
    return weak, good


def test_compare_prints_the_table_and_writes_everything(two_runs, tmp_path):
    out = tmp_path / "out"
    printed = invoke(compare.app, *two_runs, "--resamples", 200, "--out", out).stdout
    assert "| good | 160 | 0 | **0.2" in printed
    assert "weak − good" in printed
    assert (out / "comparison.md").read_text().strip() == printed.strip()
    for name in ("means", "ecdf", "stability"):
        assert all((out / f"{name}{suffix}").stat().st_size > 1000 for suffix in FIGURES)
    table = pd.read_csv(out / "comparison.csv", index_col="method")
    assert list(table.index) == ["weak", "good", "Real", "Floor"]
    rows = pd.read_parquet(two_runs[1] / "per_image.parquet")
    assert table.loc["good", "cas"] == pytest.approx(rows["cas"].mean())


def test_compare_as_json_holds_tails_modes_and_excess(two_runs):
    result = json.loads(invoke(compare.app, *two_runs, "--resamples", 200, "--json").stdout)
    assert result["focus"] == "good"
    assert [entry["method"] for entry in result["methods"]] == ["weak", "good"]
    assert result["methods"][0]["seeds"]["cas"]["seeds"] == 2
    assert set(result["tail"]) >= {"by_cas", "by_graded", "by_floor", "stability", "reductions"}
    assert result["tail"]["bimodality"]["warning"] is True
    excess = {entry["primitive"] for entry in result["exceeds_real"]["good"]}
    assert "vdc" in excess
    assert any("above Real's" in warning for warning in result["warnings"])
    assert not any("reward hacking" in warning for warning in result["warnings"])
    reduction = result["tail"]["reductions"][0]
    low, high = reduction["absolute_interval"]
    assert low < reduction["absolute"] < high
    assert set(reduction["class_balanced"]) >= {"absolute", "absolute_interval", "relative"}


def test_compare_speaks_of_reward_hacking_where_a_reward_trained_the_set(two_runs):
    path = two_runs[1] / "summary.json"
    summary = json.loads(path.read_text())
    path.write_text(json.dumps({**summary, "generated_provenance": {"stage": "craft"}}))
    result = cas_metric.compare(list(two_runs)).summary
    said = [text for text in result["warnings"] if "reward hacking" in text]
    assert said
    assert all(text.startswith("good") for text in said)


def test_compare_hands_on_what_its_runs_warn_of(two_runs, tmp_path):
    shared, own = "the encoder is blind in DD", "3 of 160 generated images are faint"
    for run, told in zip(two_runs, ([shared], [shared, own]), strict=True):
        summary = json.loads((run / "summary.json").read_text())
        (run / "summary.json").write_text(json.dumps({**summary, "warnings": told}))
    out = tmp_path / "out"
    options = ("--real", two_runs[0], "--resamples", 200)
    printed = invoke(compare.app, *two_runs, *options, "--out", out).stdout
    assert printed.count(f"- **Warning.** {shared}\n") == 1
    assert f"- **Warning.** {two_runs[1]}: {own}\n" in printed
    found = json.loads(invoke(compare.app, *two_runs, *options, "--json").stdout)
    assert found["warnings"][:2] == [shared, f"{two_runs[1]}: {own}"]


def test_compare_takes_folders_runs_and_names(two_runs):
    by_folder = cas_metric.compare([str(one) for one in two_runs])
    by_run = cas_metric.compare([cas_metric.Run.load(one) for one in two_runs])
    assert by_run.text == by_folder.text
    named = cas_metric.compare({"one": two_runs[0], "two": cas_metric.Run.load(two_runs[0])})
    assert [entry["method"] for entry in named.summary["methods"]] == ["one", "two"]


def test_compare_of_runs_without_seeds_has_no_spread_over_seeds(two_runs):
    runs = []
    for folder in two_runs:
        run = cas_metric.Run.load(folder)
        rows = run.rows[run.rows["seed"].astype(str) == "0"].assign(seed=pd.NA)
        runs.append(dataclasses.replace(run, rows=rows))
    found = cas_metric.compare(runs)
    assert [entry["seeds"]["cas"]["seeds"] for entry in found.summary["methods"]] == [1, 1]
    assert "generation seeds" not in found.text


def test_compare_says_which_score_a_method_without_cas_lacks(two_runs):
    weak, good = (cas_metric.Run.load(one) for one in two_runs)
    bare = dataclasses.replace(weak, rows=weak.rows.assign(sfs=np.nan, cas=np.nan))
    found = cas_metric.compare([bare, good])
    assert any("none of its images has SFS" in text for text in found.summary["warnings"])
    assert set(found.summary["tail"]["by_cas"]) == {"good"}
    assert not found.summary["pairs"]


def test_compare_of_few_cases_says_so(two_runs):
    weak, good = (cas_metric.Run.load(one) for one in two_runs)
    few = [dataclasses.replace(run, rows=run.rows.head(5)) for run in (weak, good)]
    assert any("fewer than 10" in text for text in cas_metric.compare(few).summary["warnings"])


def test_compare_twice_gives_the_same_bytes(two_runs, tmp_path):
    for name in ("a", "b"):
        invoke(compare.app, *two_runs, "--resamples", 200, "--out", tmp_path / name)
    for first in sorted((tmp_path / "a").iterdir()):
        assert first.read_bytes() == (tmp_path / "b" / first.name).read_bytes(), first.name


def test_compare_of_phantoms_says_so_in_its_first_line(two_runs):
    path = two_runs[0] / "summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "embedded_world": True}))
    printed = invoke(compare.app, *two_runs, "--resamples", 100).stdout
    assert printed.splitlines()[0].startswith("**Drawn phantoms, not medical data.**")


def test_compare_refuses_runs_of_different_encoders(two_runs, tmp_path):
    other = write_score_run(tmp_path / "other", "other", fingerprint="xyz")
    with pytest.raises(InputError, match="different encoders"):
        invoke(compare.app, two_runs[0], other)


def test_compare_refuses_the_same_images_twice_unless_renamed(two_runs):
    with pytest.raises(InputError, match="occur twice"):
        invoke(compare.app, two_runs[0], two_runs[0])
    invoke(compare.app, f"one={two_runs[0]}", f"two={two_runs[0]}", "--resamples", 100)


def test_compare_names_the_methods_when_the_focus_is_unknown(two_runs):
    with pytest.raises(InputError, match="choose one of: weak, good"):
        invoke(compare.app, *two_runs, "--method", "best")


def test_compare_says_which_method_has_no_scores_at_all(two_runs):
    path = two_runs[0] / "per_image.parquet"
    rows = pd.read_parquet(path)
    rows["cas"], rows["status"] = np.nan, "failed"
    rows.to_parquet(path)
    reversed_runs = (two_runs[1], two_runs[0])
    result = json.loads(invoke(compare.app, *reversed_runs, "--resamples", 200, "--json").stdout)
    assert [entry["method"] for entry in result["methods"]] == ["good"]
    assert any(text.startswith("weak: none of its 160") for text in result["warnings"])


@pytest.fixture
def rankings_csv(tmp_path):
    rng = np.random.default_rng(0)
    records = []
    for case in range(40):
        places = rng.permutation(3) + 1
        for rater in ("x", "y"):
            utility = np.array([0.0, 0.4, 1.0]) + rng.gumbel(size=3)
            ranks = np.argsort(np.argsort(-utility)) + 1
            for method, rank, position in zip("ABC", ranks, places, strict=True):
                records.append((case, rater, method, rank, position))
    path = tmp_path / "rankings.csv"
    columns = ["case", "rater", "method", "rank", "position"]
    pd.DataFrame(records, columns=columns).to_csv(path, index=False)
    return path


def test_preference_with_cas(rankings_csv, tmp_path):
    scores = tmp_path / "cas.csv"
    pd.DataFrame({"method": list("ABC"), "cas": [0.3, 0.35, 0.42]}).to_csv(scores, index=False)
    out = tmp_path / "out"
    options = ("--cas", scores, "--resamples", 200, "--out", out, "--json")
    result = json.loads(invoke(preference.app, rankings_csv, *options).stdout)
    assert result["n_rankings"] == 80
    assert sum(score["estimate"] for score in result["scores"].values()) == pytest.approx(
        0, abs=1e-9
    )
    assert sum(rate["estimate"] for rate in result["top1"].values()) == pytest.approx(1)
    assert result["agreement"]["n_shared"] == 40
    assert result["position_bias"]["n"] == 80
    assert result["correlation"]["methods"] == ["A", "B", "C"]
    for name in ("scores", "top1", "ranks", "cas_preference"):
        assert all((out / f"{name}{suffix}").exists() for suffix in FIGURES)
    assert "Krippendorff" in (out / "preference.md").read_text()


def test_preference_needs_three_shared_methods_to_correlate(rankings_csv, tmp_path):
    scores = tmp_path / "cas.csv"
    pd.DataFrame({"method": ["A", "B"], "cas": [0.3, 0.4]}).to_csv(scores, index=False)
    with pytest.raises(InputError, match="share 2 methods"):
        invoke(preference.app, rankings_csv, "--cas", scores, "--resamples", 100)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("A", 0.3), ("B", 0.4), ("C", 0.5), ("A", 0.9)], "'A' has several rows"),
        ([("A", 0.3), ("B", 0.4), ("C", "high")], "column cas"),
    ],
)
def test_preference_refuses_a_table_of_cas_that_is_not_one_number_a_method(
    rankings_csv, tmp_path, rows, message
):
    scores = tmp_path / "cas.csv"
    pd.DataFrame(rows, columns=["method", "cas"]).to_csv(scores, index=False)
    with pytest.raises(InputError, match=message):
        invoke(preference.app, rankings_csv, "--cas", scores, "--resamples", 100)


def test_correlate_reproduces_table_13_by_group(tmp_path):
    path = tmp_path / "utility.csv"
    pd.DataFrame(
        {
            "dataset": ["F"] * 5 + ["C"] * 5,
            "method": list("ABCDE") * 2,
            "cas": [1, 2, 3, 4, 5, 5, 3, 3, 2, 1],
            "accuracy": [1, 2, 3, 5, 4, 9, 8, 7, 3, 1],
        }
    ).to_csv(path, index=False)
    out = tmp_path / "out"
    found = json.loads(
        invoke(correlate.app, path, "--by", "dataset", "--out", out, "--json").stdout
    )
    by_group = {entry["group"]: entry["coefficients"] for entry in found}
    spearman = by_group["F"][1]
    assert spearman["value"]["estimate"] == pytest.approx(0.9)
    assert spearman["p_asymptotic"] == pytest.approx(0.037, abs=1e-3)
    assert spearman["p_permutation"] == pytest.approx(10 / 120)
    assert by_group["C"][0]["ties"] is True
    assert (out / "scatter_2.pdf").exists()
    assert "leave one out" in (out / "correlation.md").read_text()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("method,score\nA,1\n", "no column cas"),
        ("method,cas,accuracy\nA,1,2\nB,2,3\n", "at least 3 pairs"),
        ("method,cas\nA,1\nB,2\nC,3\n", "no numeric column"),
        ("method,seed,cas,y\nA,0,1,2\nA,1,2,2\nB,0,3,3\nC,0,4,5\n", "'A' has several rows"),
    ],
)
def test_correlate_says_what_is_wrong_with_a_table(tmp_path, content, message):
    path = tmp_path / "table.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        invoke(correlate.app, path)


def test_correlate_leaves_out_what_does_not_vary_unless_it_is_named(tmp_path):
    rows = "a,.1,5,.5,.3\nb,.2,5,.7,.4\nc,.4,5,.6,\n"
    (tmp_path / "t.csv").write_text(f"method,cas,n,auc,two\n{rows}")
    found = CliRunner().invoke(correlate.app, [str(tmp_path / "t.csv")], catch_exceptions=False)
    assert found.exit_code == 0
    assert "cas with auc" in found.stdout
    assert "cas with n" not in found.stdout
    assert "left out, since they do not vary: n\n" in found.stderr
    assert "left out: cas with two: fewer than 3 methods have both" in found.stderr
    with pytest.raises(InputError, match="cas with n: one of the two"):
        invoke(correlate.app, tmp_path / "t.csv", "--y", "n")


def test_correlate_refuses_a_column_with_itself_and_rows_of_no_group(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("set,method,cas,y\nF,A,1,2\nF,B,2,1\nF,C,3,4\n,D,4,4\n")
    with pytest.raises(InputError, match="with itself"):
        invoke(correlate.app, path, "--y", "cas")
    with pytest.raises(InputError, match="1 rows have an empty 'set'"):
        invoke(correlate.app, path, "--by", "set")


def test_check_paper_by_verdict_and_as_files(tmp_path):
    printed = invoke(check.app, "paper", "--show", "mismatch", "--out", tmp_path).stdout
    assert "| mismatch | average relative reduction |" in printed
    assert "| holds |" not in printed
    written = json.loads((tmp_path / "check.json").read_text())
    assert written["counts"]["mismatch"] == len(written["findings"]) == 5


def test_check_refuses_an_unknown_verdict():
    with pytest.raises(InputError, match="no verdict is called wrong"):
        invoke(check.app, "paper", "--show", "wrong")


def test_check_prints_its_schema():
    schema = json.loads(invoke(check.app, "paper", "--schema").stdout)
    assert "Reductions" in schema["$defs"]


def test_correlate_says_which_columns_and_groups_it_left_out_and_why(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(
        "set,method,cas,auc,acc\n,,,,\nF,A,1,2,3\nF,B,2,n/a,4\nF,C,3,4,1\nC,A,1,2,1\n,,,,\nC,B,2,5,3\n"
    )
    found = CliRunner().invoke(correlate.app, [str(path), "--by", "set"], catch_exceptions=False)
    assert found.exit_code == 0
    assert "left out: auc is no number in line 4: 'n/a'" in found.stderr
    assert "left out: cas with acc in C: fewer than 3 methods have both" in found.stderr
    assert "leave one out" in found.stdout
    assert "Most influential" not in found.stdout  # of three methods, without one it is 1 or -1
    path.write_text('method,cas,auc\nA,1,"0,72"\nB,2,"0,8"\nC,3,"0,7"\n')
    with pytest.raises(InputError, match=r"auc is no number in line 2: '0,72'"):
        invoke(correlate.app, path)


def test_correlate_takes_frames_of_polars_and_names_that_are_no_text():
    polars = pytest.importorskip("polars")
    rows = {"method": ["a", "b", "c", "d"], "cas": [1.0, 2, 3, 4], "auc": [1.0, 3, 2, 4]}
    found = [
        cas_correlate(frame, y="auc").summary[0]["coefficients"][1]["value"]["estimate"]
        for frame in (pd.DataFrame(rows), polars.DataFrame(rows), pd.DataFrame({**rows, 7: 1}))
    ]
    assert found == pytest.approx([0.8] * 3)
