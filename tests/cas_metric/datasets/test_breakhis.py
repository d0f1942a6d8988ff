"""BreakHis: everything is in the file names, and one slide carries two labels."""

from __future__ import annotations

import re
import shutil
from collections import Counter

import pytest
from tests.support import clinical_trees as trees

from cas_metric.datasets import Request, breakhis, prepare
from cas_metric.datasets.paper_tables import LABEL_TABLES
from cas_metric.datasets.splits import draw, paper_quotas
from cas_metric.errors import InputError


@pytest.mark.parametrize("doubled", [True, False])
def test_only_images_at_100x(tmp_path, doubled):
    trees.breakhis(tmp_path, doubled=doubled)
    preparation = prepare(Request("breakhis", tmp_path))
    every = [*preparation.train["image"], *preparation.test["image"]]
    assert len(every) == len(set(every)) == 8 * 3 * 4
    assert all("/100X/" in image and "-100-" in image for image in every)
    assert all((preparation.root / image).is_file() for image in every)


def test_labels_come_from_the_codes(tmp_path):
    trees.breakhis(tmp_path)
    records = breakhis.read(tmp_path, "paper").records
    for image, label in records[["image", "label"]].values:
        assert f"/{label.lower().replace(' ', '_')}/" in image


def test_root_may_be_any_folder_on_the_way(tmp_path):
    breast = trees.breakhis(tmp_path)
    for root in (breast, breast.parent, breast.parent.parent):
        assert len(breakhis.read(root, "paper").records) == 96


def test_the_archive_of_a_host_that_doubles_its_folder_and_adds_a_table(tmp_path):
    trees.breakhis(tmp_path / "breakhis" / "archive")
    (tmp_path / "breakhis" / "archive" / "Folds.csv").write_text("fold,mag,grp,filename\n")
    collection = breakhis.read(tmp_path, "paper")
    assert len(collection.records) == 96
    prefix = "breakhis/archive/BreaKHis_v1/BreaKHis_v1/histology_slides/breast/"
    assert all(image.startswith(prefix) for image in collection.records["image"])


def test_upper_and_lower_case(tmp_path):
    breast = trees.breakhis(tmp_path)
    breast.rename(breast.parent / "Breast")
    (breast.parent / "Breast" / "benign").rename(breast.parent / "Breast" / "Benign")
    image = next((breast.parent / "Breast").rglob("*-100-001.png"))
    image.rename(image.with_suffix(".PNG"))
    assert len(breakhis.read(tmp_path, "paper").records) == 96


def test_slide_with_two_labels_is_named_and_stays_whole(tmp_path):
    trees.breakhis(tmp_path)
    preparation = prepare(Request("breakhis", tmp_path, split="patient"))
    note = next(note for note in preparation.notes if "14-13412" in note)
    assert "Ductal Carcinoma, Lobular Carcinoma" in note
    assert not set(preparation.train["patient"]) & set(preparation.test["patient"])
    assert len(set(preparation.train["label"])) == len(set(preparation.test["label"])) == 8


def test_papers_split_is_by_image_and_says_how_many_slides_it_shares(tmp_path):
    trees.breakhis(tmp_path)
    preparation = prepare(Request("breakhis", tmp_path))
    shared = set(preparation.train["patient"]) & set(preparation.test["patient"])
    slides = set(preparation.train["patient"]) | set(preparation.test["patient"])
    assert shared
    assert any(
        note.startswith(f"{len(shared)} of {len(slides)} slides") for note in preparation.notes
    )
    assert Counter(preparation.train["label"]) == Counter(preparation.test["label"])


def test_with_all_2081_images_the_counts_are_those_of_table_21():
    table = LABEL_TABLES["breakhis"]
    labels = [name for name, (train, test) in table.rows.items() for _ in range(train + test)]
    assert len(labels) == 2081
    drawn = draw(labels, paper_quotas(labels, table.rows, keep_all=True), seed=0)
    assert {
        name: (
            sum(labels[i] == name for i in drawn.train),
            sum(labels[i] == name for i in drawn.test),
        )
        for name in table.rows
    } == table.rows
    assert sorted([*drawn.train, *drawn.test]) == list(range(2081))


def test_two_copies_of_the_tree_are_refused(tmp_path):
    breast = trees.breakhis(tmp_path)
    shutil.copytree(breast / "benign", breast / "more" / "benign")
    image = next((breast / "benign").rglob("*-100-001.png"))
    shutil.copy(image, image.parent.parent / image.name)
    with pytest.raises(InputError, match=re.escape(image.name)):
        breakhis.read(tmp_path, "paper")


def test_contradicting_folder_is_refused(tmp_path):
    breast = trees.breakhis(tmp_path)
    image = next((breast / "benign").rglob("*-100-001.png"))
    target = breast / "malignant" / "SOB" / "x" / "100X"
    target.mkdir(parents=True)
    image.rename(target / image.name)
    with pytest.raises(InputError, match="contradicts their name"):
        breakhis.read(tmp_path, "paper")


def test_incomplete_trees_say_what_is_missing(tmp_path):
    with pytest.raises(InputError, match="no folder with benign/ and malignant/") as caught:
        breakhis.read(tmp_path, "paper")
    assert "inf.ufpr.br" in caught.value.fix
    breast = trees.breakhis(tmp_path)
    shutil.rmtree(breast / "malignant")
    with pytest.raises(InputError, match="'Ductal Carcinoma' has 0 images"):
        prepare(Request("breakhis", tmp_path))


def test_foreign_files_are_counted_not_read(tmp_path):
    breast = trees.breakhis(tmp_path)
    (breast / "benign" / "thumbnail.png").write_bytes(b"x")
    (breast / "benign" / "._SOB_B_A-14-1-100-001.png").write_bytes(b"x")
    collection = breakhis.read(tmp_path, "paper")
    assert len(collection.records) == 96
    assert any("1 files with other names" in note for note in collection.notes)


def test_no_official_split(tmp_path):
    with pytest.raises(InputError, match="70/30"):
        prepare(Request("breakhis", tmp_path, split="official"))
