"""Generated tables: an error that names the cause, or exactly what an independent reader finds."""

from __future__ import annotations

import csv
import gzip
import io
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import clinical_trees as trees
from tests.support.fuzzing import FUZZ, garbled

from cas_metric.datasets import DATASETS
from cas_metric.datasets.paper_tables import LABEL_TABLES
from cas_metric.datasets.splits import few_shot, paper_quotas, split_groups
from cas_metric.errors import CasError

FOUR = ("no finding", "cardiomegaly", "pneumonia", "pleural effusion")


def rows_of(text: str) -> Iterator[dict[str, str]]:
    """Rows with lower-case keys, as Python's own reader sees them after leading blank lines."""
    for row in csv.DictReader(io.StringIO(text.lstrip("\ufeff\r\n"), newline="")):
        yield {(key or "").strip().lower(): value for key, value in row.items()}


def chexpert_truth(text: str) -> dict[str, str]:
    truth = {}
    for row in rows_of(text):
        given_values = [row[name] for name in FOUR]
        positive = [
            name for name, value in zip(FOUR, given_values, strict=True) if value[:1] == "1"
        ]
        clean = not any(value.startswith("-1") for value in given_values)
        if row["frontal/lateral"] == "Frontal" and len(positive) == 1 and clean:
            key = re.sub(r"^CheXpert-v1\.0(-small)?/", "", row["path"])
            truth[key.removesuffix(".jpg").replace("/", "-")] = positive[0]
    return truth


def fitzpatrick_truth(text: str) -> dict[str, str]:
    known = set(trees.CONDITIONS[:20])
    labels = ((row["md5hash"], row["label"].strip().casefold()) for row in rows_of(text))
    return {md5: label for md5, label in labels if label in known}


def origa_truth(text: str) -> dict[str, str]:
    names = {"0": "normal", "1": "glaucoma"}
    return {
        re.split(r"[/\\]", row["filename"].strip(" '\""))[-1].rpartition(".")[0]: names[
            row["glaucoma"]
        ]
        for row in rows_of(text)
    }


def build() -> dict[str, tuple[str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        files = {
            "chexpert": trees.chexpert(root, per_class=3, images=False) / "train.csv",
            "fitzpatrick17k": trees.fitzpatrick17k(root, per_class=2, images=False),
            "origa": trees.origa(root, normal=6, glaucoma=4),
        }
        return {name: (path.name, path.read_text("utf-8")) for name, path in files.items()}


TABLES = build()
TRUTH = {"chexpert": chexpert_truth, "fitzpatrick17k": fitzpatrick_truth, "origa": origa_truth}


@settings(max_examples=FUZZ, deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(TABLES)))
def test_garbled_tables(data, name):
    file, text = TABLES[name]
    changed = data.draw(garbled(text))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, file).write_bytes(changed.encode())
        try:
            records = DATASETS[name].read(Path(folder), "paper").records
        except CasError:
            return
    found = {key: label.casefold() for key, label in records[["id", "label"]].values}
    assert found == TRUTH[name](changed)
    assert len(found) == len(records)


@pytest.mark.parametrize("name", sorted(TABLES))
def test_a_blank_line_before_the_header_changes_nothing(name, tmp_path):
    file, text = TABLES[name]
    found = []
    for before in ("", "\n"):
        (tmp_path / file).write_text(before + text, encoding="utf-8")
        found.append(DATASETS[name].read(tmp_path, "paper").records)
    assert found[0].equals(found[1])
    assert len(found[0])


@settings(max_examples=FUZZ, deadline=None)
@given(name=st.sampled_from(sorted(TABLES)), content=st.binary(max_size=200))
def test_arbitrary_bytes(name, content):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, TABLES[name][0]).write_bytes(content)
        with pytest.raises(CasError):
            DATASETS[name].read(Path(folder), "paper")


def test_a_damaged_archive(tmp_path):
    packed = bytearray(gzip.compress(TABLES["chexpert"][1].encode()))
    packed[12:40] = bytes(28)
    (tmp_path / "train.csv.gz").write_bytes(packed)
    with pytest.raises(CasError, match="no readable CSV"):
        DATASETS["chexpert"].read(tmp_path, "paper")


# -- splits -------------------------------------------------------------------------------------

PAIRS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12)), min_size=2, max_size=60)


@given(pairs=PAIRS, seed=st.integers(0, 5))
def test_groups_stay_whole_and_every_class_is_on_both_sides(pairs, seed):
    labels = [label for label, _ in pairs]
    groups = [str(group) for _, group in pairs]
    try:
        parted = split_groups(labels, groups, seed)
    except CasError:
        return
    assert sorted([*parted.train, *parted.test]) == list(range(len(pairs)))
    assert not {groups[i] for i in parted.train} & {groups[i] for i in parted.test}
    assert {labels[i] for i in parted.train} == {labels[i] for i in parted.test} == set(labels)


@given(sizes=st.lists(st.integers(1, 5), min_size=4, max_size=30), seed=st.integers(0, 3))
def test_one_class_is_halved_as_well_as_its_groups_allow(sizes, seed):
    groups = [str(i) for i, size in enumerate(sizes) for _ in range(size)]
    parted = split_groups(["a"] * len(groups), groups, seed)
    assert abs(len(parted.train) - len(parted.test)) <= max(sizes)


@given(
    counts=st.tuples(st.integers(2, 900), st.integers(2, 400)),
    keep_all=st.booleans(),
)
def test_quotas_use_no_more_than_there_is(counts, keep_all):
    labels = ["Normal"] * counts[0] + ["Glaucoma"] * counts[1]
    paper = LABEL_TABLES["origa"].rows
    quotas = paper_quotas(labels, paper, keep_all=keep_all)
    for label, available in zip(("Normal", "Glaucoma"), counts, strict=True):
        train, test = quotas[label]
        assert train >= 1
        assert test >= 1
        assert train + test <= available
        assert test <= paper[label][1]
        if keep_all:
            assert train + test == available


@given(
    labels=st.lists(st.sampled_from("abc"), min_size=9, max_size=60).filter(
        lambda drawn: min(map(drawn.count, set(drawn))) >= 3
    ),
    seed=st.integers(0, 5),
)
def test_few_shots_are_nested(labels, seed):
    import numpy as np

    positions = np.arange(len(labels))
    drawn = [set(few_shot(positions, labels, shots, seed).tolist()) for shots in (1, 2, 3)]
    assert drawn[0] < drawn[1] < drawn[2]
    assert [len(side) for side in drawn] == [n * len(set(labels)) for n in (1, 2, 3)]
