"""TIFF of every sample type and layout, against the arrays that the files were made from."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from cas_metric.errors import ImageError
from cas_metric.images import Window, decoding_cost, load_image

RNG = np.random.default_rng(3)
GREY = RNG.integers(0, 256, (40, 24), dtype=np.uint8)
LAYOUTS = [{}, {"compression": "zlib", "predictor": True}, {"tile": (16, 16)}, {"bigtiff": True}]
NAMES = ["plain", "deflate", "tiled", "big"]


def extremes(dtype: str) -> np.ndarray:
    """Values over the whole range of a type, its ends among them."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return ((GREY.astype(np.float64) - 128) * 1e7 / 3).astype(kind)
    bounds = np.iinfo(kind)
    values = RNG.integers(bounds.min, bounds.max, GREY.shape, dtype=kind, endpoint=True)
    values[0, :2] = bounds.min, bounds.max
    return values


def shown(path: Path, **options) -> np.ndarray:
    return load_image(path, **options).pixels[..., 0]


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("options", LAYOUTS, ids=NAMES)
@pytest.mark.parametrize(
    "dtype",
    ["int8", "int16", "int32", "int64", "uint32", "uint64", "float16", "float32", "float64"],
)
def test_numbers_without_a_range_need_a_window_and_are_then_exact(
    tmp_path, dtype, options, byteorder
):
    values = GREY.astype(dtype) if dtype == "float16" else extremes(dtype)
    path = tmp_path / "a.tif"
    if values.dtype.kind == "f" or values.dtype.itemsize == 8:  # tifffile cannot write them
        options = {name: value for name, value in options.items() if name != "predictor"}
    tifffile.imwrite(path, values, photometric="minisblack", byteorder=byteorder, **options)
    with pytest.raises(ImageError, match=f"{dtype} values .* have no fixed range"):
        load_image(path)
    low, high = float(values.min()), float(values.max())
    for window in (Window(low, high), Window(low / 3, high / 2)):
        expected = np.clip(
            (values.astype(np.float64) - window.low) / (window.high - window.low), 0, 1
        )
        np.testing.assert_allclose(shown(path, window=window), expected, atol=1e-6)


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits"])
@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.uint16])
def test_codes_that_only_pillow_decodes(tmp_path, dtype, compression):
    values = GREY.astype(dtype) * dtype(200)
    path = tmp_path / "a.tif"
    Image.fromarray(values).save(path, compression=compression)
    window = Window(0, 51_000)
    np.testing.assert_allclose(shown(path, window=window), window.apply(values), atol=1e-6)


def test_the_predictor_of_floating_point(tmp_path):
    values = GREY.astype(np.float32) / 7
    path = tmp_path / "a.tif"
    Image.fromarray(values).save(path, compression="tiff_adobe_deflate", tiffinfo={317: 3})
    with tifffile.TiffFile(path) as tiff:
        assert tiff.pages[0].predictor == 3
    window = Window(0, 36)
    np.testing.assert_allclose(shown(path, window=window), window.apply(values), atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite(tmp_path, bad):
    values = GREY.astype(np.float32)
    values[3, 4] = bad
    tifffile.imwrite(tmp_path / "a.tif", values)
    for window in (None, Window(0, 255)):
        with pytest.raises(ImageError, match="not finite"):
            load_image(tmp_path / "a.tif", window=window)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_a_window_is_of_stored_values_also_where_white_is_the_least(tmp_path, dtype):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GREY.astype(dtype), photometric="miniswhite")
    window = Window(20, 90)
    loaded = load_image(path, window=window)
    np.testing.assert_allclose(loaded.pixels[..., 0], 1 - window.apply(GREY), atol=1e-6)
    assert loaded.steps == ("window 20 to 90", "MinIsWhite inverted")


@pytest.mark.parametrize("kind", ["assocalpha", "unassalpha", "unspecified"])
@pytest.mark.parametrize("channels", [2, 4])
def test_the_kinds_of_extra_channels_of_sixteen_bits(tmp_path, channels, kind):
    alpha = RNG.integers(0, 65536, (*GREY.shape, 1)).astype(np.float64)
    colour = RNG.integers(0, 65536, (*GREY.shape, channels - 1)).astype(np.float64)
    if kind == "assocalpha":
        colour = np.floor(colour * alpha / 65535)
    values = np.concatenate([colour, alpha], axis=2).astype(np.uint16)
    path = tmp_path / "a.tif"
    photometric = "rgb" if channels == 4 else "minisblack"
    tifffile.imwrite(
        path, values, photometric=photometric, extrasamples=[kind], planarconfig="contig"
    )
    weight = alpha / 65535
    expected = {
        "assocalpha": colour / 65535 + 1 - weight,
        "unassalpha": colour / 65535 * weight + 1 - weight,
        "unspecified": colour / 65535,
    }[kind]
    loaded = load_image(path)
    np.testing.assert_allclose(
        loaded.pixels, np.broadcast_to(expected, (*GREY.shape, 3)), atol=1e-6
    )
    assert ("extra channels ignored" in loaded.steps) == (kind == "unspecified")
    if kind != "unspecified" or channels == 4:
        with pytest.raises(ImageError, match="a window applies to grey images"):
            load_image(path, window=Window(0, 100))


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (np.zeros((16, 16, 3), np.float32), {"photometric": "rgb"}),
        (np.zeros((16, 16, 3), np.uint32), {"photometric": "rgb"}),
        (np.zeros((16, 16, 3), np.int8), {"photometric": "rgb"}),
        (np.zeros((16, 16), np.complex64), {"photometric": "minisblack"}),
        (np.zeros((16, 16, 4), np.uint16), {"photometric": "separated"}),
        (np.zeros((16, 16, 9), np.uint8), {"photometric": "minisblack", "planarconfig": "contig"}),
    ],
)
def test_an_image_that_is_not_read_is_never_called_no_image(tmp_path, values, options):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values, **options)
    for window in (None, Window(0, 1)):
        with pytest.raises(ImageError) as caught:
            load_image(path, window=window)
        assert "no readable image" not in str(caught.value)
        assert "PNG" in str(caught.value) or "grey" in str(caught.value)


def test_one_eight_bit_palette_and_its_bits(tmp_path):
    image = Image.fromarray(GREY % 4, mode="P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    image.save(tmp_path / "a.tif")
    palette = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]])
    np.testing.assert_array_equal(load_image(tmp_path / "a.tif").pixels, palette[GREY % 4])
    with pytest.raises(ImageError, match="a window applies to grey images"):
        load_image(tmp_path / "a.tif", window=Window(0, 3))


def with_tags(path: Path, **changes: int) -> None:
    """Overwrite the values of tags that have one value of four bytes."""
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        for name, value in changes.items():
            struct.pack_into("<I", content, tiff.pages[0].tags[name].valueoffset, value)
    path.write_bytes(content)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
@pytest.mark.parametrize("changes", [{"StripByteCounts": 0}, {"StripOffsets": 0}])
def test_a_missing_strip_is_found(tmp_path, dtype, changes):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GREY.astype(dtype))
    with_tags(path, **changes)
    with pytest.raises(ImageError, match=r"a\.tif"):
        load_image(path, window=Window(0, 255))


def test_a_strip_that_swells_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GREY.astype(np.uint16), compression="zlib")
    start = path.stat().st_size
    bomb = zlib.compress(bytes(10_000_000))
    with path.open("ab") as file:
        file.write(bomb)
    with_tags(path, StripOffsets=start, StripByteCounts=len(bomb))
    with pytest.raises(ImageError, match="inflates to more"):
        load_image(path)


def test_a_tile_counts_whole_however_small_the_picture(tmp_path):
    tifffile.imwrite(tmp_path / "small.tif", GREY, tile=(16, 16))
    tifffile.imwrite(tmp_path / "large.tif", GREY, tile=(4096, 4096), compression="zlib")
    assert decoding_cost(tmp_path / "large.tif") > 4096**2 > decoding_cost(tmp_path / "small.tif")
    tifffile.imwrite(tmp_path / "huge.tif", GREY, tile=(16, 16))
    with_tags(tmp_path / "huge.tif", TileWidth=16384, TileLength=16384)
    with pytest.raises(ImageError, match="GiB of memory"):
        load_image(tmp_path / "huge.tif")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_pages_are_refused_or_chosen(tmp_path, dtype):
    path = tmp_path / "a.tif"
    stack = np.stack([GREY, GREY[::-1]]).astype(dtype)
    tifffile.imwrite(path, stack, photometric="minisblack")
    window = Window(0, 255)
    with pytest.raises(ImageError, match="holds 2 pictures"):
        load_image(path, window=window)
    for frame in (0, 1):
        expected = stack[frame] / 255
        np.testing.assert_allclose(shown(path, window=window, frame=frame), expected, atol=1e-6)
