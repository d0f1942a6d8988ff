"""Blanks, Unicode forms and case: one name stays one name, and every change is told."""

from __future__ import annotations

import unicodedata

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cas_metric.domains.model import normalise
from cas_metric.manifest import pair, preflight, read_manifest
from cas_metric.manifest.cleaning import unify_labels
from cas_metric.scoring.inputs import prepare

NFC, NFD = (unicodedata.normalize(form, "Käse é") for form in ("NFC", "NFD"))


def table(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(path)
    return path


def test_blanks_make_no_names_of_their_own(tmp_path):
    path = table(
        tmp_path / "m.csv",
        "image, label,method , patient,seed,site\n"
        "a.png, A,craft,p1 , 3,north \n"
        "b.png,A,craft , p1,3 ,north\n"
        'c.png,"A\u00a0",craft,p1,3,north\n',
    )
    manifest = read_manifest(path)
    for column, expected in (("label", "A"), ("method", "craft"), ("patient", "p1"), ("seed", 3)):
        assert manifest.rows[column].unique().tolist() == [expected]
    assert manifest.extra["site"].unique().tolist() == ["north"]
    told = "\n".join(manifest.notes)
    assert "blanks around 2 cells of 'label' left aside (' A' is A)" in told
    for column in ("method", "patient", "seed", "site"):
        assert f"cells of {column!r}" in told


def test_prompts_stay_as_written(tmp_path):
    path = table(tmp_path / "m.csv", f'image,prompt\na.png," two  blanks {NFD} "\n')
    assert read_manifest(path).rows["prompt"].tolist() == [f" two  blanks {NFD} "]


def test_names_in_two_unicode_forms_meet(tmp_path):
    assert NFC != NFD
    picture(tmp_path / NFD / f"{NFD}.png")
    real = read_manifest(
        table(tmp_path / "r.csv", f"id,image,label\n{NFD},{NFC}/{NFC}.png,{NFD}\n")
    )
    gen = read_manifest(table(tmp_path / "g.csv", f"id,image,label\n{NFC},{NFD}/{NFD}.png,{NFC}\n"))
    by_image = read_manifest(
        table(tmp_path / "i.csv", f"id,image,reference\nx,{NFD}/{NFD}.png,{NFC}/{NFC}.png\n")
    )
    assert real.rows["label"].tolist() == gen.rows["label"].tolist() == [NFC]
    assert preflight(gen, real, None) == []
    for generated in (gen, by_image):
        assert pair(generated, real)["reference_row"].tolist() == [0]
    assert normalise(NFC) == normalise(NFD)
    assert any("spelt otherwise" in note for note in real.notes)


def test_a_folder_scan_and_a_table_meet(tmp_path):
    picture(tmp_path / "scan" / f"{NFD}.png")
    gen = read_manifest(table(tmp_path / "g.csv", f"image\n{NFC}.png\n"))
    assert pair(gen, read_manifest(tmp_path / "scan"))["reference_row"].tolist() == [0]


@pytest.mark.parametrize(
    ("written", "file"),
    [
        (" a.png", "a.png"),
        ("a.PNG", "a.png"),
        ("images/a.png", "Images/A.png"),
        ("images\\a.png", "images/a.png"),
        ("a.png ", "a.png"),
        (f"{NFC}.png", f"{NFD}.png"),
    ],
)
def test_files_whose_names_are_nearly_those(tmp_path, written, file):
    picture(tmp_path / file)
    path = tmp_path / "m.jsonl"
    pd.DataFrame({"image": [written]}).to_json(path, orient="records", lines=True)
    manifest = read_manifest(path)
    assert manifest.path(0) == tmp_path / file
    assert "1 images are files whose names are spelt otherwise" in manifest.notes[0]


def test_a_name_that_could_mean_two_files_stays(tmp_path):
    for name in ("A.png", "a.PNG"):
        picture(tmp_path / name)
    picture(tmp_path / " b.png")
    path = table(tmp_path / "m.csv", "image\na.png\n b.png\nc.png\n")
    manifest = read_manifest(path)
    assert manifest.rows["image"].tolist() == ["a.png", " b.png", "c.png"]
    problems = preflight(manifest, manifest, None)
    assert sum("no such file" in line for line in problems) == 4  # a.png and c.png, on both sides


def test_labels_that_differ_in_case_are_one_class_without_a_domain(tmp_path):
    for name in ("a", "b", "c", "d"):
        picture(tmp_path / f"{name}.png")
    text = "image,label\na.png,{}\nb.png,{}\nc.png,{}\nd.png,{}\n"
    gen = read_manifest(table(tmp_path / "g.csv", text.format("nevus", "NEVUS", "-1", "1")))
    real = read_manifest(table(tmp_path / "r.csv", text.format("Nevus", "Nevus", "-1", "1")))
    assert preflight(gen, real, None) != []  # as they are, labels contradict those of the partners
    inputs = prepare(gen, real)
    assert inputs.classes == ("-1", "1", "Nevus")
    assert inputs.generated["label"].tolist() == ["Nevus", "Nevus", "-1", "1"]
    assert "labels that differ in case only are one class: 'NEVUS' is Nevus, 'nevus' is Nevus" in (
        inputs.notes
    )
    unified, notes = unify_labels([real])
    assert (unified[0], notes) == (real, [])


def folder(path, labels):
    """Random pictures with these labels."""
    rng = np.random.default_rng(len(labels))
    for number, _ in enumerate(labels):
        path.mkdir(exist_ok=True)
        pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path / f"{number}.png")
    rows = [f"{number}.png,{label}\n" for number, label in enumerate(labels)]
    table(path / "metadata.csv", "image,label\n" + "".join(rows))
    return path


def test_classifiers_and_trainers_see_the_same_classes(tmp_path):
    from cas_metric.verbs.utility import _read
    from craft_trainer.data.dataset import read_examples

    train = folder(tmp_path / "train", ["Nevus", "Nevus", "Melanoma", "nevus", "Melanoma"])
    test = folder(tmp_path / "test", ["nevus", "MELANOMA"])
    made = folder(tmp_path / "made", ["nevus", "melanoma", "Nevus"])
    options = {"size": 16, "folder": tmp_path / "out", "num_workers": 1, "progress": None}
    found = _read((train, test), {"made": made}, **options, offline=True)
    for one in (found.train, found.test, found.methods["made"]):
        assert set(one.rows["label"]) <= {"Nevus", "Melanoma"}
    assert "'MELANOMA' is Melanoma" in found.train.notes[-1]
    examples = read_examples(train, None)
    assert examples.classes == ("Melanoma", "Nevus")
    assert "differ in case only" in examples.manifest.notes[-1]


def test_classifiers_see_one_class_where_the_domain_knows_two_names(tmp_path):
    from cas_metric.verbs.utility import _read

    train = folder(tmp_path / "train", ["healthy", "Glaucoma", "Normal"])
    test = folder(tmp_path / "test", ["glaucoma", "non-glaucoma"])
    (test / "cas.yaml").write_text("domain: origa\n")
    options = {"size": 16, "folder": tmp_path / "out", "num_workers": 1, "progress": None}
    found = _read((train, test), {}, **options, offline=True)
    assert found.real.classes.tolist() == [1, 0, 1]
    assert set(found.train.rows["label"]) == {"Glaucoma", "Normal"}
