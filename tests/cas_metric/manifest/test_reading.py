"""Manifests from tables and folders: what is read, what is refused, and with which words."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cas_metric.errors import CasError, InputError, PreflightError
from cas_metric.manifest import COLUMNS, read_manifest, write_manifest

PICTURE = Image.fromarray(np.zeros((16, 16, 3), np.uint8))


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.save(path)
    return path


def table(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def refused(path: Path, *words: str) -> CasError:
    with pytest.raises(CasError) as caught:
        read_manifest(path)
    message = str(caught.value)
    for word in (str(path), "fix: ", *words):
        assert word in message, message
    return caught.value


# -- tables ---------------------------------------------------------------------------------------


def test_everything_stays_text_but_the_seed(tmp_path):
    path = table(
        tmp_path / "m.csv",
        "id,image,label,prompt,patient,method,seed\n"
        '001,a/001.png,1.0,"one, two",0007,x,3\n'
        "1e3,b.png,NA,,,,\n",
    )
    manifest = read_manifest(path)
    assert list(manifest.rows.columns) == list(COLUMNS)
    assert manifest.rows["id"].tolist() == ["001", "1e3"]
    assert manifest.rows["label"].tolist() == ["1.0", "NA"]
    assert manifest.rows["prompt"].tolist() == ["one, two", ""]
    assert manifest.rows["patient"].tolist() == ["0007", ""]
    assert str(manifest.rows["seed"].dtype) == "Int64"
    assert manifest.rows["seed"].iloc[0] == 3
    assert manifest.rows["seed"].isna().tolist() == [False, True]
    assert manifest.path(0) == tmp_path / "a" / "001.png"
    assert len(manifest) == 2


def test_json_numbers_keep_their_spelling(tmp_path):
    path = table(
        tmp_path / "m.jsonl",
        '{"image": "a.png", "id": 10000000000000000000001, "label": 1.0, "seed": 7}\n'
        "\n"
        '{"image": "b.png", "label": null, "prompt": "a\\u2028b", "seed": null}\n',
    )
    rows = read_manifest(path).rows
    assert rows["id"].tolist() == ["10000000000000000000001", "b"]
    assert rows["label"].tolist() == ["1.0", ""]
    assert rows["prompt"].tolist() == ["", "a\u2028b"]
    assert rows["seed"].tolist() == [7, pd.NA]


def test_parquet_types(tmp_path):
    columns = {
        "image": ["a.png", "b.png"],
        "id": pa.array([1, 2], pa.int64()),
        "label": pa.array(["x", "y"]).dictionary_encode(),
        "prompt": pa.array([float("nan"), 1.5]),
        "seed": pa.array([1.0, None]),
    }
    pq.write_table(pa.table(columns), tmp_path / "m.parquet")
    rows = read_manifest(tmp_path / "m.parquet").rows
    assert rows["id"].tolist() == ["1", "2"]
    assert rows["label"].tolist() == ["x", "y"]
    assert rows["prompt"].tolist() == ["", "1.5"]
    assert rows["seed"].tolist() == [1, pd.NA]


def test_byte_order_mark_and_windows_line_ends(tmp_path):
    path = table(tmp_path / "m.csv", "image,label\r\na.png,Rötung\r\n", "utf-8-sig")
    assert read_manifest(path).rows["label"].tolist() == ["Rötung"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("m.csv", "", ["empty"]),
        ("m.csv", "\n\n", ["empty"]),
        ("m.csv", "image,label\n", ["no rows"]),
        ("m.csv", "image;label\na.png;x\n", ["semicolons"]),
        ("m.csv", "image\tlabel\na.png\tx\n", ["tabs"]),
        ("m.csv", "image,label\na.png,x,y\n", ["line 2", "3 fields"]),
        ("m.csv", "image,label\na.png\n", ["line 2", "1 fields"]),
        ("m.csv", 'image,label\na.png,"x\n', ["line 2"]),
        ("m.csv", "image,image\na.png,b.png\n", ["two columns are named 'image'"]),
        ("m.csv", "image,file_name\na.png,b.png\n", ["both"]),
        ("m.csv", "picture,label\na.png,x\n", ["no column 'image'"]),
        ("m.csv", "filename,label\na.png,x\n", ["did you mean 'file_name'"]),
        ("m.csv", "image,lable\na.png,x\n", ["'lable'", "did you mean 'label'"]),
        ("m.csv", "image,Label\na.png,x\n", ["'Label'", "did you mean 'label'"]),
        ("m.csv", "image,patient_id\na.png,x\n", ["did you mean 'patient'"]),
        ("m.csv", "image,seed\na.png,1.5\n", ["line 2", "'1.5'", "whole number"]),
        ("m.csv", "image,label\n,x\n", ["line 2", "no image"]),
        ("m.csv", "image,label\na.png,\x1b[31mx\n", ["line 2", "\\x1b"]),
        ("m.csv", "image\na\0.png\n", ["line 2", "\\x00"]),
        ("m.jsonl", '{"image": "a.png"}\n{"image": \n', ["line 2", "JSON"]),
        ("m.jsonl", '["a.png"]\n', ["line 1", "not a JSON object"]),
        ("m.jsonl", '{"image": ["a.png"]}\n', ["line 1", "list"]),
        ("m.jsonl", '{"image": "a.png", "image": "b.png"}\n', ["line 1", "twice"]),
        ("m.jsonl", '{"image": "a.png", "label": "\\ud800"}\n', ["line 1", "\\xd800"]),
        ("m.jsonl", '{"image": "a.png", "label": Infinity}\n', ["line 1", "'label'"]),
        ("m.jsonl", "[" * 100_000, ["line 1"]),
        ("m.parquet", "no parquet", ["Parquet"]),
        ("m.xlsx", "x", [".xlsx", "give a folder"]),
        ("manifest", "x", ["without suffix"]),
    ],
)
def test_what_is_refused_and_how(tmp_path, name, text, words):
    refused(table(tmp_path / name, text), *words)


def test_other_encodings_are_named(tmp_path):
    path = table(tmp_path / "m.csv", "image,label\na.png,x\nb.png,R\xf6tung\n", "latin-1")
    refused(path, "line 3", "0xf6", "UTF-8")
    refused(table(tmp_path / "w.csv", "image\na.png\n", "utf-16"), "UTF-16")


def test_a_manifest_that_is_not_there(tmp_path):
    refused(tmp_path / "absent.csv", "no such file")


def test_all_bad_rows_are_listed_at_once(tmp_path):
    path = table(tmp_path / "m.csv", "image,seed\n,1\n../a.png,1\nb.png,x\nc.png,2\n")
    with pytest.raises(PreflightError) as caught:
        read_manifest(path)
    assert len(caught.value.problems) == 3


def test_other_columns_are_kept_beside_the_rows_and_noted(tmp_path):
    path = table(tmp_path / "m.csv", ",image,age,idx\n0,a.png,070,5\n1,b.png,,6\n")
    manifest = read_manifest(path)
    assert manifest.notes == (f"{path}: further columns, kept beside the rows: '', 'age', 'idx'",)
    assert list(manifest.rows.columns) == list(COLUMNS)
    assert manifest.extra.to_dict("list") == {"": ["0", "1"], "age": ["070", ""], "idx": ["5", "6"]}
    chosen = manifest.take([1])
    assert (chosen.column("image").tolist(), chosen.column("idx").tolist()) == (["b.png"], ["6"])
    with pytest.raises(InputError, match="no column 'sex'") as caught:
        manifest.column("sex")
    assert "'age'" in caught.value.fix
    with pytest.raises(ValueError, match="take"):  # rows and further columns never come apart
        dataclasses.replace(manifest, rows=manifest.rows.iloc[:1])


def test_further_columns_survive_writing_and_are_printable(tmp_path):
    path = table(tmp_path / "m.jsonl", '{"image": "a.png", "site\\u001b[31m": "\\u001b[31mA"}\n')
    manifest = read_manifest(path)
    assert manifest.extra.to_dict("list") == {"site\ufffd[31m": ["\ufffd[31mA"]}
    for name in ("b.csv", "b.tsv", "b.jsonl", "b.parquet"):
        back = read_manifest(write_manifest(manifest.rows, tmp_path / name, extra=manifest.extra))
        assert back.extra.equals(manifest.extra)


# -- folders --------------------------------------------------------------------------------------


def test_labels_from_sub_folders(tmp_path):
    for name in ("No Finding/02.png", "No Finding/01.PNG", "Edema/01.jpeg", "Edema/scan.nii.gz"):
        picture(tmp_path / "x.png").rename(_parent(tmp_path / name))
    for name in (".DS_Store", "Edema/._01.png", ".cache/z.png", "notes.txt"):
        _parent(tmp_path / name).write_text("x")
    rows = read_manifest(tmp_path).rows
    assert rows["image"].tolist() == [
        "Edema/01.jpeg",
        "Edema/scan.nii.gz",
        "No Finding/01.PNG",
        "No Finding/02.png",
    ]
    assert rows["label"].tolist() == ["Edema", "Edema", "No Finding", "No Finding"]
    assert rows["id"].tolist() == ["Edema/01", "Edema/scan", "No Finding/01", "No Finding/02"]


def _parent(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_a_flat_folder_has_no_labels(tmp_path):
    picture(tmp_path / "b.png")
    picture(tmp_path / "a.png")
    rows = read_manifest(tmp_path).rows
    assert rows["id"].tolist() == ["a", "b"]
    assert rows["label"].tolist() == ["", ""]


def test_folders_that_are_not_clear(tmp_path):
    refused(tmp_path, "no images")
    picture(tmp_path / "train" / "Edema" / "a.png")
    refused(tmp_path, "train/Edema/a.png")
    picture(tmp_path / "b.png")
    refused(tmp_path, "b.png")


def test_metadata_of_the_imagefolder_convention(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        picture(tmp_path / "images" / name)
    table(tmp_path / "metadata.csv", "file_name,label,prompt\nimages/b.png,x,p\nimages/a.png,y,\n")
    manifest = read_manifest(tmp_path)
    assert manifest.rows["image"].tolist() == ["images/b.png", "images/a.png"]
    assert manifest.rows["id"].tolist() == ["images/b", "images/a"]
    assert manifest.notes == (
        f"{tmp_path}: 1 images are not listed in the metadata (first: images/c.png)",
    )
    table(tmp_path / "metadata.jsonl", '{"file_name": "images/a.png"}')
    refused(tmp_path, "metadata.csv and metadata.jsonl")


# -- writing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl", "m.parquet", "."])
def test_round_trip(tmp_path, name):
    rows = pd.DataFrame(
        {
            "id": ["001", "1.0", 'q"uote', " x "],
            "image": ["a.png", "b/c.png", "d,e.png", "ü\nf.png"],
            "label": ["No Finding", "1.0", "<b>&", "NA"],
            "prompt": ["a\r\nb", None, "\u2028", "nan"],
            "seed": pd.array([1, None, -5, 10**15], dtype="Int64"),
        }
    )
    written = write_manifest(rows, tmp_path / name)
    back = read_manifest(tmp_path if name == "." else written).rows
    expected = rows.fillna({"prompt": ""}).assign(id=["001", "1.0", 'q"uote', "x"])
    for column in expected:
        assert back[column].tolist() == expected[column].tolist()
    assert (back[["reference", "patient", "method"]] == "").all(axis=None)
    assert [f.name for f in tmp_path.iterdir()] == [written.name]


def test_equal_rows_give_equal_bytes(tmp_path):
    rows = pd.DataFrame({"image": ["a.png"], "label": ["x"]})
    for suffix in (".csv", ".jsonl", ".parquet"):
        first = write_manifest(rows, tmp_path / f"a{suffix}").read_bytes()
        assert write_manifest(rows, tmp_path / f"b{suffix}").read_bytes() == first


def test_what_cannot_be_written(tmp_path):
    good = pd.DataFrame({"image": ["a.png"]})
    with pytest.raises(InputError, match="did you mean 'label'"):
        write_manifest(good.assign(lable="x"), tmp_path / "m.csv")
    with pytest.raises(InputError, match="xlsx"):
        write_manifest(good, tmp_path / "m.xlsx")
    with pytest.raises(InputError, match="whole numbers"):
        write_manifest(good.assign(seed=1.5), tmp_path / "m.csv")
    for rows in (good.iloc[:0], pd.DataFrame({"label": ["x"]})):
        with pytest.raises(InputError, match="at least one row"):
            write_manifest(rows, tmp_path / "m.csv")
    assert list(tmp_path.iterdir()) == []
