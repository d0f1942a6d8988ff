"""The faster decoder makes Pillow's pixels, and leaves to Pillow what is not sound."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.support.real_data import real_data

from cas_metric.errors import ImageError
from cas_metric.images import jpeg, load_image

pytest.importorskip("simplejpeg")

#: EXIF that says: turn by 90 degrees.
TURNED = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"


def photograph(mode: str = "RGB", side: int = 61) -> Image.Image:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 255, (9, 9, 3), dtype=np.uint8))
    return coarse.resize((side, side + 7), Image.Resampling.BICUBIC).convert(mode)


def as_pillow_reads(path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    with monkeypatch.context() as patch:
        patch.setattr(jpeg, "_simplejpeg", lambda: None)
        try:
            return load_image(path)
        except ImageError as error:
            return error.problem


def same(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = as_pillow_reads(path, monkeypatch)
    try:
        found: object = load_image(path)
    except ImageError as error:
        found = error.problem
    if isinstance(expected, str):
        assert found == expected
    else:
        assert (found.pixels == expected.pixels).all()  # type: ignore[attr-defined]
        assert found.steps == expected.steps  # type: ignore[attr-defined]


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(
    "options",
    [
        {"subsampling": 0}, {"subsampling": 1}, {"subsampling": 2, "quality": 20},
        {"progressive": True}, {"optimize": True, "quality": 100}, {"restart_marker_blocks": 2},
        {"keep_rgb": True}, {"exif": TURNED},
    ],
)  # fmt: skip
def test_every_kind_of_jpeg(
    mode: str, options: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jpg"
    photograph(mode).save(path, **options)  # type: ignore[arg-type]
    same(path, monkeypatch)


def test_damaged_files_end_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    photograph(side=200).save(buffer, "JPEG")
    whole = buffer.getvalue()
    rng = np.random.default_rng(1)
    path = tmp_path / "a.jpg"
    for cut in (30, 300, len(whole) // 2, len(whole) - 2):
        path.write_bytes(whole[:cut])
        same(path, monkeypatch)
        path.write_bytes(whole + whole[:cut])  # something behind the end
        same(path, monkeypatch)
    for _ in range(60):
        content = bytearray(whole)
        for position in rng.integers(0, len(content), 3):
            content[position] = rng.integers(256)
        path.write_bytes(content)
        same(path, monkeypatch)


@pytest.mark.parametrize("name", ["isic2017", "kermany_cxr"])
def test_real_photographs_and_films(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = sorted((real_data(name) / "images").rglob("*.jp*g"))
    for path in paths[:: max(1, len(paths) // 30)]:
        same(path, monkeypatch)
