"""`cas utility` on phantoms: faithful images help, images of other classes harm, runs resume."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from cas_metric.cli import utility as utility_cli
from cas_metric.downstream import grid
from cas_metric.downstream.grid import REAL_ONLY
from cas_metric.downstream.leaks import made_for_tests, same_images, same_patients
from cas_metric.downstream.pictures import read_pictures
from cas_metric.manifest import read_manifest
from cas_metric.phantoms import make_phantom
from cas_metric.verbs.inputs import named_path

#: Two lung findings that a few convolutions tell apart at 32×32.
CLASSES = ("No Finding", "Pleural Effusion")
SIZE = 32


def write(folder, first, count, *, swapped=False, **columns):
    """``count`` phantoms under their own labels, or under the other one."""
    folder.mkdir(parents=True)
    rows = []
    for k in range(count):
        drawn = CLASSES[(k + swapped) % 2]
        phantom = make_phantom("phantom-chexpert", drawn, first + k, SIZE)
        Image.fromarray(phantom.image).save(folder / f"{k}.png")
        rows.append({"id": f"{folder.name}-{k}", "file_name": f"{k}.png", "label": CLASSES[k % 2]})
    pd.DataFrame(rows).assign(**columns).to_csv(folder / "metadata.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("utility")
    write(root / "train", 0, 24)
    (root / "train" / "cas.yaml").write_text("domain: phantom-chexpert\n")
    write(root / "test", 1000, 120, patient=[f"p{k // 2}" for k in range(120)])
    write(root / "faithful", 2000, 120)
    write(root / "wrong", 3000, 120, swapped=True)
    return root


def invoke(world, out, *options, methods=("faithful", "wrong")):
    arguments = [str(world / "train"), str(world / "test"), *(str(world / m) for m in methods)]
    settings = ["--model", "small", "--size", str(SIZE), "--epochs", "50", "--batch-size", "20"]
    settings += ["--share", "0.5", "--device", "cpu", "--out", str(out), "--json"]
    return CliRunner().invoke(utility_cli.app, [*arguments, *settings, *options])


@pytest.fixture(scope="module")
def run(world, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    found = invoke(world, out, "--seeds", "2", "--scale", "1")
    assert found.exit_code == 0, found.output
    return out, json.loads(found.stdout)


def test_faithful_images_help_and_wrong_ones_harm(run):
    _, summary = run
    accuracy = {entry["method"]: entry["accuracy"]["mean"] for entry in summary["methods"]}
    assert accuracy["faithful"] > accuracy[REAL_ONLY] + 0.05
    assert accuracy["wrong"] < accuracy[REAL_ONLY] - 0.05
    pairs = {(e["left"], e["right"]): e["accuracy"]["images"] for e in summary["comparisons"]}
    assert pairs["faithful", "wrong"]["p_holm"] < 0.01
    assert pairs["faithful", REAL_ONLY]["difference"]["low"] > 0
    assert summary["focus"] == {"method": "faithful", "chosen_after_the_fact": True}


def test_files_of_a_run(run):
    out, summary = run
    table = pd.read_csv(out / "utility.csv")
    assert len(table) == 3 * 2
    assert set(table["n_real"]) == {24}
    assert dict(zip(table["method"], table["n_synthetic"], strict=True)) == {
        REAL_ONLY: 0, "faithful": 120, "wrong": 120,
    }  # fmt: skip
    assert (out / "utility.png").stat().st_size > 5000
    assert "Drawn phantoms" in (out / "utility.md").read_text()
    assert summary["recipe"]["steps"] == 50 * 2


def test_an_interrupted_run_ends_with_the_same_bytes(world, run, tmp_path, monkeypatch):
    out, _ = run
    shutil.copytree(out, tmp_path / "again")
    cells = sorted((tmp_path / "again" / "cells").iterdir())
    (tmp_path / "again" / "summary.json").unlink()
    cells[0].unlink()
    cells[1].write_text("{")  # what a crash may leave of a file that was not written whole
    trained = []
    original = grid.train_and_predict
    monkeypatch.setattr(
        grid, "train_and_predict", lambda *a, **k: trained.append(k) or original(*a, **k)
    )
    found = invoke(world, tmp_path / "again", "--seeds", "2", "--scale", "1")
    assert found.exit_code == 0, found.output
    assert len(trained) == 2
    for name in ("utility.csv", "utility.md"):
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes()
    for cell in cells:
        assert cell.read_bytes() == (out / "cells" / cell.name).read_bytes()


def test_other_settings_do_not_take_over_old_classifiers(world, run, tmp_path):
    out, _ = run
    shutil.copytree(out, tmp_path / "again")
    found = invoke(world, tmp_path / "again", "--seeds", "1", "--scale", "0.5", "--epochs", "1")
    assert found.exit_code == 0, found.output
    assert len(list((tmp_path / "again" / "cells").iterdir())) == 6 + 3


def test_leaks_and_broken_files_are_told(world, tmp_path):
    broken = tmp_path / "gen"
    shutil.copytree(world / "faithful", broken)
    shutil.copyfile(world / "test" / "3.png", broken / "5.png")
    (broken / "7.png").write_bytes(b"no picture")
    table = pd.read_csv(broken / "metadata.csv").assign(reference="")
    labels = pd.read_csv(world / "test" / "metadata.csv").set_index("id")["label"]
    same = labels.index[labels == table["label"].iloc[0]][0]
    table.loc[[0, 1], "reference"] = [same, "train-1"]
    table.to_csv(broken / "metadata.csv", index=False)
    arguments = [str(world / "train"), str(world / "test"), f"mine={broken}", "--model", "small"]
    arguments += ["--size", "16", "--epochs", "1", "--seeds", "1", "--scale", "1", "--json"]
    found = CliRunner().invoke(utility_cli.app, [*arguments, "--out", str(tmp_path / "out")])
    assert found.exit_code == 3, found.output
    summary = json.loads(found.stdout)
    assert [f["image"].rsplit("/", 1)[1] for f in summary["failures"]] == ["7.png"]
    assert "1 of mine are test images" in summary["warnings"][0]
    assert "1 images of mine were made for test images" in summary["warnings"][1]
    assert summary["n_synthetic"] == {"mine": 119}


def test_reencoded_images_and_shared_patients_are_told(world, tmp_path):
    train, test = (pd.read_csv(world / name / "metadata.csv") for name in ("train", "test"))
    shutil.copytree(world / "train", tmp_path / "train")
    for k, other in enumerate(test["file_name"][:3]):  # the same pixels in other bytes
        own = tmp_path / "train" / train["file_name"][k]
        Image.open(world / "test" / other).convert("RGB").save(own, compress_level=1)
    folders = tmp_path / "train", world / "test"
    classes, place = sorted(set(train["label"])), tmp_path / "pictures"
    sets = [read_pictures(read_manifest(one), classes, size=16, folder=place) for one in folders]
    told = same_images(sets[1], {"training": sets[0]})
    assert [one[:40] for one in told] == ["3 of training are other files with the pixels of"[:40]]
    both = [replace(one, rows=one.rows.assign(patient="")) for one in map(read_manifest, folders)]
    assert same_patients(*both) == []
    for one in both:
        one.rows.loc[:1, "patient"] = ["p1", "p2"]
    assert same_patients(*both)[0].startswith("2 of ")


def test_equal_ids_of_another_set_are_no_leak():
    ids, labels = ["0", "1", "2"], ["a", "b", "a"]

    def table(**columns: list[str]) -> SimpleNamespace:
        return SimpleNamespace(rows=pd.DataFrame(columns))

    test = table(id=ids, label=labels, prompt=["of a", "of b", "of a"])
    train = table(id=["7"], label=["a"], prompt=[""])

    def told(labels: list[str], prompts: list[str]) -> list[str]:
        made = table(id=["x", "y", "z"], label=labels, prompt=prompts, reference=ids)
        return made_for_tests(train, test, {"gen": made})

    assert told(["a", "b", "a"], ["", "", ""])  # nothing contradicts
    assert told(["b", "a", "b"], ["of a", "of b", "of a"])  # wrong on purpose, for these prompts
    assert told(["a", "a", "b"], ["other"] * 3) == []
    assert told(["a", "a", "b"], [""] * 3) == []


def test_wrong_input_is_refused(world, tmp_path):
    for options, words in (
        (("--focus", "nobody"), "no method 'nobody'"),
        (("--batch-size", "32", "--share", "0.2"), "no whole number"),
        (("--weights", "resnet.pth"), "only safetensors"),
        (("--scale", "2"), "a share of the real images"),
    ):
        found = invoke(world, tmp_path / "out", *options)
        assert words in str(found.exception), found.output


def test_names_of_methods(tmp_path):
    assert named_path(f"mine={tmp_path}") == ("mine", tmp_path)
    odd = tmp_path / "a=b"
    odd.mkdir()
    assert named_path(str(odd)) == ("a=b", odd)
