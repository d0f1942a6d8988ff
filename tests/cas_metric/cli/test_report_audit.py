"""``cas audit --report`` over HTTP: a server that reports what is drawn."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from tests.support.mllm_server import MllmServer, Say
from tests.support.oracles import Gallery, drawn_class, pixels_of
from typer.testing import CliRunner

from cas_metric.cli import audit
from cas_metric.errors import InputError
from cas_metric.phantoms.dataset import read_specs, write_generated_set, write_phantom_dataset


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    write_phantom_dataset("chexpert", root / "real", train=4, test=8, balanced=True)
    sets = [
        write_generated_set("chexpert", root / "real" / "test", root / kind, kind=kind)
        for kind in ("wrong", "faithful")
    ]
    return sets, Gallery(*sets)


def run(*words, code=0):
    result = CliRunner().invoke(audit.app, [*map(str, words), "--report"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout


def test_reports_of_what_is_drawn_support_the_right_labels(world, monkeypatch, tmp_path):
    sets, gallery = world

    def report(call):
        spec = gallery.specs[pixels_of(call.images[0]).tobytes()]
        drawn = drawn_class(spec) or "No Finding"
        denied = "No effusion." if drawn != "Pleural Effusion" else ""
        return Say(json.dumps({"findings": denied, "impression": f"Probably not.\n{drawn}"}))

    monkeypatch.setenv("CAS_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "out"
    with MllmServer(report) as server:
        monkeypatch.setenv("CAS_MLLM_BASE_URL", server.url)
        words = (*sets, "--mllm", "openai:oracle", "--price-in", "1", "--price-out", "1")
        text = run(*words, "--out", out)
        asked = server.calls
        assert not any("Pneumonia" in call.prompt + call.system for call in asked)
        assert len(asked) == 16
        run(*words, "--out", out)
        assert len(server.calls) == 16
    rows = pd.read_csv(out / "reports.csv")
    truth = {
        (folder.name, name): spec for folder in sets for name, spec in read_specs(folder).items()
    }
    for row in rows.itertuples(index=False):
        drawn = drawn_class(truth[row.method, row.id]) or "No Finding"
        assert row.support == (1.0 if drawn == row.label else 0.0), row
        assert f"{drawn}: present" in row.read
    summary = json.loads((out / "summary.json").read_text())
    assert summary["kind"] == "audit by reports"
    assert summary["methods"]["faithful"]["support"]["estimate"] == 1.0
    assert summary["methods"]["wrong"]["support"]["estimate"] == 0.0
    assert summary["agreement"] == {}
    assert summary["timing"]["cost"] is not None
    assert "support" in text
    assert text.startswith("Drawn phantoms") or "phantom" in text


def test_an_unusable_report_is_listed(world, monkeypatch, tmp_path):
    sets, _ = world
    monkeypatch.setenv("CAS_CACHE", str(tmp_path / "cache"))
    with MllmServer(lambda call: Say("The lungs are clear.")) as server:
        monkeypatch.setenv("CAS_MLLM_BASE_URL", server.url)
        words = ("--mllm", "openai:oracle", "--repairs", "0", "--cases", "2")
        run(sets[0], *words, "--out", tmp_path / "out", code=3)
    rows = pd.read_csv(tmp_path / "out" / "reports.csv")
    assert rows["status"].tolist() == ["rejected"] * 2
    assert rows["support"].isna().all()


@pytest.mark.parametrize(
    "words", [("--control",), ("--graded",), ("--against", "audit"), ("--graded", "--control")]
)
def test_reports_know_no_items(world, words):
    with pytest.raises(InputError, match=f"{words[0]}.* is about items"):
        run(world[0][0], "--mllm", "openai:oracle", *words)
