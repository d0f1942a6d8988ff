"""Raster files: every value compared with arithmetic on the array that the file was made from."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image
from tests.support.image_files import png16_bytes, png_chunk

from cas_metric.errors import ImageError
from cas_metric.images import Window, load_image

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (24, 30, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (24, 30), dtype=np.uint8)
GREY16 = RNG.integers(0, 65536, (24, 30), dtype=np.uint16)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".webp"])
def test_lossless_colour_is_untouched(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(COLOUR).save(path, **({"lossless": True} if suffix == ".webp" else {}))
    loaded = load_image(path)
    assert loaded.pixels.dtype == np.uint8
    np.testing.assert_array_equal(loaded.pixels, COLOUR)
    assert loaded.steps == ()


def test_jpeg_equals_an_independent_decoder(tmp_path):
    from torchvision.io import ImageReadMode, decode_jpeg, read_file

    path = tmp_path / "a.jpg"
    smooth = np.asarray(Image.fromarray(COLOUR).resize((64, 48)))
    Image.fromarray(smooth).save(path, quality=90)
    theirs = decode_jpeg(read_file(str(path)), mode=ImageReadMode.RGB).permute(1, 2, 0).numpy()
    difference = np.abs(load_image(path).pixels.astype(int) - theirs.astype(int))
    assert difference.max() <= 1  # two builds of libjpeg may round differently


def test_grey_and_one_bit_fill_three_channels(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "grey.png")
    Image.fromarray(GREY > 127).save(tmp_path / "bit.png")
    expected = np.stack([GREY] * 3, axis=2)
    np.testing.assert_array_equal(load_image(tmp_path / "grey.png").pixels, expected)
    expected = np.where(expected > 127, 255, 0)
    np.testing.assert_array_equal(load_image(tmp_path / "bit.png").pixels, expected)


@pytest.mark.parametrize("name", ["a.png", "little.tif", "big.tif", "lzw.tif"])
def test_sixteen_bit_grey_is_divided_by_the_full_range(tmp_path, name):
    path = tmp_path / name
    if name == "a.png":
        path.write_bytes(png16_bytes(GREY16[:, :, None]))
    elif name == "lzw.tif":
        Image.fromarray(GREY16).save(path, compression="tiff_lzw")
    else:
        tifffile.imwrite(path, GREY16, byteorder="<" if name == "little.tif" else ">")
    loaded = load_image(path)
    assert loaded.pixels.dtype == np.float32
    expected = np.stack([GREY16 / 65535] * 3, axis=2)
    np.testing.assert_allclose(loaded.pixels, expected, atol=1e-7)
    assert loaded.steps == ("16-bit scaled by 1/65535",)


def test_a_dark_sixteen_bit_image_is_not_stretched(tmp_path):
    path = tmp_path / "dark.png"
    path.write_bytes(png16_bytes((GREY16 // 256)[:, :, None]))
    assert load_image(path).pixels.max() < 256 / 65535


def test_window_of_sixteen_bit_grey(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png16_bytes(GREY16[:, :, None]))
    loaded = load_image(path, window=Window(1000, 5000))
    expected = np.clip((GREY16.astype(float) - 1000) / 4000, 0, 1)
    np.testing.assert_allclose(loaded.pixels[..., 1], expected, atol=1e-6)
    assert loaded.steps == ("window 1000 to 5000",)


def test_min_is_white_is_inverted(tmp_path):
    tifffile.imwrite(tmp_path / "8.tif", GREY, photometric="miniswhite")
    tifffile.imwrite(tmp_path / "16.tif", GREY16, photometric="miniswhite")
    np.testing.assert_array_equal(load_image(tmp_path / "8.tif").pixels[..., 0], 255 - GREY)
    sixteen = load_image(tmp_path / "16.tif")
    np.testing.assert_allclose(sixteen.pixels[..., 0], 1 - GREY16 / 65535, atol=1e-6)
    assert "MinIsWhite inverted" in sixteen.steps


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_sixteen_bit_colour_and_alpha_keep_all_their_bits(tmp_path, channels):
    values = RNG.integers(0, 65536, (12, 10, channels), dtype=np.uint16)
    path = tmp_path / "deep.png"
    path.write_bytes(png16_bytes(values))
    loaded = load_image(path)
    colour = values / 65535
    if channels in (2, 4):
        alpha = colour[..., -1:]
        colour = colour[..., :-1] * alpha + (1 - alpha)  # white behind
    np.testing.assert_allclose(loaded.pixels, np.broadcast_to(colour, (12, 10, 3)), atol=1e-6)
    assert loaded.steps[0] == "16-bit scaled by 1/65535"


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize(
    "options",
    [{}, {"compression": "zlib", "predictor": True}, {"tile": (16, 16)}],
    ids=["plain", "deflate", "tiled"],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colour_tiff_in_every_layout(tmp_path, dtype, options, planes, byteorder):
    top = np.iinfo(dtype).max
    values = RNG.integers(0, top, (40, 24, 3), dtype=dtype, endpoint=True)
    path = tmp_path / "a.tif"
    stored = values if planes == "contig" else values.transpose(2, 0, 1)
    tifffile.imwrite(
        path, stored, photometric="rgb", planarconfig=planes, byteorder=byteorder, **options
    )
    pixels = load_image(path).pixels
    scale = top if pixels.dtype == np.float32 else 1
    np.testing.assert_allclose(pixels, values / scale, atol=1e-6)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize(
    "options",
    [{}, {"compression": "zlib", "predictor": True}, {"tile": (16, 16)}],
    ids=["plain", "deflate", "tiled"],
)
@pytest.mark.parametrize("stored", [GREY, GREY16], ids=["8", "16"])
def test_grey_tiff_in_every_layout(tmp_path, stored, options, byteorder):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stored, photometric="minisblack", byteorder=byteorder, **options)
    pixels = load_image(path).pixels
    scale = 65535 if stored.dtype == np.uint16 else 1
    np.testing.assert_allclose(pixels[..., 2], stored / scale, atol=1e-6)


def test_lzw_colour_of_sixteen_bits_says_what_to_do(tmp_path):
    """Pillow would decode it to 8 bits without a word."""
    plain = tmp_path / "plain.tif"
    tifffile.imwrite(plain, np.zeros((16, 16, 3), np.uint16), photometric="rgb")
    content = bytearray(plain.read_bytes())
    with tifffile.TiffFile(plain) as tiff:
        offset = tiff.pages[0].tags["Compression"].valueoffset
    content[offset] = 5  # claim LZW
    (tmp_path / "lzw.tif").write_bytes(content)
    with pytest.raises(ImageError, match=r"lzw\.tif"):
        load_image(tmp_path / "lzw.tif")


def test_float_and_signed_tiff_need_a_window(tmp_path):
    for name, values in (
        ("float.tif", GREY.astype(np.float32) / 7),
        ("signed.tif", GREY.astype(np.int16) - 100),
    ):
        path = tmp_path / name
        tifffile.imwrite(path, values)
        with pytest.raises(ImageError, match="no fixed range") as caught:
            load_image(path)
        assert "window" in str(caught.value)
        loaded = load_image(path, window=Window(0, 30))
        expected = np.clip(values.astype(float) / 30, 0, 1)
        np.testing.assert_allclose(loaded.pixels[..., 2], expected, atol=1e-6)


def test_a_window_on_colour_is_refused(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match="grey"):
        load_image(tmp_path / "a.png", window=Window(0, 100))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    "name",
    ["a.jpg", "a.png", "a.tif", "grey8.tif", "grey16.tif", "grey16.png", "deep.png", "deep.tif"],
)
def test_every_exif_orientation(tmp_path, orientation, name):
    """The picture as it should be seen is stored turned; loading must turn it back."""
    seen = np.zeros((16, 24, 3), np.uint8)
    seen[:8, :8] = 200  # bright upper left corner: no two orientations look alike
    seen[:8, 16:] = 90
    # Where EXIF says that rows and columns of what is seen are stored (TIFF 6.0, page 36).
    stored = {
        1: seen,
        2: seen[:, ::-1],
        3: seen[::-1, ::-1],
        4: seen[::-1],
        5: seen.transpose(1, 0, 2),
        6: np.rot90(seen, 1),
        7: seen.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(seen, -1),
    }[orientation]
    path = tmp_path / name
    _save_oriented(path, np.ascontiguousarray(stored), orientation)
    loaded = load_image(path)
    expected = seen if loaded.pixels.dtype == np.uint8 else seen / 255
    np.testing.assert_allclose(loaded.pixels, expected, atol=3 if name == "a.jpg" else 1e-6)
    turned = f"EXIF orientation {orientation} applied" in loaded.steps
    assert turned == (orientation > 1)


def _save_oriented(path, stored, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    deep = stored.astype(np.uint16) * 257
    if path.name in ("deep.png", "grey16.png"):
        values = deep if path.name == "deep.png" else deep[..., :1]
        block = exif.tobytes().removeprefix(b"Exif\0\0")
        path.write_bytes(png16_bytes(values, extra=png_chunk(b"eXIf", block)))
    elif path.name in ("deep.tif", "grey16.tif"):
        values = deep if path.name == "deep.tif" else deep[..., 0]
        kind = "rgb" if path.name == "deep.tif" else "minisblack"
        tag = (0x0112, "H", 1, orientation, True)
        tifffile.imwrite(path, values, photometric=kind, extratags=[tag])
    elif path.name == "grey8.tif":
        tag = (0x0112, "H", 1, orientation, True)
        tifffile.imwrite(path, stored[..., 0].copy(), extratags=[tag])
    else:
        options = {"quality": 95} if path.suffix == ".jpg" else {}
        Image.fromarray(stored).save(path, exif=exif, **options)


def test_several_pictures_are_refused_or_chosen(tmp_path):
    first, second = Image.fromarray(COLOUR), Image.fromarray(255 - COLOUR)
    for name in ("a.gif", "a.tif", "a.webp", "a.png"):
        options = {"lossless": True} if name == "a.webp" else {}
        first.save(tmp_path / name, save_all=True, append_images=[second], **options)
        with pytest.raises(ImageError, match="holds 2 pictures"):
            load_image(tmp_path / name)
        with pytest.raises(ImageError, match="no frame 2"):
            load_image(tmp_path / name, frame=2)
        chosen = load_image(tmp_path / name, frame=1)
        assert "frame 1 of 2" in chosen.steps
        if name != "a.gif":  # a GIF has 256 colours
            np.testing.assert_array_equal(chosen.pixels, 255 - COLOUR)


def test_content_decides_and_not_the_name(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(COLOUR).save(buffer, format="PNG")
    (tmp_path / "a.jpg").write_bytes(buffer.getvalue())
    np.testing.assert_array_equal(load_image(tmp_path / "a.jpg").pixels, COLOUR)


def test_sixteen_bits_a_pixel_are_no_sixteen_bits_a_channel(tmp_path):
    """Five bits a channel, in a BMP."""
    channels = COLOUR[:16, :16] >> 3
    words = (channels.astype("<u2") << [10, 5, 0]).sum(axis=2).astype("<u2")
    header = struct.pack("<IiiHHIIiiII", 40, 16, 16, 1, 16, 0, words.nbytes, 0, 0, 0, 0)
    start = struct.pack("<2sIHHI", b"BM", 54 + words.nbytes, 0, 0, 54)
    (tmp_path / "a.bmp").write_bytes(start + header + words[::-1].tobytes())
    expected = channels * (255 / 31)
    np.testing.assert_allclose(load_image(tmp_path / "a.bmp").pixels, expected, atol=1)


def jpeg_2000(path, values, **options):
    Image.fromarray(values).save(path, format="JPEG2000", **options)
    return path


def test_deep_grey_jpeg_2000_is_exact(tmp_path):
    path = jpeg_2000(tmp_path / "a.jp2", GREY16)
    np.testing.assert_allclose(load_image(path).pixels[..., 0], GREY16 / 65535, atol=1e-7)
    content = bytearray(path.read_bytes())
    depth = content.index(b"\xff\x4f\xff\x51") + 42
    content[depth] = 127 + 16  # signed
    path.write_bytes(content)
    with pytest.raises(ImageError, match="16 signed bits"):
        load_image(path)


def test_colour_jpeg_2000_beyond_eight_bits_is_refused(tmp_path):
    """Pillow would drop the lower bits."""
    path = jpeg_2000(tmp_path / "a.jp2", COLOUR)
    np.testing.assert_array_equal(load_image(path).pixels, COLOUR)
    content = bytearray(path.read_bytes())
    depth = content.index(b"\xff\x4f\xff\x51") + 42
    content[depth : depth + 9 : 3] = bytes([11, 11, 11])  # claim 12 bits each
    path.write_bytes(content)
    with pytest.raises(ImageError, match="not read"):
        load_image(path)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"\0\0\0\x20ftypheic" + bytes(40), "begins like AVIF, HEIC or a film"),
        (b"\xff\xd8\xff\xc9" + bytes(40), "begins like JPEG"),
        (b"RIFF\x20\0\0\0WEBPVP9 " + bytes(40), "begins like WebP"),
        (b"BM" + bytes(60), "BMP"),
    ],
)
def test_an_image_that_is_not_read_is_never_called_no_image(tmp_path, content, cause):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageError, match=cause) as caught:
        load_image(tmp_path / "a.png")
    assert "no readable image" not in str(caught.value)
