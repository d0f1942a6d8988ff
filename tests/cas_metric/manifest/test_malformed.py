"""Arbitrary and damaged files: a CasError or a manifest that says what the file says."""

from __future__ import annotations

import csv
import io
import json
import tempfile
import unicodedata
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.support.fuzzing import FUZZ, garbled

from cas_metric.errors import CasError
from cas_metric.manifest import (
    COLUMNS,
    FolderConfig,
    Manifest,
    pair,
    preflight,
    read_folder_config,
    read_manifest,
    write_folder_config,
    write_manifest,
)

CSV = """id,image,label,prompt,reference,patient,method,seed
001,a/001.png,No Finding,"Clear lungs, no opacity",r1,p1,sd,0
002,a/002.png,Edema,"A ""white"" lung",r2,p2,sd,1
1.0,b.png,1.0,,,,,
"""
JSONL = "".join(
    json.dumps(dict(zip(COLUMNS, row, strict=True))) + "\n"
    for row in csv.reader(io.StringIO(CSV.split("\n", 1)[1]))
)
YAML = """domain: phantom-chexpert
train: ../train
split: test
window: [-1350, 150]
provenance:
  seed: 0
  command: "cas datasets phantom"
"""


def read(name: str, content: bytes) -> Manifest | None:
    """The manifest in a file of this content; None where it is refused, with a message."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(content)
        try:
            manifest = read_manifest(path if name != "cas.yaml" else path.parent)
        except CasError as error:
            assert str(error).strip()  # noqa: PT017  # both outcomes are right
            return None
        check(manifest)
        return manifest


def check(manifest: Manifest) -> None:
    """What holds of every manifest that is accepted."""
    rows = manifest.rows
    assert list(rows.columns) == list(COLUMNS)
    assert len(rows) > 0
    for column in COLUMNS[:-1]:
        assert all(isinstance(cell, str) and "\0" not in cell for cell in rows[column])
    assert str(rows["seed"].dtype) == "Int64"
    assert (rows["id"] != "").all()
    root = manifest.root.resolve()
    for path in manifest.paths():
        assert path.resolve().is_relative_to(root)
    # What follows on the command line must not fail either.
    for step in (lambda: preflight(manifest, manifest, None), lambda: pair(manifest, manifest)):
        try:
            step()
        except CasError as error:
            assert str(error)  # noqa: PT017  # both outcomes are right


def as_written(value: object) -> str:
    return "" if value is None else str(value)


def as_read(column: str, text: str) -> str:
    """A cell of a manifest: of a name, blanks around it and its Unicode form mean nothing."""
    return text if column in ("image", "prompt") else unicodedata.normalize("NFC", text).strip()


@settings(max_examples=FUZZ, deadline=None)
@given(garbled(CSV))
@example(CSV)
def test_damaged_csv(text):
    manifest = read("m.csv", text.encode())
    if manifest is None:
        return
    oracle = pd.read_csv(io.StringIO(text, newline=""), dtype=str, keep_default_na=False)
    for column in set(COLUMNS[:-1]) & set(oracle.columns):
        expected = [as_read(column, cell) for cell in oracle[column]]
        ours = manifest.rows[column].tolist()
        if column == "id":
            expected = [e or o for e, o in zip(expected, ours, strict=True)]
        assert ours == expected


@settings(max_examples=FUZZ, deadline=None)
@given(garbled(JSONL))
@example(JSONL)
def test_damaged_jsonl(text):
    manifest = read("m.jsonl", text.encode())
    if manifest is None:
        return
    lines = [json.loads(line, parse_int=str) for line in text.split("\n") if line.strip()]
    for column in ("image", "label", "prompt"):
        expected = [as_read(column, as_written(line.get(column))) for line in lines]
        assert manifest.rows[column].tolist() == expected


@settings(max_examples=FUZZ, deadline=None)
@given(garbled(YAML))
@example(YAML)
def test_damaged_cas_yaml(text):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "cas.yaml").write_text(text, encoding="utf-8")
        try:
            config = read_folder_config(folder)
        except CasError as error:
            assert "cas.yaml" in str(error)  # noqa: PT017  # both outcomes are right
            return
        assert config is not None
        write_folder_config(folder, config)
        assert read_folder_config(folder) == config


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl", "m.parquet", "cas.yaml"])
@settings(max_examples=FUZZ // 2, deadline=None)
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_arbitrary_bytes(name, content):
    read(name, content)


def parquet() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        rows = pd.DataFrame({"image": ["a.png", "b.png"], "label": ["x", "y"]})
        return write_manifest(rows, Path(folder, "m.parquet")).read_bytes()


PARQUET = parquet()


@settings(max_examples=FUZZ // 2, deadline=None)
@given(
    st.dictionaries(st.integers(0, len(PARQUET) - 1), st.integers(0, 255), min_size=1, max_size=6)
)
def test_damaged_parquet(edits):
    content = bytearray(PARQUET)
    for position, value in edits.items():
        content[position] = value
    manifest = read("m.parquet", bytes(content))
    if manifest is not None and "image" in manifest.rows:  # pages carry checksums
        assert manifest.rows["image"].tolist() == ["a.png", "b.png"]


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\t\n\r,\"'"))
#: Names that stay inside the folder.
IMAGE = TEXT.filter(
    lambda t: t.strip() and not set("/\\:") & set(t) and t not in (".", "..") and len(t) < 60
)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@settings(max_examples=FUZZ // 2, deadline=None)
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {"image": IMAGE, "label": TEXT, "prompt": TEXT, "reference": TEXT},
            optional={"seed": st.integers(-(2**63), 2**63 - 1)},
        ),
        min_size=1,
        max_size=5,
    )
)
def test_any_text_survives_a_round_trip(suffix, rows):
    seeds = pd.array([row.pop("seed", None) for row in rows], dtype="Int64")
    frame = pd.DataFrame(rows).assign(seed=seeds)
    with tempfile.TemporaryDirectory() as folder:
        back = read_manifest(write_manifest(frame, Path(folder, f"m{suffix}"))).rows
    for column in ("image", "label", "prompt", "reference"):
        assert back[column].tolist() == [as_read(column, row[column]) for row in rows]
    assert back["seed"].equals(frame["seed"])


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=FUZZ, deadline=None)
@given(
    provenance=st.dictionaries(TEXT, JSON_VALUES, max_size=4),
    split=st.none() | TEXT,
    domain=st.none() | TEXT.filter(lambda t: not t.endswith((".yaml", ".yml"))),
)
def test_any_config_survives_a_round_trip(provenance, split, domain):
    config = FolderConfig(domain=domain, split=split, provenance=provenance)
    with tempfile.TemporaryDirectory() as folder:
        write_folder_config(folder, config)
        assert read_folder_config(folder) == config
