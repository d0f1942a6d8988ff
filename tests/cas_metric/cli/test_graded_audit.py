"""``cas audit --graded`` over HTTP: a server that knows the truth and says how sure it is."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from tests.support.mllm_server import MllmServer, Raw
from tests.support.oracles import Gallery, audit_oracle, drawn_class, pixels_of
from typer.testing import CliRunner

from cas_metric.cli import audit
from cas_metric.domains import load_domain
from cas_metric.errors import InputError
from cas_metric.phantoms.dataset import read_specs, write_generated_set, write_phantom_dataset
from cas_metric.statistics.graded import auroc, best_of_n, calibration

CHEST = load_domain("phantom-chexpert")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    write_phantom_dataset("chexpert", root / "real", train=4, test=8, balanced=True)
    sets = [
        write_generated_set("chexpert", root / "real" / "test", root / kind, kind=kind)
        for kind in ("wrong", "faithful")
    ]
    return sets, Gallery(*sets)


def grader(gallery, *, logprobs=True):
    """P(yes) is 0.9 where the drawn class has the item, else 0.2."""

    def answer(call):
        item = call.prompt.splitlines()[-2]
        spec = gallery.specs[pixels_of(call.images[0]).tobytes()]
        shown = CHEST.checklist_items(drawn_class(spec) or "No Finding")
        p = 0.9 if item in shown else 0.2
        top = [
            {"token": "Yes", "logprob": math.log(p)},
            {"token": "no", "logprob": math.log(1 - p)},
        ]
        word = "Yes" if p > 0.5 else "no"
        token = {"token": word, "logprob": math.log(max(p, 1 - p)), "top_logprobs": top}
        choice = {"message": {"content": word}, "finish_reason": "stop"}
        if logprobs:
            choice["logprobs"] = {"content": [token]}
        return Raw(json.dumps({"choices": [choice]}).encode())

    return answer


@pytest.fixture
def run(monkeypatch, tmp_path):
    def invoke(server, *words, code=0):
        monkeypatch.setenv("CAS_MLLM_BASE_URL", server.url)
        monkeypatch.setenv("CAS_CACHE", str(tmp_path / "cache"))
        command = [*map(str, words), "--mllm", "openai:oracle"]
        result = CliRunner().invoke(audit.app, command)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result.stdout

    return invoke


def test_scores_are_the_truth_and_are_calibrated_against_verdicts(world, run, tmp_path):
    sets, gallery = world
    with MllmServer(audit_oracle(gallery, CHEST)) as server:
        run(server, *sets, "--out", tmp_path / "verdicts")
    with MllmServer(grader(gallery)) as server:
        options = ("--graded", "--control", "--against", tmp_path / "verdicts")
        printed = run(server, *sets, *options, "--out", tmp_path / "graded")
        asked = len(server.calls)
        run(server, *sets, *options, "--out", tmp_path / "graded")
        assert len(server.calls) == asked
    rows = pd.read_csv(tmp_path / "graded" / "audit.csv")
    assert set(rows["source"]) == {"logprobs"}
    specs = [read_specs(folder) for folder in sets]
    for row in rows.to_dict("records"):
        spec = specs[0 if row["method"] == "wrong" else 1][row["id"]]
        item = f"{row['attribute']}: {row['description']}"
        shown = item in CHEST.checklist_items(drawn_class(spec) or "No Finding")
        assert row["score"] == pytest.approx(0.9 if shown else 0.2)
        assert row["verdict"] == ("present" if shown else "absent")
    graded = json.loads((tmp_path / "graded" / "summary.json").read_text())["graded"]
    assert graded["scores"]["faithful"]["estimate"] == pytest.approx(0.9)
    assert graded["scores"]["wrong"]["estimate"] < 0.4
    assert graded["calibration"]["auroc"] == 1.0
    assert [one["present"]["estimate"] for one in graded["calibration"]["bins"]] == [0.0, 1.0]
    assert graded["auroc_own_over_other"] > 0.7
    assert "## Calibration" in printed


def test_a_server_without_logprobs_counts_words_and_says_so(world, run, tmp_path):
    sets, gallery = world
    with MllmServer(grader(gallery, logprobs=False)) as server:
        run(server, sets[1], "--graded", "--out", tmp_path / "o")
    summary = json.loads((tmp_path / "o" / "summary.json").read_text())
    assert summary["graded"]["sources"] == {"answer": 40}
    assert "gives no probabilities" in summary["notes"][-1]
    assert summary["graded"]["scores"]["faithful"]["estimate"] == 1.0


def test_an_item_without_an_answer_is_listed(world, run, tmp_path):
    sets, gallery = world
    right = grader(gallery)

    def answer(call):
        return Raw(b'{"choices": []}') if "Texture" in call.prompt else right(call)

    with MllmServer(answer) as server:
        options = ("--graded", "--cases", "2", "--concurrency", "1", "--out", tmp_path / "o")
        run(server, sets[1], *options, code=3)
    rows = pd.read_csv(tmp_path / "o" / "audit.csv")
    lost = rows[rows["attribute"] == "Texture"]
    assert set(lost["status"]) == {"failed"}
    assert lost["score"].isna().all()
    assert (rows.loc[rows["attribute"] != "Texture", "status"] == "ok").all()


def test_verdicts_without_grades_are_refused(world, run):
    with pytest.raises(InputError, match="--against"), MllmServer() as server:
        run(server, world[0][0], "--against", "nowhere")


def test_the_area_under_the_curve_is_that_of_all_pairs():
    rng = np.random.default_rng(0)
    truth = (rng.random(60) < 0.4).astype(float)
    scores = np.round(rng.random(60) + 0.3 * truth, 1)
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[truth == 1] for b in scores[truth == 0]]
    assert auroc(scores, truth) == pytest.approx(np.mean(pairs))


def test_a_calibrated_score_has_no_error_and_brier_is_its_mean_square():
    truth = np.array([1, 0, 0, 0, 1, 1, 1, 0] * 5)
    score = np.array([0.25] * 4 + [0.75] * 4)
    rows = pd.DataFrame(
        {
            "method": "m", "seed": pd.NA, "id": [str(n // 8) for n in range(40)],
            "checklist": "c", "attribute": [str(n % 8) for n in range(40)],
            "score": np.tile(score, 5),
        }
    )  # fmt: skip
    verdicts = rows.assign(verdict=np.where(truth == 1, "present", "absent"), seed="")
    found = calibration(rows, verdicts)
    assert found["n"] == 40
    assert found["expected_error"] == pytest.approx(0.0)
    assert found["brier"]["estimate"] == pytest.approx(np.mean((rows["score"] - truth) ** 2))


def test_the_best_of_several_images_of_a_case():
    table = pd.DataFrame(
        {
            "method": list("aaaab"), "case": list("xxyyx"), "seed": [0, 1, 0, 1, 0],
            "id": list("12341"), "score": [0.2, 0.7, 0.5, np.nan, 0.9],
        }
    )  # fmt: skip
    best = best_of_n(table.set_index(np.zeros(len(table), dtype=int)))  # whatever its index
    assert best[["method", "case", "seed", "id", "of"]].to_numpy().tolist() == [
        ["a", "x", 1, "2", 2]
    ]
