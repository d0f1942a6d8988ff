"""The public Fitzpatrick17k split, against an oracle written from its description alone."""

from __future__ import annotations

import csv
import hashlib
import shutil

import numpy as np
import pandas as pd
import pytest
from tests.support import clinical_trees as trees
from tests.support.real_data import real_data

from cas_metric.datasets import Request, fitzpatrick17k, prepare, write
from cas_metric.datasets.paper_tables import LABEL_TABLES
from cas_metric.errors import InputError

#: Where the public split departs from Table 19; together the nine images that its sum lacks.
REAL_DIFFERENCES = [
    "Table 19 of the paper: the train rows add up to 3,091, the total below them says 3,100",
    "Squamous Cell Carcinoma, train: 290, Table 19 says 288",
    "Allergic Contact Dermatitis, train: 215, Table 19 says 214",
    "Sarcoidosis, train: 174, Table 19 says 173",
    "Scabies, train: 170, Table 19 says 169",
    "Eczema, train: 102, Table 19 says 101",
    "Vitiligo, train: 83, Table 19 says 80",
]


def oracle(path) -> tuple[list[str], list[str]]:
    with path.open(encoding="utf-8") as stream:
        rows = [(row["label"], row["md5hash"]) for row in csv.DictReader(stream)]
    train = []
    for label in sorted(trees.CONDITIONS[:20]):
        hashes = [md5 for name, md5 in rows if name == label]
        chosen = np.random.RandomState(42).choice(
            len(hashes), round(0.5 * len(hashes)), replace=False
        )
        train += [hashes[i] for i in chosen]
    wanted = set(trees.CONDITIONS[:20])
    return train, [md5 for name, md5 in rows if name in wanted and md5 not in set(train)]


@pytest.fixture
def root(tmp_path):
    trees.fitzpatrick17k(tmp_path, per_class=7, images=False, seed=3)
    return tmp_path


def request(root, **options):
    return Request("fitzpatrick17k", root, **{"metadata_only": True, **options})


def test_lists_equal_the_oracle_in_order(root):
    preparation = prepare(request(root))
    train, test = oracle(root / "fitzpatrick17k.csv")
    assert preparation.train["id"].tolist() == train
    assert preparation.test["id"].tolist() == test
    assert (
        len(set(train) | set(test)) == len(train) + len(test) == sum(7 + i % 3 for i in range(20))
    )


def test_the_real_csv_gives_the_documented_lists(tmp_path):
    root = real_data("fitzpatrick17k")
    content = (root / "fitzpatrick17k.csv").read_bytes()
    assert hashlib.sha256(content).hexdigest() == fitzpatrick17k.CSV_SHA256
    preparation = prepare(request(root))
    assert any("documented public ones" in note for note in preparation.notes)
    sides = {"train": fitzpatrick17k.TRAIN_SHA256, "test": fitzpatrick17k.TEST_SHA256}
    paths = write(preparation, tmp_path)
    for side, documented in sides.items():  # as they are written, by an independent hash
        ids = pd.read_parquet(paths[side])["id"]
        lines = "".join(f"{md5}\n" for md5 in ids).encode()
        assert hashlib.sha256(lines).hexdigest() == documented
        assert len(ids) == LABEL_TABLES["fitzpatrick17k"].total[0] == 3100
    assert preparation.differences == REAL_DIFFERENCES
    assert len({*preparation.train["id"], *preparation.test["id"]}) == 6200


def test_the_real_csv_without_images_says_what_to_do():
    with pytest.raises(InputError, match="images are missing or empty") as caught:
        prepare(request(real_data("fitzpatrick17k"), metadata_only=False))
    assert "--metadata-only" in caught.value.fix


def test_labels_are_class_names_and_other_conditions_stay_out(root):
    preparation = prepare(request(root))
    labels = set(preparation.train["label"]) | set(preparation.test["label"])
    assert len(labels) == 20
    assert "Lupus Erythematosus" in labels
    assert "Urticaria" not in labels


def test_another_seed_gives_another_split_of_the_same_sizes(root):
    first, second = prepare(request(root)), prepare(request(root, seed=43))
    assert len(first.train) == len(second.train)
    assert set(first.train["id"]) != set(second.train["id"])


def test_hash_of_a_list_is_that_of_lines():
    joined = hashlib.sha256(b"aa\nbb\n").hexdigest()
    assert fitzpatrick17k.list_sha256(["aa", "bb"]) == joined


def test_documented_hashes_are_compared_when_the_csv_is_the_public_one(root, monkeypatch):
    path = root / "fitzpatrick17k.csv"
    monkeypatch.setattr(fitzpatrick17k, "CSV_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(InputError, match="documented"):
        prepare(request(root))
    for name, hashes in zip(("TRAIN_SHA256", "TEST_SHA256"), oracle(path), strict=True):
        monkeypatch.setattr(fitzpatrick17k, name, fitzpatrick17k.list_sha256(hashes))
    assert any("documented public ones" in note for note in prepare(request(root)).notes)


def test_a_csv_that_is_not_the_public_one_is_named_so(root):
    assert any("not the public file" in note for note in prepare(request(root)).notes)


def test_contradiction_in_the_papers_own_table_is_named(root):
    assert any(
        "add up to 3,091, the total below them says 3,100" in line
        for line in prepare(request(root)).differences
    )


def test_images_are_found_whatever_their_folder_and_case(tmp_path):
    trees.fitzpatrick17k(tmp_path / "unpacked", per_class=2)
    (tmp_path / "unpacked" / "images").rename(tmp_path / "unpacked" / "Data")
    first = next((tmp_path / "unpacked" / "Data").iterdir())
    first.rename(first.with_suffix(".JPG"))
    (tmp_path / "unpacked" / "fitzpatrick17k.csv").rename(
        tmp_path / "unpacked" / "Fitzpatrick17k.CSV"
    )
    preparation = prepare(request(tmp_path, metadata_only=False))
    for image in preparation.train["image"]:
        assert (preparation.root / image).is_file()


def test_missing_and_empty_images_are_named_with_a_way_out(tmp_path):
    trees.fitzpatrick17k(tmp_path, per_class=4)
    files = sorted((tmp_path / "images").iterdir())
    listed = prepare(request(tmp_path)).train["id"].tolist()
    gone = next(file for file in files if file.stem == listed[0])
    hollow = next(file for file in files if file.stem == listed[1])
    gone.unlink()
    hollow.write_bytes(b"")
    with pytest.raises(InputError) as caught:
        prepare(request(tmp_path, metadata_only=False))
    told = str(caught.value)
    assert f"{gone.name} (missing)" in told
    assert f"{hollow.name} (empty)" in told
    assert "github.com/mattgroh/fitzpatrick17k" in told
    assert "--allow-missing" in told

    kept = prepare(request(tmp_path, metadata_only=False, allow_missing=True))
    assert set(listed) - set(kept.train["id"]) == {gone.stem, hollow.stem}
    assert kept.test["id"].tolist() == prepare(request(tmp_path)).test["id"].tolist()


def test_copies_across_the_split_are_listed(tmp_path):
    trees.fitzpatrick17k(tmp_path, per_class=4)
    plain = prepare(request(tmp_path))
    one, other = plain.train["id"].iloc[0], plain.test["id"].iloc[0]
    shutil.copy(tmp_path / "images" / f"{one}.jpg", tmp_path / "images" / f"{other}.jpg")
    preparation = prepare(request(tmp_path, metadata_only=False))
    assert preparation.copies[["side", "id"]].values.tolist() == [["train", one], ["test", other]]
    assert "1 sets of identical files lie on both sides" in preparation.notes


def test_near_duplicates_stay_on_one_side_when_asked(tmp_path):
    from PIL import Image

    trees.fitzpatrick17k(tmp_path, per_class=4)
    plain = prepare(request(tmp_path))
    label = plain.train["label"].iloc[0]
    one = plain.train["id"].iloc[0]
    other = plain.test.loc[plain.test["label"] == label, "id"].iloc[0]
    with Image.open(tmp_path / "images" / f"{one}.jpg") as image:
        image.resize((40, 40)).save(tmp_path / "images" / f"{other}.jpg", quality=80)

    listed = prepare(request(tmp_path, metadata_only=False, near_duplicates=True))
    near = listed.copies[listed.copies["kind"] == "near"]
    assert {one, other} <= set(near["id"])

    parted = prepare(request(tmp_path, metadata_only=False, split="duplicate-disjoint"))
    sides = [{one, other} & set(side["id"]) for side in (parted.train, parted.test)]
    assert sorted(map(len, sides)) == [0, 2]


@pytest.mark.parametrize(
    ("split", "told"), [("patient", "names no patients"), ("official", "no official"), ("x", "'x'")]
)
def test_splits_that_cannot_be_made_are_explained(root, split, told):
    with pytest.raises(InputError, match=told) as caught:
        prepare(request(root, split=split))
    assert "duplicate-disjoint" in caught.value.fix
