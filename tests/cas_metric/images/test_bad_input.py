"""Files that must not be scored: each ends in one ImageError with the file, cause and fix."""

from __future__ import annotations

import contextlib
import io
import time

import numpy as np
import pytest
from PIL import Image, ImageFile
from tests.support.image_files import SIGNATURE, png16_bytes, png_chunk, write_huge_png

from cas_metric.errors import ImageError, InputError
from cas_metric.images import (
    MAX_PIXELS,
    LoadedImage,
    Window,
    load_image,
    probe_header,
    sha256_file,
    to_tensor,
    to_uint8,
)

RNG = np.random.default_rng(1)
PICTURE = Image.fromarray(RNG.integers(0, 256, (40, 56, 3), dtype=np.uint8))
SMOOTH = Image.fromarray(
    np.fromfunction(lambda y, x, c: 3 * y + 2 * x + 20 * c, (40, 56, 3)).astype(np.uint8)
)


def encoded(kind: str, image: Image.Image = PICTURE, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def refused(path, match: str, **options) -> ImageError:
    with pytest.raises(ImageError, match=match) as caught:
        load_image(path, **options)
    message = str(caught.value)
    assert str(path) in message
    assert "\n  fix: " in message
    return caught.value


def test_a_zero_byte_png(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    refused(tmp_path / "a.png", "empty")


def test_a_text_named_png(tmp_path):
    (tmp_path / "a.png").write_text("not an image")
    refused(tmp_path / "a.png", "no readable image")


def test_a_missing_file_and_a_folder(tmp_path):
    refused(tmp_path / "absent.png", "no such file")
    refused(tmp_path, "folder")


@pytest.mark.parametrize("size", [(1, 1), (7, 64), (64, 1)])
def test_images_too_small_to_judge(tmp_path, size):
    Image.new("RGB", size).save(tmp_path / "a.png")
    refused(tmp_path / "a.png", "too small")
    with pytest.raises(ImageError, match="too small"):
        probe_header(tmp_path / "a.png")


def test_a_huge_png_is_refused_by_its_header(tmp_path):
    path = write_huge_png(tmp_path / "a.png", 20_000)
    assert path.stat().st_size < 300_000
    start = time.process_time()
    refused(path, "too large")
    with pytest.raises(ImageError, match="too large"):
        probe_header(path)
    assert time.process_time() - start < 5  # decoding it would need 1.2 GB and far longer


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_limit_below_pillows_own(tmp_path):
    path = write_huge_png(tmp_path / "a.png", 10_000)
    refused(path, "100 million pixels, more than the limit of 80 million")
    Image.new("L", (100, 50)).save(tmp_path / "b.png")
    assert load_image(tmp_path / "b.png", max_pixels=5000).pixels.shape == (50, 100, 3)
    refused(tmp_path / "b.png", "limit", max_pixels=4999)


def test_an_accepted_size_gives_no_warning_of_pillow():
    assert Image.MAX_IMAGE_PIXELS is not None
    assert MAX_PIXELS < Image.MAX_IMAGE_PIXELS


def test_a_compression_bomb_in_a_text_chunk(tmp_path):
    import zlib

    bomb = b"Comment\0\0" + zlib.compress(bytes(20_000_000))
    content = png16_bytes(np.zeros((16, 16, 1), np.uint16), extra=png_chunk(b"zTXt", bomb))
    (tmp_path / "a.png").write_bytes(content)
    refused(tmp_path / "a.png", "a.png")


FILES = {
    "a.jpg": encoded("JPEG", SMOOTH, quality=90),
    "progressive.jpg": encoded("JPEG", SMOOTH, progressive=True),
    "cmyk.jpg": encoded("JPEG", SMOOTH.convert("CMYK")),
    "a.png": encoded("PNG"),
    "smooth.png": encoded("PNG", SMOOTH),
    "palette.png": encoded("PNG", SMOOTH.quantize(16)),
    "deep.png": png16_bytes(RNG.integers(0, 65536, (20, 20, 3), dtype=np.uint16)),
    "grey16.png": png16_bytes(RNG.integers(0, 65536, (20, 20, 1), dtype=np.uint16)),
    "a.tif": encoded("TIFF"),
    "lzw.tif": encoded("TIFF", SMOOTH, compression="tiff_lzw"),
    "a.bmp": encoded("BMP"),
    "lossy.webp": encoded("WEBP"),
    "lossless.webp": encoded("WEBP", lossless=True),
    "a.gif": encoded("GIF", SMOOTH.quantize(16)),
    "a.jp2": encoded("JPEG2000"),
}


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_never_gives_other_pixels(tmp_path, name):
    """Cut anywhere: refused, or (where only padding was lost) the same pixels as the whole."""
    content = FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    whole = load_image(path).pixels
    cuts = {len(content) - k for k in (1, 2, 3, 4, 8, 12, 16)}
    cuts |= set(np.linspace(1, len(content) - 1, 40).astype(int).tolist())
    for cut in sorted(cuts):
        path.write_bytes(content[:cut])
        with contextlib.suppress(ImageError):
            np.testing.assert_array_equal(load_image(path).pixels, whole, err_msg=f"cut at {cut}")
    path.write_bytes(content[: len(content) // 2])
    refused(path, name)


@pytest.mark.parametrize("name", ["a.png", "smooth.png", "palette.png", "grey16.png"])
def test_a_flipped_byte_in_a_png_is_found(tmp_path, name):
    content = FILES[name]
    path = tmp_path / name
    pixels_end = len(content) - 12  # the end mark says nothing about pixels
    for position in range(8, pixels_end, max(1, len(content) // 60)):
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(ImageError, match=name):
            load_image(path)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("name", FILES)
def test_arbitrary_damage_raises_nothing_but_image_errors(tmp_path, name):
    rng = np.random.default_rng(len(name))
    path = tmp_path / name
    for _ in range(40):
        damaged = bytearray(FILES[name])
        for position in rng.integers(0, len(damaged), 8):
            damaged[position] = rng.integers(0, 256)
        path.write_bytes(damaged)
        with contextlib.suppress(ImageError):
            assert isinstance(load_image(path), LoadedImage)


def test_pillow_told_to_accept_truncated_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    (tmp_path / "a.jpg").write_bytes(FILES["a.jpg"])
    refused(tmp_path / "a.jpg", "truncated files")


def test_a_postscript_file_is_never_handed_to_an_interpreter(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 90 90\nshowpage")
    refused(tmp_path / "a.png", "no readable image")


def test_a_png_without_pixels(tmp_path):
    header = encoded("PNG")[8:33]
    (tmp_path / "a.png").write_bytes(SIGNATURE + header + png_chunk(b"IEND", b""))
    refused(tmp_path / "a.png", "a.png")


def test_a_name_with_a_nul_byte():
    with pytest.raises(ImageError):
        load_image("a\0.png")
    with pytest.raises(ImageError):
        sha256_file("a\0.png")


@pytest.mark.parametrize("bounds", [(1, 1), (2, 1), (float("nan"), 1), (0, float("inf"))])
def test_an_empty_window(bounds):
    with pytest.raises(InputError, match="window"):
        Window(*bounds)


def test_conversions_of_pixels(tmp_path):
    pixels = np.asarray(PICTURE)
    tensor = to_tensor(pixels)
    assert tensor.shape == (3, 40, 56)
    np.testing.assert_allclose(tensor.numpy(), pixels.transpose(2, 0, 1) / 255, atol=1e-7)
    as_float = (pixels / 255).astype(np.float32)
    np.testing.assert_array_equal(to_tensor(as_float).numpy(), as_float.transpose(2, 0, 1))
    np.testing.assert_array_equal(to_uint8(as_float), pixels)


def test_sha256_is_that_of_the_bytes(tmp_path):
    import hashlib

    (tmp_path / "a.png").write_bytes(FILES["a.png"])
    assert sha256_file(tmp_path / "a.png") == hashlib.sha256(FILES["a.png"]).hexdigest()


def test_probe_reads_size_without_decoding(tmp_path):
    content = FILES["a.jpg"]
    (tmp_path / "a.jpg").write_bytes(content[: len(content) * 3 // 4])
    assert probe_header(tmp_path / "a.jpg") == (56, 40)
    refused(tmp_path / "a.jpg", "a.jpg")
