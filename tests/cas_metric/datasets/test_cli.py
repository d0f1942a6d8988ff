"""``cas datasets prepare`` writes what other commands read."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from tests.support import clinical_trees as trees
from typer.testing import CliRunner

from cas_metric.cli.datasets import app
from cas_metric.errors import InputError
from cas_metric.manifest import read_manifest

runner = CliRunner()


def prepare(*arguments):
    return runner.invoke(app, ["prepare", *map(str, arguments)])


def test_manifests_resolve_from_anywhere(tmp_path, monkeypatch):
    trees.breakhis(tmp_path / "data")
    out = tmp_path / "prepared"
    result = prepare("breakhis", "--root", tmp_path / "data", "--out", out, "--split", "patient")
    assert result.exit_code == 0, result.output
    monkeypatch.chdir("/")
    test = read_manifest(out / "test.parquet")
    assert all(path.is_file() for path in test.paths())
    assert test.config is not None
    assert test.config.domain == "breakhis"
    assert test.config.train == out / "train.parquet"
    assert all(path.is_file() for path in read_manifest(test.config.train).paths())
    assert not set(test.rows["patient"]) & set(read_manifest(out / "train.parquet").rows["patient"])


def test_provenance_holds_what_is_needed_to_make_it_again(tmp_path):
    trees.origa(tmp_path)
    out = tmp_path / "out"
    prepare("origa", "--root", tmp_path, "--out", out, "--seed", 7, "--shots", 3)
    provenance = read_manifest(out / "test.parquet").config.provenance
    assert provenance["seed"] == 7
    assert provenance["shots"] == 3
    assert len(provenance["sha256"]["OrigaList.csv"]) == 64
    assert provenance["images"]["train"] == 6
    assert any("454/196" in note for note in provenance["notes"])
    assert any("counts of classes are those before" in note for note in provenance["notes"])


def test_same_inputs_same_bytes(tmp_path):
    trees.chexpert(tmp_path / "data")
    for name in ("a", "b"):
        prepare("chexpert", "--root", tmp_path / "data", "--out", tmp_path / name)
    for file in ("train.parquet", "test.parquet", "cas.yaml", "labels.csv"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_out_may_name_a_file(tmp_path):
    trees.origa(tmp_path)
    result = prepare("origa", "--root", tmp_path, "--out", tmp_path / "o" / "origa.csv", "--json")
    files = json.loads(result.stdout)["files"]
    assert files["train"].endswith("origa-train.csv")
    assert len(read_manifest(files["test"])) == json.loads(result.stdout)["test"]


@pytest.mark.parametrize(("out", "taken"), [("o", "train.parquet"), ("o/d.csv", "d-copies.csv")])
def test_tables_of_a_person_stay_and_those_of_another_split_go(tmp_path, out, taken):
    trees.origa(tmp_path)
    words = ("origa", "--root", tmp_path, "--out", tmp_path / out)
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / taken).write_bytes(b"mine")
    refused = prepare(*words)
    assert isinstance(refused.exception, InputError)
    assert "is there already" in str(refused.exception)
    assert [one.name for one in (tmp_path / "o").iterdir()] == [taken]
    (tmp_path / "o" / taken).unlink()
    assert prepare(*words).exit_code == 0
    stale = tmp_path / "o" / ("d-copies.csv" if "." in out else "copies.csv")
    stale.write_text("of another split")
    assert prepare(*words).exit_code == 0
    assert not stale.exists()


def test_json_holds_counts_beside_the_papers(tmp_path):
    trees.origa(tmp_path)
    result = prepare("origa", "--root", tmp_path, "--out", tmp_path / "o", "--json")
    shown = json.loads(result.stdout)
    glaucoma = next(row for row in shown["classes"] if row["label"] == "Glaucoma")
    assert (glaucoma["paper_train"], glaucoma["paper_test"]) == (136, 64)
    assert glaucoma["train"] + glaucoma["test"] == 8
    labels = pd.read_csv(tmp_path / "o" / "labels.csv")
    assert labels.to_dict("records") == shown["classes"]


def test_metadata_only_needs_no_image(tmp_path):
    trees.fitzpatrick17k(tmp_path, images=False)
    out = tmp_path / "o"
    options = ("--root", tmp_path, "--out", out, "--metadata-only")
    assert prepare("fitzpatrick17k", *options).exit_code == 0
    assert read_manifest(out / "train.parquet").rows["image"].str.startswith("images/").all()
    refused = prepare("fitzpatrick17k", *options, "--near-duplicates")
    assert isinstance(refused.exception, InputError)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("origo", "--root", "."), "known: fitzpatrick17k, chexpert, breakhis, origa"),
        (("origa", "--root", "nowhere"), "is no folder"),
        (("origa", "--root", ".", "--split", "half"), "no split called 'half'"),
        (("origa", "--root", ".", "--seed", "-1"), "--seed is -1"),
    ],
)
def test_wrong_usage(tmp_path, monkeypatch, arguments, told):
    monkeypatch.chdir(tmp_path)
    result = prepare(*arguments, "--out", "o")
    assert isinstance(result.exception, InputError)
    assert told in str(result.exception)
    assert not (tmp_path / "o").exists()


def test_an_unwritable_folder_is_named(tmp_path):
    trees.origa(tmp_path)
    (tmp_path / "taken").write_text("a file", encoding="utf-8")
    result = prepare("origa", "--root", tmp_path, "--out", tmp_path / "taken" / "o")
    assert isinstance(result.exception, InputError)
    assert "cannot be written" in str(result.exception)


def test_list_says_where_to_get_them_and_under_which_terms():
    shown = json.loads(runner.invoke(app, ["list", "--json"]).stdout)
    assert set(shown) == {"fitzpatrick17k", "chexpert", "breakhis", "origa"}
    for source in shown.values():
        assert source["url"].startswith("https://")
        assert source["terms"]
        assert "paper" in source["splits"]
