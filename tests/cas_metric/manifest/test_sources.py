"""Anything that names images becomes the same manifest, and nothing heavy is imported for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from PIL import Image

from cas_metric.errors import InputError, PreflightError
from cas_metric.manifest import as_manifest, read_manifest

RNG = np.random.default_rng(11)


@pytest.fixture
def folder(tmp_path):
    for name in ("a", "b"):
        Image.fromarray(RNG.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(
            tmp_path / f"{name}.png"
        )
    (tmp_path / "metadata.csv").write_text("file_name,label,age\na.png,x,70\nb.png,y,71\n")
    return tmp_path


def test_paths_tables_manifests_and_frames_say_the_same(folder, monkeypatch):
    expected = read_manifest(folder)
    frame = pd.read_csv(folder / "metadata.csv", dtype=str)
    monkeypatch.chdir(folder)
    sources = [
        as_manifest(folder),
        as_manifest(str(folder / "metadata.csv")),
        as_manifest(expected),
        as_manifest(frame),
        as_manifest(frame.assign(file_name=[str(folder / n) for n in frame["file_name"]])),
        as_manifest(pl.from_pandas(frame), root=folder),
        as_manifest(frame.rename(columns={"label": "y"}), columns={"y": "label"}),
    ]
    for found in sources:
        assert found.paths() == expected.paths()
        assert found.rows["label"].tolist() == ["x", "y"]
        assert found.extra["age"].tolist() == ["70", "71"]


def test_columns_of_a_table_by_other_names(folder):
    path = folder / "t.csv"
    path.write_text("path,finding\na.png,x\n")
    found = as_manifest(path, columns={"path": "image", "finding": "label"})
    assert found.rows[["image", "label"]].values.tolist() == [["a.png", "x"]]
    path.write_text("path,finding,label\na.png,x,y\n")
    with pytest.raises(InputError, match="there is a column 'label'"):
        as_manifest(path, columns={"path": "image", "finding": "label"})


def test_a_frame_may_be_held_to_folders(folder):
    frame = pd.DataFrame({"image": [str(folder / "a.png")]})
    assert as_manifest(frame, root=folder / "other").path(0) == folder / "a.png"
    with pytest.raises(PreflightError, match="absolute"):
        as_manifest(frame, root=folder / "other", allowed_roots=[folder / "store"])


def test_a_data_set_is_exported_once_by_its_content(folder, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("CAS_CACHE", str(tmp_path / "cache"))
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["x", "y"]),
            "age": datasets.Value("int64"),
            "boxes": datasets.Sequence(datasets.Value("float32")),
        }
    )

    def dataset(ages):
        rows = {"image": [str(folder / "a.png"), str(folder / "b.png")], "label": [0, 1]}
        rows |= {"age": ages, "boxes": [[1.0], []]}
        return datasets.Dataset.from_dict(rows, features=features)

    first = as_manifest(dataset([70, 71]))
    assert first.rows["label"].tolist() == ["x", "y"]
    assert first.extra.to_dict("list") == {"age": ["70", "71"]}
    assert first.path(0).read_bytes() == (folder / "a.png").read_bytes()
    stamps = {p: p.stat().st_mtime_ns for p in first.paths()}
    again = as_manifest(dataset([70, 71]))
    assert again.paths() == first.paths()
    assert {p: p.stat().st_mtime_ns for p in again.paths()} == stamps
    other = as_manifest(dataset([70, 72]))
    assert other.root != first.root
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(folder / "a.png")  # the content decides
    changed = as_manifest(dataset([70, 71]))
    assert changed.root not in (first.root, other.root)
    exports = list((tmp_path / "cache" / "datasets").iterdir())
    assert sorted(exports) == sorted([first.root, other.root, changed.root])


def test_a_data_set_that_cannot_be_read_leaves_nothing_behind(folder, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("CAS_CACHE", str(tmp_path / "cache"))
    images = {"image": [str(folder / "a.png")]}
    features = datasets.Features({"image": datasets.Image()})
    dataset = datasets.Dataset.from_dict(images, features=features)
    with pytest.raises(InputError, match="no column 'img'"):
        as_manifest(dataset, columns={"img": "image"})
    with pytest.raises(InputError, match="did you mean 'label'"):
        as_manifest(dataset.add_column("lable", ["x"]))
    with pytest.raises(InputError, match=r"datasets\.DatasetDict") as caught:
        as_manifest(datasets.DatasetDict(train=dataset))
    assert "['train']" in caught.value.fix
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("source", [3, None, ["a.png"], torch.utils.data.TensorDataset()])
def test_other_things_are_refused_by_name(source):
    with pytest.raises(InputError, match="cannot be read from"):
        as_manifest(source)


def test_a_manifest_is_not_read_again(folder):
    with pytest.raises(InputError, match="still to be read"):
        as_manifest(read_manifest(folder), root=folder)


SCRIPT = """
import sys
import cas_metric.manifest, cas_metric.domains, cas_metric.datasets, cas_metric.manifest.adapters
assert "pandas" not in sys.modules
from cas_metric.manifest import as_manifest, preflight
manifest = as_manifest(sys.argv[1])
assert preflight(manifest, manifest, None) == []
cas_metric.domains.load_domain("chexpert")
print(sorted({"torch", "transformers", "datasets", "polars"} & set(sys.modules)))
"""


def test_neither_import_nor_reading_needs_torch(folder):
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder)], capture_output=True, text=True, check=False
    )
    assert (run.stdout.strip(), run.returncode) == ("[]", 0), run.stderr
    assert Path(folder).is_dir()
