"""Manifests from other tools' objects: every image and label where it belongs."""

from __future__ import annotations

import io
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from PIL import Image

from cas_metric.copies.leakage import shared_patients
from cas_metric.errors import CasError, InputError, PreflightError
from cas_metric.images import load_image
from cas_metric.manifest import read_manifest, write_manifest
from cas_metric.manifest.adapters import from_chexgenbench, from_frame, from_huggingface, from_torch
from cas_metric.tables import cell_text

RNG = np.random.default_rng(5)
ARRAYS = [RNG.integers(0, 256, (16, 20, 3), dtype=np.uint8) for _ in range(3)]


def columns() -> dict[str, list]:
    return {
        "path": ["b.png", "a.png"],
        "finding": ["x", None],
        "id": [1, 2],
        "seed": [7, None],
        "age": [70, 71],
    }


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame])
def test_frames(tmp_path, make):
    names = {"path": "image", "finding": "label"}
    manifest = from_frame(make(columns()), tmp_path, columns=names)
    assert manifest.rows["image"].tolist() == ["b.png", "a.png"]
    assert manifest.rows["label"].tolist() == ["x", ""]
    assert manifest.rows["id"].tolist() == ["1", "2"]
    assert manifest.rows["seed"].tolist() == [7, pd.NA]
    assert manifest.path(1) == tmp_path / "a.png"
    assert "'age'" in manifest.notes[0]
    with pytest.raises(InputError, match="no column 'pth'"):
        from_frame(make(columns()), tmp_path, columns={"pth": "image"})
    with pytest.raises(InputError, match="no column 'lable'"):
        from_frame(make(columns()), tmp_path, columns={"finding": "lable"})
    with pytest.raises(PreflightError, match=r"'\.\./x\.png'"):
        from_frame(make({"image": ["../x.png"]}), tmp_path)
    with pytest.raises(InputError, match="no rows"):
        from_frame(make({"image": []}), tmp_path)


def test_pandas_types(tmp_path):
    frame = pd.DataFrame(
        {
            "image": pd.array(["a.png", "b.png"], dtype="string"),
            "label": pd.Categorical(["x", None]),
            "patient": np.array([1, 2], dtype=np.int32),
            "prompt": [np.float64("nan"), "text"],
        }
    )
    rows = from_frame(frame, tmp_path).rows
    assert rows["label"].tolist() == ["x", ""]
    assert rows["patient"].tolist() == ["1", "2"]
    assert rows["prompt"].tolist() == ["", "text"]


def test_whole_numbers_stay_so_where_others_are_missing(tmp_path):
    """Patients 1234 of both splits are one, though pandas makes one column floats."""
    train = from_frame(pd.DataFrame({"image": ["a", "b"], "patient": [1234, 77]}), tmp_path)
    table = pd.DataFrame({"image": ["c", "d", "e"], "patient": [1234, None, 1234.5]})
    test = from_frame(table, tmp_path)
    assert test.rows["patient"].tolist() == ["1234", "", "1234.5"]
    assert shared_patients(train, test)["patient"].tolist() == ["1234"]
    table.to_parquet(tmp_path / "t.parquet")
    assert read_manifest(tmp_path / "t.parquet").rows["patient"].tolist() == ["1234", "", "1234.5"]
    assert cell_text(2.0**53) == "9007199254740992.0"  # its neighbours are no floats


def test_further_columns_of_other_types_stop_nothing(tmp_path):
    further = {
        "StudyDate": pd.to_datetime(["2024-05-01", None]),
        "taken": pd.to_datetime(["2024-05-01 10:20", None]),
        "dose": [Decimal("1.50"), None],
        "boxes": [[1, 2], [3]],
    }
    frame = pd.DataFrame({"image": ["a.png", "b.png"], **further})
    frame.to_parquet(tmp_path / "t.parquet")
    (tmp_path / "t.jsonl").write_text('{"image": "a.png", "boxes": [1]}\n{"image": "b.png"}\n')
    manifests = [from_frame(frame, tmp_path), read_manifest(tmp_path / "t.parquet")]
    for manifest in manifests:
        assert manifest.extra.iloc[0].tolist() == ["2024-05-01", "2024-05-01T10:20:00", "1.50"]
        assert manifest.extra.iloc[1].tolist() == ["", "", ""]
    for manifest in (*manifests, read_manifest(tmp_path / "t.jsonl")):
        assert manifest.notes[-1].endswith("neither text, numbers nor dates, and left out: 'boxes'")
    with pytest.raises(InputError, match="row 1, column 'label': holds a list"):
        from_frame(frame.rename(columns={"boxes": "label"}), tmp_path)
    with pytest.raises(InputError, match="row 1, column 'boxes': holds a list"):
        from_frame(frame, tmp_path, columns={"boxes": "label"})


def test_two_columns_of_one_name_are_refused(tmp_path):
    frame = pd.DataFrame([["1.png", "a", "b"]], columns=["image", "label", "label"])
    with pytest.raises(InputError, match="two columns are named 'label'"):
        from_frame(frame, tmp_path)


def test_written_columns_may_lack_values(tmp_path):
    rows = pd.DataFrame(
        {
            "image": ["a.png", "b.png"],
            "label": pd.Categorical(["x", None]),
            "patient": pd.array([12, None], dtype="Int64"),
            "method": [1.0, None],
        }
    )
    path = write_manifest(rows, tmp_path / "m.csv")
    assert path.read_text() == "image,label,patient,method\na.png,x,12,1\nb.png,,,\n"


def test_chexgenbench(tmp_path):
    table = tmp_path / "prompt_INFO.csv"
    table.write_text('prompt,img_savename,pathology\n"Small, left effusion",7.png,Pleural\n')
    manifest = from_chexgenbench(table, tmp_path / "images", columns={"pathology": "label"})
    row = manifest.rows.iloc[0]
    assert (row["id"], row["image"], row["label"]) == ("7", "7.png", "Pleural")
    assert row["prompt"] == "Small, left effusion"
    assert manifest.path(0) == tmp_path / "images" / "7.png"
    table.write_text("prompt,name\na,b.png\n")
    with pytest.raises(InputError, match="no column 'img_savename'"):
        from_chexgenbench(table, tmp_path)


def test_hugging_face_keeps_the_files_bytes_and_names_classes(tmp_path):
    datasets = pytest.importorskip("datasets")
    buffer = io.BytesIO()
    Image.fromarray(ARRAYS[0]).save(buffer, format="JPEG", quality=80)
    Image.fromarray(ARRAYS[1]).save(tmp_path / "stored.png")
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["benign", "malignant"]),
            "caption": datasets.Value("string"),
        }
    )
    images = [{"bytes": buffer.getvalue(), "path": None}, str(tmp_path / "stored.png")]
    dataset = datasets.Dataset.from_dict(
        {"image": images, "label": [1, 0], "caption": ["one", None]}, features=features
    )
    manifest = from_huggingface(dataset, tmp_path / "out", columns={"caption": "prompt"})
    assert manifest.rows["label"].tolist() == ["malignant", "benign"]
    assert manifest.rows["prompt"].tolist() == ["one", ""]
    assert manifest.path(0).read_bytes() == buffer.getvalue()
    assert manifest.path(0).suffix == ".jpeg"
    np.testing.assert_array_equal(load_image(manifest.path(1)).pixels, ARRAYS[1])
    with pytest.raises(InputError, match="already holds"):
        from_huggingface(dataset, tmp_path / "out")
    withheld = datasets.Dataset.from_dict(
        {"image": images, "label": [-1, 1], "caption": [None, None]}, features=features
    )
    labels = from_huggingface(withheld, tmp_path / "withheld").rows["label"].tolist()
    assert labels == ["", "malignant"]
    with pytest.raises(InputError, match="no column 'image'"):
        from_huggingface(dataset.remove_columns("image"), tmp_path / "other")


class Pairs(torch.utils.data.Dataset):
    """Any list of items as a torch data set."""

    def __init__(self, items, classes=None):
        self.items = items
        if classes is not None:
            self.classes = classes

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def test_torch_items_of_every_form(tmp_path):
    channels_first = torch.from_numpy(ARRAYS[1].transpose(2, 0, 1).copy())
    items = [
        (Image.fromarray(ARRAYS[0]), 0),
        (ARRAYS[1], torch.tensor(1)),
        (channels_first, np.int64(1)),
        (channels_first.float() / 255, 0),
        (ARRAYS[2][..., 0], 1),
    ]
    manifest = from_torch(Pairs(items, ["benign", "malignant"]), tmp_path / "out")
    expected_labels = ["benign", "malignant", "malignant", "benign", "malignant"]
    assert manifest.rows["label"].tolist() == expected_labels
    grey = np.stack([ARRAYS[2][..., 0]] * 3, axis=2)
    expected = [ARRAYS[0], ARRAYS[1], ARRAYS[1], ARRAYS[1], grey]
    for path, pixels in zip(manifest.paths(), expected, strict=True):
        np.testing.assert_array_equal(load_image(path).pixels, pixels)


@pytest.mark.parametrize(
    ("item", "cause"),
    [
        ((torch.full((3, 16, 16), -0.5), 0), "leave the normalisation out"),
        ((torch.full((3, 16, 16), float("nan")), 0), "values from nan"),
        ((np.zeros((16, 16), np.int64), 0), "int64"),
        ((np.zeros((2, 3, 16, 16), np.uint8), 0), "is no image"),
        ((ARRAYS[0], 2), "label 2, but there are 2 classes"),
        ((ARRAYS[0], -1), "label -1"),
        (ARRAYS[0], "no pair"),
    ],
)
def test_torch_items_that_are_refused(tmp_path, item, cause):
    with pytest.raises(CasError, match=cause):
        from_torch(Pairs([item]), tmp_path / "out", classes=["a", "b"])
    assert not (tmp_path / "out" / "metadata.csv").exists()


def test_labels_without_class_names(tmp_path):
    manifest = from_torch(Pairs([(ARRAYS[0], "x"), (ARRAYS[1], 3)]), tmp_path)
    assert manifest.rows["label"].tolist() == ["x", "3"]
    with pytest.raises(InputError, match="empty"):
        from_torch(Pairs([]), tmp_path / "none")
