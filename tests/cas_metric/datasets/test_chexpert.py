"""CheXpert's four-class subset: the rule, on made-up rows and on the real training table."""

from __future__ import annotations

import csv
import gzip
import importlib.metadata
import time
from collections import Counter
from pathlib import Path

import pytest
from tests.support import clinical_trees as trees

from cas_metric.datasets import Request, chexpert, prepare
from cas_metric.errors import InputError

FOUR = ("No Finding", "Cardiomegaly", "Pneumonia", "Pleural Effusion")


def real_table() -> Path | None:
    """The training CSV that torchxrayvision carries; the package need not be imported."""
    try:
        files = importlib.metadata.files("torchxrayvision") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = [Path(str(f.locate())) for f in files if f.name == "chexpert_train.csv.gz"]
    return found[0] if found and found[0].is_file() else None


def oracle(rows) -> dict[str, str]:
    """Path to label of the subset, by the words of the rule."""
    subset = {}
    for row in rows:
        values = {name: float(row[name]) if row[name] else None for name in FOUR}
        ones = [name for name, value in values.items() if value == 1]
        others = [value for name, value in values.items() if name not in ones]
        if row["Frontal/Lateral"] == "Frontal" and len(ones) == 1 and -1 not in others:
            subset[row["Path"].partition("/")[2]] = ones[0]
    return subset


@pytest.fixture(scope="module")
def expected() -> dict[str, str]:
    path = real_table()
    if path is None:
        pytest.skip("torchxrayvision is not installed")
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 223_414
    return oracle(rows)


@pytest.mark.parametrize("split", ["paper", "patient"])
def test_real_training_table(expected, split, capsys):
    path = real_table()
    start = time.perf_counter()
    preparation = prepare(Request("chexpert", path.parent, split=split, metadata_only=True))
    with capsys.disabled():
        print(f"\n223,414 rows, --split {split}: {time.perf_counter() - start:.1f} s")

    train, test = preparation.train, preparation.test
    assert not set(train["patient"]) & set(test["patient"])
    for side in (train, test):
        assert all(expected[i] == label for i, label in side[["image", "label"]].values)
    drawn = Counter(train["label"]) + Counter(test["label"])
    if split == "patient":
        assert drawn == Counter(expected.values())
        assert drawn == {
            "No Finding": 16_974,
            "Cardiomegaly": 10_405,
            "Pneumonia": 2_779,
            "Pleural Effusion": 57_589,
        }
        for label in FOUR:
            assert abs((train["label"] == label).sum() - (test["label"] == label).sum()) < 100
    else:
        assert preparation.differences == []  # the counts of Table 20
        assert (len(train), len(test)) == (495, 495)
        assert len({*train["patient"], *test["patient"]}) == 990


@pytest.fixture
def tree(tmp_path):
    trees.chexpert(tmp_path)
    return tmp_path


def test_rule_on_made_up_rows(tree):
    with (tree / "CheXpert-v1.0-small" / "train.csv").open(encoding="utf-8") as stream:
        expected = oracle(csv.DictReader(stream))
    collection = chexpert.read(tree, "patient")
    found = dict(collection.records[["image", "label"]].values)
    assert found == {f"CheXpert-v1.0-small/{key}": label for key, label in expected.items()}
    assert len(found) == 4 * 12


@pytest.mark.parametrize("split", ["paper", "patient", "official"])
def test_every_split_is_patient_disjoint_and_its_images_exist(tree, split):
    preparation = prepare(Request("chexpert", tree, split=split))
    sides = preparation.train, preparation.test
    assert not set(sides[0]["patient"]) & set(sides[1]["patient"])
    assert all((preparation.root / image).is_file() for side in sides for image in side["image"])
    assert all(set(side["label"]) == set(FOUR) for side in sides)


def test_root_may_be_the_folder_itself_or_a_doubled_one(tmp_path):
    trees.chexpert(tmp_path / "CheXpert-v1.0-small")
    inner = tmp_path / "CheXpert-v1.0-small" / "CheXpert-v1.0-small"
    ids = [prepare(Request("chexpert", root)).train["id"].tolist() for root in (tmp_path, inner)]
    assert ids[0] == ids[1]


@pytest.mark.parametrize("written", ["", "CheXpert-v1.0/", "CheXpert-v1.0-small/"])
@pytest.mark.parametrize("archive", ["CheXpert-v1.0", "CheXpert-v1.0-small", "archive"])
@pytest.mark.parametrize("inside", [True, False])
def test_prefixes_and_places_of_the_table(tmp_path, written, archive, inside):
    """Both sizes; a host that unpacks them without their folder; a table that lies above it."""
    base = trees.chexpert(tmp_path)
    expected = prepare(Request("chexpert", tmp_path)).train["id"].tolist()
    for name in ("train.csv", "valid.csv"):
        text = (base / name).read_text(encoding="utf-8")
        (base / name).write_text(text.replace("CheXpert-v1.0-small/", written), encoding="utf-8")
    folder = base.rename(tmp_path / archive)
    if not inside and archive != "archive":
        (folder / "train.csv").rename(tmp_path / "train.csv")
        (folder / "valid.csv").rename(tmp_path / "valid.csv")
    for split in ("paper", "official"):
        preparation = prepare(Request("chexpert", tmp_path, split=split))
        images = [*preparation.train["image"], *preparation.test["image"]]
        assert all((preparation.root / image).is_file() for image in images)
    assert prepare(Request("chexpert", tmp_path)).train["id"].tolist() == expected


def test_few_data_keep_the_papers_proportion_and_say_so(tree):
    preparation = prepare(Request("chexpert", tree))
    assert Counter(preparation.train["label"]) == dict.fromkeys(FOUR, 4)
    assert any("Table 20 says 495" in line for line in preparation.differences)


def test_shots_are_seeded_and_nested(tree):
    def ids(shots, seed=42):
        request = Request("chexpert", tree, split="patient", shots=shots, seed=seed)
        return set(prepare(request).train["id"])

    assert ids(2) < ids(4)
    assert len(ids(4)) == 16
    with pytest.raises(InputError, match="50 shots"):
        ids(50)
    with pytest.raises(InputError, match="--shots is 0"):
        ids(0)


def test_official_needs_the_validation_table(tmp_path):
    trees.chexpert(tmp_path, valid=False, images=False)
    with pytest.raises(InputError, match=r"valid\.csv was not found") as caught:
        prepare(Request("chexpert", tmp_path, split="official", metadata_only=True))
    assert "stanfordmlgroup" in caught.value.fix


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("Frontal/Lateral", "View", "no column 'Frontal/Lateral'"),
        (",1.0", ",2.0", "line 2: No Finding is '2.0'"),
        ("patient00001", "p1", "line 2: Path is"),
        ("AP,", "AP,,", "line 2: 20 fields where the header has 19"),
        ("Frontal,AP", "frontal?,AP", "line 2: Frontal/Lateral is 'frontal?'"),
        ("patient00002", "patient00001", "stands in several lines"),
    ],
)
def test_malformed_tables_name_their_line(tmp_path, old, new, told):
    base = trees.chexpert(tmp_path, images=False)
    path = base / "train.csv"
    path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError, match=r"train\.csv") as caught:
        prepare(Request("chexpert", tmp_path, metadata_only=True))
    assert told in str(caught.value)
