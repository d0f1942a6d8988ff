"""Transparency, profiles and colour spaces of raster files."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms
from tests.support.image_files import SIGNATURE, png16_bytes, png_chunk

from cas_metric.errors import ImageError
from cas_metric.images import Window, load_image

RNG = np.random.default_rng(0)


COLOUR = RNG.integers(0, 256, (24, 30, 3), dtype=np.uint8)


GREY = RNG.integers(0, 256, (24, 30), dtype=np.uint8)


GREY16 = RNG.integers(0, 65536, (24, 30), dtype=np.uint16)


def test_transparency_is_put_on_white_or_the_given_colour(tmp_path):
    alpha = RNG.integers(0, 256, (24, 30, 1), dtype=np.uint8)
    Image.fromarray(np.concatenate([COLOUR, alpha], axis=2)).save(tmp_path / "a.png")
    weight = alpha / 255
    for background in ((255, 255, 255), (10, 0, 200)):
        loaded = load_image(tmp_path / "a.png", background=background)
        expected = COLOUR * weight + np.array(background) * (1 - weight)
        np.testing.assert_allclose(loaded.pixels, expected, atol=0.51)
        assert loaded.steps == (f"transparency composited on RGB {background}",)


def test_opaque_alpha_changes_nothing(tmp_path):
    full = np.full((24, 30, 1), 255, np.uint8)
    Image.fromarray(np.concatenate([COLOUR, full], axis=2)).save(tmp_path / "a.png")
    loaded = load_image(tmp_path / "a.png")
    np.testing.assert_array_equal(loaded.pixels, COLOUR)
    assert loaded.steps == ()


def test_palette_with_alpha(tmp_path):
    indices = (GREY % 3).astype(np.uint8)
    image = Image.fromarray(indices, mode="P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.save(tmp_path / "a.png", transparency=bytes([255, 128, 0]))
    palette = np.array([[255, 0, 0], [127, 255, 127], [255, 255, 255]])
    np.testing.assert_array_equal(load_image(tmp_path / "a.png").pixels, palette[indices])


@pytest.mark.parametrize("depth", [8, 16])
def test_the_transparent_grey_value_of_a_png(tmp_path, depth):
    path = tmp_path / "a.png"
    if depth == 16:
        key_chunk = png_chunk(b"tRNS", int(GREY16[3, 4]).to_bytes(2, "big"))
        path.write_bytes(png16_bytes(GREY16[:, :, None], extra=key_chunk))
        values, key = GREY16 / 65535, GREY16[3, 4] == GREY16
    else:
        Image.fromarray(GREY).save(path, transparency=int(GREY[3, 4]))
        values, key = GREY.astype(float), GREY[3, 4] == GREY
    white = 1.0 if depth == 16 else 255.0
    loaded = load_image(path)
    np.testing.assert_allclose(loaded.pixels[..., 0], np.where(key, white, values), atol=1e-6)


def test_the_transparent_colour_of_a_sixteen_bit_png(tmp_path):
    values = RNG.integers(0, 65536, (12, 10, 3), dtype=np.uint16)
    values[5:7] = values[3, 4]
    key = b"".join(int(v).to_bytes(2, "big") for v in values[3, 4])
    path = tmp_path / "a.png"
    path.write_bytes(png16_bytes(values, extra=png_chunk(b"tRNS", key)))
    transparent = (values == values[3, 4]).all(axis=2, keepdims=True)
    expected = np.where(transparent, 1.0, values / 65535)
    np.testing.assert_allclose(load_image(path).pixels, expected, atol=1e-6)


def test_cmyk_jpeg_is_converted_and_said_so(tmp_path):
    cmyk = np.zeros((16, 16, 4), np.uint8)
    cmyk[:8, :, 0] = 255  # pure cyan above, paper below
    Image.fromarray(cmyk, mode="CMYK").save(tmp_path / "a.jpg", quality=100)
    loaded = load_image(tmp_path / "a.jpg")
    assert np.abs(loaded.pixels[:8].astype(int) - [0, 255, 255]).max() <= 4
    assert loaded.pixels[8:].min() >= 251
    assert loaded.steps == ("CMYK converted to RGB without a profile",)


def test_an_embedded_colour_profile_is_honoured(tmp_path):
    lab_like = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    plain = tmp_path / "srgb.png"
    Image.fromarray(COLOUR).save(plain, icc_profile=lab_like.tobytes())
    np.testing.assert_array_equal(load_image(plain).pixels, COLOUR)

    broken = tmp_path / "broken.png"
    Image.fromarray(COLOUR).save(broken, icc_profile=b"not a profile")
    loaded = load_image(broken)
    np.testing.assert_array_equal(loaded.pixels, COLOUR)
    assert loaded.steps == ("unreadable colour profile ignored",)


@pytest.mark.parametrize("transparency", [None, 1])
def test_the_profile_of_a_palette_is_that_of_its_colours(tmp_path, transparency):
    """The same pixels as of the colours without a palette, by Adobe RGB's primaries and gamma."""
    indices = GREY % 3
    colours = [200, 40, 40, 60, 180, 90, 20, 60, 210]
    image = Image.fromarray(indices, mode="P")
    image.putpalette(colours)
    profile = gamma_profile()
    options = {} if transparency is None else {"transparency": transparency}
    image.save(tmp_path / "palette.png", icc_profile=profile, **options)
    plain = Image.fromarray(np.array(colours, np.uint8).reshape(3, 3)[indices])
    plain.save(tmp_path / "rgb.png", icc_profile=profile)
    expected, found = (load_image(tmp_path / f"{name}.png") for name in ("rgb", "palette"))
    seen = indices != transparency
    np.testing.assert_array_equal(found.pixels[seen], expected.pixels[seen])
    assert (found.pixels[~seen] == 255).all()
    assert expected.steps[0] in found.steps
    assert np.abs(found.pixels[seen].astype(int) - np.asarray(plain)[seen]).max() > 5


def gamma_profile():
    """An ICC profile of linear light with the primaries of sRGB, tags written by hand."""

    def s15(value):
        return struct.pack(">i", round(value * 65536))

    def xyz(*values):
        return b"XYZ \0\0\0\0" + b"".join(map(s15, values))

    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 7) + b"linear\0" + bytes(78 + 1),
        b"wtpt": xyz(0.9642, 1.0, 0.8249),
        b"rXYZ": xyz(0.4361, 0.2225, 0.0139),
        b"gXYZ": xyz(0.3851, 0.7169, 0.0971),
        b"bXYZ": xyz(0.1431, 0.0606, 0.7141),
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), b"curv\0\0\0\0" + struct.pack(">I", 0)),
    }
    body, table, at = b"", struct.pack(">I", len(tags)), 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += name + struct.pack(">II", at + len(body), len(content))
        body += content
    size = at + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"\0" * 4, 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(128 - 40 - 60) + xyz(0.9642, 1.0, 0.8249)[8:] + bytes(48)
    return head[:128] + table + body


def low_bit_png(path, values, bits, key):
    """A grey PNG of fewer than 8 bits in which one value is transparent."""
    height, width = values.shape
    spread = (values[..., None] >> np.arange(bits)[::-1]) & 1
    rows = [b"\0" + np.packbits(row.ravel().astype(np.uint8)).tobytes() for row in spread]
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"tRNS", key.to_bytes(2, "big")))
    chunks += ((b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b""))
    path.write_bytes(SIGNATURE + b"".join(png_chunk(*chunk) for chunk in chunks))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_the_transparent_value_of_few_bits(tmp_path, bits):
    """Pillow spreads the pixels over 8 bits, and compares them with the value of the file."""
    values = GREY % 2**bits
    low_bit_png(tmp_path / "a.png", values, bits, 1)
    expected = np.where(values == 1, 255, values * (255 // (2**bits - 1)))
    np.testing.assert_array_equal(load_image(tmp_path / "a.png").pixels[..., 0], expected)
    with pytest.raises(ImageError, match="a window applies to grey images"):
        load_image(tmp_path / "a.png", window=Window(0, 100))


def test_profiles_of_deep_colour_are_said_to_be_ignored(tmp_path):
    values = RNG.integers(0, 65536, (12, 10, 3), dtype=np.uint16)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    chunk = png_chunk(b"iCCP", b"name\0\0" + zlib.compress(profile))
    (tmp_path / "a.png").write_bytes(png16_bytes(values, extra=chunk))
    assert "colour profile ignored" in load_image(tmp_path / "a.png").steps


def test_palettes_with_one_transparent_entry(tmp_path):
    indices = GREY % 3
    for suffix in (".png", ".gif"):
        image = Image.fromarray(indices, mode="P")
        image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
        path = tmp_path / f"a{suffix}"
        image.save(path, transparency=1)
        palette = np.array([[255, 0, 0], [255, 255, 255], [0, 0, 255]])
        np.testing.assert_array_equal(load_image(path).pixels, palette[indices])


def test_cielab_is_converted_and_said_so(tmp_path):
    lab = np.zeros((16, 16, 3), np.uint8)
    lab[:8, :, 0] = 255  # white; the other two are signed
    tifffile.imwrite(tmp_path / "a.tif", lab, photometric="cielab")
    loaded = load_image(tmp_path / "a.tif")
    assert loaded.pixels[:8].min() >= 253
    assert loaded.pixels[8:].max() <= 2
    assert loaded.steps == ("LAB converted to sRGB",)
