"""``cas audit`` and ``cas judge`` from the command line on, over HTTP, on phantoms."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from tests.support.mllm_server import MllmServer, Refuse, Say
from tests.support.oracles import Gallery, audit_oracle, item_truth, judge_oracle, pixels_of
from tests.support.runs import score_rows
from typer.testing import CliRunner

from cas_metric.cli import audit, judge, preference
from cas_metric.domains import load_domain
from cas_metric.errors import InputError
from cas_metric.phantoms.dataset import read_specs, write_generated_set, write_phantom_dataset
from cas_metric.runs.folder import write_run
from cas_metric.verbs.audit import audit_markdown
from cas_metric.verbs.judge import _places, known_cas

KINDS = ("wrong", "degraded", "faithful")
CHEST = load_domain("phantom-chexpert")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Three generated sets of 12 cases, and what is known about every image."""
    root = tmp_path_factory.mktemp("world")
    write_phantom_dataset("chexpert", root / "real", train=4, test=12, balanced=True)
    sets = [
        write_generated_set("chexpert", root / "real" / "test", root / kind, kind=kind)
        for kind in KINDS
    ]
    return sets, Gallery(*sets)


@pytest.fixture
def invoke(monkeypatch, tmp_path):
    """Runs a verb against a server, with a cache of its own."""

    def run(app, server, *arguments, code=0):
        monkeypatch.setenv("CAS_MLLM_BASE_URL", server.url)
        monkeypatch.setenv("CAS_CACHE", str(tmp_path / "cache"))
        words = [str(a) for a in arguments]
        result = CliRunner().invoke(app, [*words, "--mllm", "openai:oracle"])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result.stdout

    return run


def truth_of(folder) -> pd.DataFrame:
    """Verdicts of the items of every image, from its specification alone."""
    asked = pd.read_csv(folder / "metadata.csv", index_col="id")["label"]
    rows = []
    for name, spec in read_specs(folder).items():
        pixels = pixels_of(folder / "images" / f"{name}.png")
        for attribute, verdict in item_truth(asked[name], spec, pixels, CHEST).items():
            rows.append({"id": name, "attribute": attribute, "verdict": verdict})
    return pd.DataFrame(rows)


def files_of(folder):
    """Every file but the part of the summary that may differ."""
    files = {p.name: p.read_bytes() for p in folder.iterdir()}
    summary = json.loads(files.pop("summary.json"))
    summary.pop("timing")
    return {**files, "summary": summary}


# -- audit --------------------------------------------------------------------------------------


def test_pass_rates_are_the_truth_and_a_second_run_asks_nothing(world, invoke, tmp_path):
    sets, gallery = world
    out = tmp_path / "audit"
    with MllmServer(audit_oracle(gallery, CHEST)) as server:
        printed = invoke(audit.app, server, *sets, "--control", "--out", out)
        asked, before = len(server.calls), files_of(out)
        invoke(audit.app, server, *sets, "--control", "--out", out)
        assert len(server.calls) == asked == 2 * 36
        assert files_of(out) == before
    assert printed.startswith("**Drawn phantoms, not medical data.**")
    assert "| Dataset | wrong | degraded | faithful |" in printed
    summary = json.loads((out / "summary.json").read_text())
    rows = pd.read_csv(out / "audit.csv", keep_default_na=False)
    rows = rows[rows["checklist"] == rows["label"]]
    for folder, found in zip(sets, summary["methods"], strict=True):
        truth = truth_of(folder)
        mine = rows[rows["method"] == found["method"]][["id", "attribute", "verdict"]]
        assert mine.to_dict("list") == truth.to_dict("list")
        value = truth["verdict"].map({"present": 1.0, "absent": 0.0})
        assert found["pass_rate"]["estimate"] == pytest.approx(
            value.groupby(truth["id"]).mean().mean()
        )
        assert found["item_rate"]["estimate"] == pytest.approx(value.mean())
        for item in found["items"]:
            assert item["rate"]["low"] <= item["rate"]["estimate"] <= item["rate"]["high"]
    wrong, degraded, faithful = (one["pass_rate"]["estimate"] for one in summary["methods"])
    assert wrong < 0.2
    assert degraded == faithful == 1.0
    classes = printed.partition("## Classes")[2].partition("##")[0].splitlines()[4:-1]
    assert [line.split(" | ")[0][2:] for line in classes if line] == list(CHEST.class_names)
    assert summary["control"]["faithful"]["difference"]["estimate"] > 0.8


def test_no_call_names_method_class_file_or_prompt(world, invoke, tmp_path):
    sets, gallery = world
    with MllmServer(audit_oracle(gallery, CHEST)) as server:
        invoke(audit.app, server, f"SecretMethod={sets[0]}", "--out", tmp_path / "o")
        calls = [call for call in server.calls if len(call.images) == 1]
    assert len(calls) == 12
    for call in calls:
        said = call.text.lower()
        assert not any(word in said for word in ("secretmethod", "wrong", "images/", "test-0"))
        assert not any(name.lower() in said for name in ("pneumonia", "cardiomegaly"))


def test_images_without_a_verdict_are_listed_and_the_exit_code_says_so(world, invoke, tmp_path):
    sets, gallery = world
    out, oracle = tmp_path / "o", audit_oracle(gallery, CHEST)
    refused = next(iter(read_specs(sets[2])))
    first = pixels_of(sets[2] / "images" / f"{refused}.png")

    def answer(call):
        same = np.array_equal(pixels_of(call.images[0]), first)
        return Refuse("<img src=x onerror=alert(1)>") if same else oracle(call)

    with MllmServer(answer) as server:
        invoke(audit.app, server, sets[2], "--out", out, code=3)
    summary = json.loads((out / "summary.json").read_text())
    (failure,) = summary["failures"]
    assert failure["id"] == refused
    assert failure["error"].startswith("refused: ")
    assert (summary["methods"][0]["images"], summary["methods"][0]["unanswered"]) == (12, 1)
    assert summary["methods"][0]["pass_rate"]["estimate"] == 1.0
    classes = summary["methods"][0]["per_class"].values()
    assert sum(one["images"] - one["rated"] for one in classes) == 1
    text = audit_markdown(summary)
    assert "11 images judged by" in text
    assert "of 12 images 1 got no verdict" in text
    assert f"] of {min(one['rated'] for one in classes)}" in text
    report = (out / "report.html").read_text()
    assert "Images without a verdict" in report
    assert "<img src=x" not in report


def test_html_and_markdown_in_what_the_model_says_are_harmless(world, invoke, tmp_path):
    sets, gallery = world
    oracle = audit_oracle(gallery, CHEST)

    def answer(call):
        said = oracle(call).content
        for item in said.values():
            item["evidence"] = "</td><script>alert(1)</script>\n=cmd|' /C calc'!A0"
        return Say(said)

    with MllmServer(answer) as server:
        invoke(audit.app, server, f"<b>x</b>|y={sets[0]}", "--out", tmp_path / "o")
    report = (tmp_path / "o" / "report.html").read_text()
    assert "<script>alert" not in report
    assert "&lt;script&gt;alert" in report
    assert "<b>x</b>" not in report
    rows = pd.read_csv(tmp_path / "o" / "audit.csv")
    assert len(rows) == 60
    assert not rows["evidence"].str.contains("\n").any()


def test_a_run_brings_ccs_and_the_audit_agrees_with_it(world, invoke, tmp_path):
    sets, gallery = world
    rng = np.random.default_rng(0)
    runs = []
    for kind, folder in zip(KINDS, sets, strict=True):
        metadata = pd.read_csv(folder / "metadata.csv")
        verdicts = truth_of(folder).groupby("id")["verdict"]
        rate = verdicts.agg(lambda v: (v == "present").mean()).reindex(metadata["id"])
        rows = score_rows(kind, n=12).assign(
            id=metadata["id"], label=metadata["label"], image=metadata["file_name"],
            ccs=0.1 + 0.1 * rate.to_numpy() + rng.normal(0, 1e-3, 12),
        )  # fmt: skip
        summary = {
            "protocol": "cas-v1", "encoder": {}, "methods": [], "domain": "phantom-chexpert",
            "provenance": {"inputs": {"generated": {"root": str(folder)}}},
        }  # fmt: skip
        runs.append(write_run(tmp_path / kind, rows, summary))
    with MllmServer(audit_oracle(gallery, CHEST)) as server:
        printed = invoke(audit.app, server, *runs, "--out", tmp_path / "o")
    assert "## Agreement with CCS" in printed
    found = json.loads((tmp_path / "o" / "summary.json").read_text())["agreement"]
    assert found["all methods"]["n"] == 36
    assert found["all methods"]["point_biserial"]["low"] > 0
    assert found["faithful"]["spearman"]["estimate"] is None  # every image passes


# -- judge --------------------------------------------------------------------------------------


def test_the_judge_recovers_the_order_and_preference_reads_its_rankings(world, invoke, tmp_path):
    sets, gallery = world
    out = tmp_path / "judge"
    quality = dict(zip(sets, (0.0, 1.0, 2.0), strict=True))
    arguments = ("--permutations", 3, "--resamples", 200, "--out", out)
    with MllmServer(judge_oracle(gallery, quality)) as server:
        printed = invoke(judge.app, server, *sets, *arguments)
        texts = [call.text for call in server.calls]
    assert len(texts) == 36
    assert not any(kind in text for kind in KINDS for text in texts)
    lines = [line for line in printed.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0] for line in lines[2:5]] == ["| faithful", "| degraded", "| wrong"]
    assert "the scores are unbounded" in printed  # one always wins, and that is said
    summary = json.loads((out / "summary.json").read_text())
    assert summary["preference"]["top1"]["faithful"]["estimate"] == 1.0
    assert summary["repeatability"]["kendall_tau"]["estimate"] == 1.0
    assert summary["places"]["A"]["rate"]["estimate"] == pytest.approx(1 / 3)
    for name in ("scores", "top1", "ranks", "places"):
        assert all((out / f"{name}{suffix}").is_file() for suffix in (".svg", ".pdf", ".png"))
    read = CliRunner().invoke(
        preference.app,
        [str(out / "rankings.csv"), "--ridge", "0.01", "--resamples", "200", "--json"],
    )
    assert json.loads(read.stdout)["scores"] == summary["preference"]["scores"]


def test_when_nothing_can_be_ranked_the_reasons_are_written(world, invoke, tmp_path):
    sets, _ = world
    out = tmp_path / "judge"
    with MllmServer(Refuse()) as server:
        printed = invoke(judge.app, server, *sets, "--cases", 2, "--out", out, code=3)
    assert "No question got a ranking" in printed
    assert len(json.loads((out / "summary.json").read_text())["failures"]) == 4
    assert set(pd.read_csv(out / "questions.csv")["status"]) == {"refused"}
    assert list(pd.read_csv(out / "rankings.csv")) == [
        "case",
        "rater",
        "method",
        "rank",
        "position",
    ]


def test_a_method_with_several_rows_has_no_one_cas(tmp_path):
    table, cases = tmp_path / "cas.csv", SimpleNamespace(methods=["a", "b", "c"])
    table.write_text("method,cas\na,0.4\nb,0.5\nc,0.6\n")
    assert known_cas(None, cases, table)[0] == {"a": 0.4, "b": 0.5, "c": 0.6}
    table.write_text("method,cas\na,0.4\nb,0.5\nc,0.6\nb,0.1\n")
    with pytest.raises(InputError, match="'b' has several rows"):
        known_cas(None, cases, table)


def test_a_small_p_value_is_told_without_an_equals_sign():
    one = {"shown": 9, "first": 9, "rate": {"estimate": 1.0, "low": 0.7, "high": 1.0}}
    places = {letter: one | {"mean_rank": 1.0} for letter in "AB"}
    told = _places({"places": places, "preference": {"position_bias": {"p": 1e-9}}})
    assert "Chi-squared test of that: p < 0.001." in told
