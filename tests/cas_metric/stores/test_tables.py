"""Tables with images in them: names, classes, cells, and one row after another."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cas_metric.errors import ImageError, InputError
from cas_metric.images import load_image, sha256_file
from cas_metric.manifest import as_manifest, read_manifest
from cas_metric.stores.tables import ParquetPart


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    made = []
    for number in range(9):
        path = tmp_path / f"{number}.png"
        Image.fromarray(rng.integers(0, 255, (12, 12, 3), dtype=np.uint8)).save(path)
        made.append(path)
    return made


def structs(files: list[Path], names: list[str] | None = None) -> list[dict[str, object]]:
    names = names or [path.name for path in files]
    return [{"bytes": f.read_bytes(), "path": n} for f, n in zip(files, names, strict=True)]


def test_rows_are_named_by_their_paths_and_classes(files: list[Path], tmp_path: Path) -> None:
    told = {"info": {"features": {"label": {"_type": "ClassLabel", "names": ["Nevus", "Edema"]}}}}
    table = pa.table(
        {"image": structs(files), "label": [0, 1, -1] * 3, "age": [1.5, None, 7.0] * 3,
         "box": [[1, 2]] * 9}
    )  # fmt: skip
    table = table.replace_schema_metadata({"huggingface": json.dumps(told)})
    pq.write_table(table, tmp_path / "set.parquet", row_group_size=4)
    manifest = read_manifest(tmp_path / "set.parquet")
    assert manifest.rows["image"].tolist() == [f"{n}.png" for n in range(9)]
    assert manifest.rows["label"].tolist() == ["Nevus", "Edema", ""] * 3
    assert manifest.extra["age"].tolist() == ["1.5", "", "7"] * 3
    assert manifest.notes[-1].endswith("neither text, numbers nor dates, and left out: 'box'")
    for order in (range(9), (8, 0, 5, 4, 1)):  # in sequence, and all over
        for row in order:
            assert sha256_file(manifest.path(row)) == sha256_file(files[row])
    assert load_image(f"{tmp_path}/set.parquet/3.png").pixels.shape == (12, 12, 3)


@pytest.mark.parametrize(
    "names", [["/home/me/a.png"] * 9, ["a.png"] * 9, ["../a.png"] * 9, [None] * 9]
)
def test_names_that_cannot_be_used_are_numbers(
    files: list[Path], tmp_path: Path, names: list[str]
) -> None:
    pq.write_table(pa.table({"image": structs(files, names)}), tmp_path / "set.parquet")
    assert read_manifest(tmp_path / "set.parquet").rows["id"].tolist()[:2] == ["000000", "000001"]


def test_bytes_beside_a_column_of_names(files: list[Path], tmp_path: Path) -> None:
    names = [f"a/{path.name}" for path in files]
    content = [path.read_bytes() for path in files]
    pq.write_table(pa.table({"file_name": names, "jpg": content}), tmp_path / "a.parquet")
    assert read_manifest(tmp_path / "a.parquet").rows["image"].tolist() == names
    two = pa.table({"first": content, "second": content, "label": ["x"] * 9})
    pq.write_table(two, tmp_path / "b.parquet")
    with pytest.raises(InputError, match="columns of bytes: first, second"):
        read_manifest(tmp_path / "b.parquet")
    manifest = read_manifest(tmp_path / "b.parquet", columns={"second": "image"})
    assert sha256_file(manifest.path(2)) == sha256_file(files[2])


def test_a_table_of_paths_is_still_one(files: list[Path], tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [f.name for f in files]}), tmp_path / "m.parquet")
    assert read_manifest(tmp_path / "m.parquet").path(0) == files[0]


def test_a_row_without_bytes_fails_alone(files: list[Path], tmp_path: Path) -> None:
    rows = structs(files)
    rows[1] = {"bytes": None, "path": "/etc/passwd.png"}
    rows[2] = {"bytes": b"no image", "path": "2.png"}
    pq.write_table(pa.table({"image": rows}), tmp_path / "set.parquet")
    manifest = read_manifest(tmp_path / "set.parquet")
    with pytest.raises(ImageError, match=r"set\.parquet/000001\.png: row 2 holds no bytes"):
        load_image(manifest.path(1))
    with pytest.raises(ImageError, match="no readable image"):
        load_image(manifest.path(2))
    assert load_image(manifest.path(3)).pixels.shape == (12, 12, 3)


def test_a_first_row_without_an_image_leaves_a_table_of_images(
    files: list[Path], tmp_path: Path
) -> None:
    content = [None, b"", *(path.read_bytes() for path in files)]
    table = pa.table(
        {
            "image": pa.array(content, pa.binary()),
            "StudyDate": pa.array([date(2024, 5, day + 1) for day in range(11)]),
            "dose": pa.array([Decimal("1.50"), *[None] * 10]),
        }
    )
    pq.write_table(table, tmp_path / "set.parquet")
    manifest = read_manifest(tmp_path / "set.parquet")
    assert manifest.rows["image"].tolist()[:3] == [f"00000{row}.png" for row in range(3)]
    assert sha256_file(manifest.path(2)) == sha256_file(files[0])
    assert manifest.extra.iloc[0].tolist() == ["2024-05-01", "1.50"]


def test_shards_of_one_table(files: list[Path], tmp_path: Path) -> None:
    place = tmp_path / "data"
    place.mkdir()
    for number in range(3):
        some = structs(files[number * 3 : number * 3 + 3])
        pq.write_table(pa.table({"image": some}), place / f"train-0000{number}-of-00003.parquet")
    for source in (
        place,
        place / "train-*.parquet",
        tmp_path / "data/train-0000{0..2}-of-00003.parquet",
    ):
        manifest = read_manifest(source)
        assert [sha256_file(p) for p in manifest.paths()] == [sha256_file(f) for f in files]
        assert manifest.name == "data"


def test_what_hugging_face_saves_to_disk(files: list[Path], tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    cells = {"image": [str(f) for f in files], "label": [0, 1, 0] * 3}
    held = datasets.Dataset.from_dict(cells).cast_column("image", datasets.Image())
    held = held.cast_column("label", datasets.ClassLabel(names=["a", "b"]))
    held.save_to_disk(tmp_path / "held")
    manifest = read_manifest(tmp_path / "held")
    assert manifest.rows["label"].tolist() == as_manifest(held).rows["label"].tolist()
    assert [sha256_file(p) for p in manifest.paths()] == [sha256_file(f) for f in files]


def test_lance(files: list[Path], tmp_path: Path) -> None:
    lance = pytest.importorskip("lance")
    content = [path.read_bytes() for path in files]
    lance.write_dataset(pa.table({"image": content, "label": ["a"] * 9}), tmp_path / "set.lance")
    manifest = read_manifest(tmp_path / "set.lance")
    assert [sha256_file(p) for p in manifest.paths()] == [sha256_file(f) for f in files]
    assert manifest.rows["label"].tolist() == ["a"] * 9


def test_rows_are_read_once_in_sequence(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = [path.read_bytes() for path in files] * 40
    pq.write_table(pa.table({"image": content}), tmp_path / "set.parquet", row_group_size=100)
    part = ParquetPart(tmp_path / "set.parquet")
    begun = []
    beginning = part._from
    monkeypatch.setattr(part, "_from", lambda *which: (begun.append(which), beginning(*which))[1])
    for row in range(0, 360, 2):
        for near in (row + 1, row):  # as threads do, a little out of order
            assert part.cell(near, "image").as_py() == content[near]
    assert begun == [(0, ["image"])]
