"""Images that were read without error and show nothing, or hardly anything."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from tests.support.image_files import png16_bytes

from cas_metric.images import Note, Window, load_image, notes_of, save_png
from cas_metric.images.values import LoadedImage

RNG = np.random.default_rng(4)
PICTURE = RNG.integers(0, 256, (24, 30, 3), dtype=np.uint8)


def notes(path, **options):
    return notes_of(load_image(path, **options).steps)


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (128, 128, 128), (200, 30, 90)])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_one_colour_is_blank(tmp_path, colour, suffix):
    path = tmp_path / f"a{suffix}"
    Image.new("RGB", (64, 64), colour).save(path)
    assert notes(path) == (Note.BLANK,)


def test_blank_up_to_one_grey_level_and_not_beyond(tmp_path):
    values = np.full((24, 30), 100, np.uint8)
    values[3:9] += 1
    Image.fromarray(values).save(tmp_path / "a.png")
    assert notes(tmp_path / "a.png") == (Note.BLANK,)
    values[3:9] += 4
    Image.fromarray(values).save(tmp_path / "a.png")
    assert notes(tmp_path / "a.png") == (Note.FAINT,)


@pytest.mark.parametrize(
    ("bits", "expected"),
    [(8, Note.BLANK), (9, Note.FAINT), (12, Note.FAINT), (14, Note.FAINT), (16, None)],
)
def test_few_bits_in_a_file_of_sixteen(tmp_path, bits, expected):
    values = RNG.integers(0, 2**bits, (24, 30, 1), dtype=np.uint16)
    values[0, :2, 0] = 0, 2**bits - 1
    (tmp_path / "a.png").write_bytes(png16_bytes(values))
    assert notes(tmp_path / "a.png") == (() if expected is None else (expected,))
    assert notes(tmp_path / "a.png", window=Window(0, 2**bits - 1)) == ()


def test_what_is_wholly_transparent_is_blank(tmp_path):
    alpha = np.zeros((24, 30, 1), np.uint8)
    Image.fromarray(np.concatenate([PICTURE, alpha], axis=2)).save(tmp_path / "a.png")
    assert notes(tmp_path / "a.png") == (Note.BLANK,)


def test_pictures_carry_no_note(tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png").steps == ()


def test_a_saved_image_is_read_as_it_was(tmp_path):
    grey = np.repeat(RNG.random((24, 30, 1), dtype=np.float32), 3, axis=2)
    for pixels in (PICTURE, PICTURE[..., :1].repeat(3, axis=2), grey):
        save_png(LoadedImage(pixels), tmp_path / "a.png")
        again = load_image(tmp_path / "a.png").pixels
        assert again.dtype == pixels.dtype
        np.testing.assert_allclose(again, pixels, atol=0.5 / 65535 + 1e-7)
