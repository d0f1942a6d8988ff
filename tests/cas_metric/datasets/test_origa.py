"""ORIGA: two forms of its table, the official sets, and the paper's impossible counts."""

from __future__ import annotations

from collections import Counter

import pytest
from tests.support import clinical_trees as trees

from cas_metric.datasets import Request, prepare
from cas_metric.datasets.paper_tables import LABEL_TABLES, count_classes
from cas_metric.datasets.splits import paper_quotas
from cas_metric.errors import InputError


@pytest.mark.parametrize("form", ["list", "info"])
def test_both_tables_give_the_same(tmp_path, form):
    trees.origa(tmp_path / form, form=form)
    preparation = prepare(Request("origa", tmp_path / form))
    sides = preparation.train, preparation.test
    labels = {i: label for side in sides for i, label in side[["id", "label"]].values}
    assert labels == {f"{n:03d}": "Glaucoma" if n > 20 else "Normal" for n in range(1, 29)}
    for side in sides:
        assert all(image.startswith("Images/") for image in side["image"])
        assert all((preparation.root / image).is_file() for image in side["image"])


def test_a_tree_of_several_data_sets_with_both_tables(tmp_path):
    inner = tmp_path / "glaucoma" / "ORIGA" / "ORIGA"
    trees.origa(inner, form="info")
    trees.origa(inner)
    trees.write_image(tmp_path / "glaucoma" / "G1020" / "Images" / "001.jpg", 900)
    preparation = prepare(Request("origa", tmp_path, split="official"))
    assert list(preparation.files) == ["glaucoma/ORIGA/ORIGA/OrigaList.csv"]
    assert len(preparation.train) + len(preparation.test) == 28
    for image in (*preparation.train["image"], *preparation.test["image"]):
        assert image.startswith("glaucoma/ORIGA/ORIGA/Images/")


def test_quoted_file_names(tmp_path):
    path = trees.origa(tmp_path)
    text = path.read_text(encoding="utf-8").replace("001.jpg", "'001.jpg'")
    path.write_text(text, encoding="utf-8")
    preparation = prepare(Request("origa", tmp_path))
    assert "001" in {*preparation.train["id"], *preparation.test["id"]}


def test_official_sets_a_and_b(tmp_path):
    trees.origa(tmp_path)
    preparation = prepare(Request("origa", tmp_path, split="official"))
    assert all(int(i) % 2 == 0 for i in preparation.train["id"])
    assert all(int(i) % 2 == 1 for i in preparation.test["id"])


def test_official_split_needs_the_sets(tmp_path):
    trees.origa(tmp_path, form="info")
    with pytest.raises(InputError, match="which set") as caught:
        prepare(Request("origa", tmp_path, split="official"))
    assert "OrigaList.csv" in caught.value.fix


def test_of_the_real_counts_the_test_side_follows_table_22():
    labels = ["Normal"] * 482 + ["Glaucoma"] * 168
    quotas = paper_quotas(labels, LABEL_TABLES["origa"].rows, keep_all=True)
    assert quotas == {"Normal": (350, 132), "Glaucoma": (104, 64)}
    train = [name for name, (n, _) in quotas.items() for _ in range(n)]
    test = [name for name, (_, n) in quotas.items() for _ in range(n)]
    assert (len(train), len(test)) == (454, 196)
    assert count_classes("origa", train, test)[1] == [
        "Normal, train: 350, Table 22 says 318",
        "Glaucoma, train: 104, Table 22 says 136",
    ]


def test_differences_from_the_official_split_are_named(tmp_path):
    trees.origa(tmp_path)
    notes = prepare(Request("origa", tmp_path)).notes
    assert any("325 images each" in note for note in notes)
    assert any("482 and 168" in note for note in notes)


def test_split_is_seeded_and_disjoint(tmp_path):
    trees.origa(tmp_path)
    first, again = (prepare(Request("origa", tmp_path)) for _ in range(2))
    other = prepare(Request("origa", tmp_path, seed=1))
    assert first.test["id"].tolist() == again.test["id"].tolist() != other.test["id"].tolist()
    assert not set(first.train["id"]) & set(first.test["id"])
    assert Counter(first.test["label"]) == Counter(other.test["label"])


def test_patients_are_not_known(tmp_path):
    with pytest.raises(InputError, match="no patients"):
        prepare(Request("origa", tmp_path, split="patient"))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("Glaucoma", "Label", "no column 'Glaucoma'"),
        (",0.5,A,0", ",0.5,C,0", "Set is 'C'"),
        (",0.5,A,0", ",0.5,A,yes", "Glaucoma is 'yes'"),
        ("003.jpg", "001.jpg", "stands in several lines (2, 4)"),
        ("003.jpg", "", "line 4: Filename is ''"),
    ],
)
def test_malformed_tables_name_their_line(tmp_path, old, new, told):
    path = trees.origa(tmp_path)
    path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        prepare(Request("origa", tmp_path))
    assert told in str(caught.value)


def test_missing_image_folder(tmp_path):
    trees.origa(tmp_path)
    (tmp_path / "Images").rename(tmp_path / "pictures")
    with pytest.raises(InputError, match="28 of 28 images are missing") as caught:
        prepare(Request("origa", tmp_path, allow_missing=True))
    assert "beside Images/" in caught.value.fix
