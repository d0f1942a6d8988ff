"""DICOM: the files that ship with pydicom, and edits of them, against the standard's formulas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cas_metric.errors import ImageError, MissingDependency
from cas_metric.images import Window, load_image, probe_header, to_uint8

pydicom = pytest.importorskip("pydicom")


def bundled(name: str) -> Path:
    return Path(pydicom.data.get_testdata_file(name, download=False))


def edited(source: str, target: Path, **tags) -> Path:
    dataset = pydicom.dcmread(bundled(source))
    for name, value in tags.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    dataset.save_as(target)
    return target


def stored(path: Path) -> np.ndarray:
    return pydicom.dcmread(path).pixel_array.astype(float)


def linear(values, center, width):
    """PS3.3 C.11.2.1.2.1, written as in the standard, output 0 to 1."""
    result = (values - (center - 0.5)) / (width - 1) + 0.5
    result[values <= center - 0.5 - (width - 1) / 2] = 0
    result[values > center - 0.5 + (width - 1) / 2] = 1
    return result


def test_signed_sixteen_bits_by_the_window_of_the_file():
    path = bundled("MR_small.dcm")
    loaded = load_image(path)
    assert loaded.pixels.dtype == np.float32
    np.testing.assert_allclose(loaded.pixels[..., 1], linear(stored(path), 600, 1600), atol=1e-6)
    assert loaded.steps == ("window of the file: centre 600, width 1600, LINEAR",)
    assert probe_header(path) == (64, 64)


@pytest.mark.parametrize(
    "name", ["MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_jp2klossless.dcm"]
)
def test_every_lossless_encoding_gives_the_same_pixels(name):
    np.testing.assert_array_equal(
        load_image(bundled(name)).pixels, load_image(bundled("MR_small.dcm")).pixels
    )


def test_rescale_comes_before_an_explicit_window():
    path = bundled("CT_small.dcm")
    hounsfield = stored(path) * 1 - 1024
    loaded = load_image(path, window=Window(-160, 240))
    expected = np.clip((hounsfield + 160) / 400, 0, 1)
    np.testing.assert_allclose(loaded.pixels[..., 0], expected, atol=1e-6)
    assert loaded.steps == ("rescaled by 1 and -1024", "window -160 to 240")


def test_deep_values_without_any_window_are_refused():
    with pytest.raises(ImageError, match="which of its values to show") as caught:
        load_image(bundled("CT_small.dcm"))
    assert "window: [LOW, HIGH]" in caught.value.fix


def test_monochrome1_is_inverted(tmp_path):
    path = edited("MR_small.dcm", tmp_path / "a.dcm", PhotometricInterpretation="MONOCHROME1")
    loaded = load_image(path)
    plain = load_image(bundled("MR_small.dcm"))
    np.testing.assert_allclose(loaded.pixels, 1 - plain.pixels, atol=1e-6)
    assert loaded.steps[-1] == "MONOCHROME1 inverted"


def test_the_window_functions_of_the_standard(tmp_path):
    values = stored(bundled("MR_small.dcm"))
    path = edited("MR_small.dcm", tmp_path / "a.dcm", VOILUTFunction="LINEAR_EXACT")
    expected = np.clip((values - 600) / 1600 + 0.5, 0, 1)
    np.testing.assert_allclose(load_image(path).pixels[..., 0], expected, atol=1e-6)
    path = edited("MR_small.dcm", tmp_path / "b.dcm", VOILUTFunction="SIGMOID")
    expected = 1 / (1 + np.exp(-4 * (values - 600) / 1600))
    np.testing.assert_allclose(load_image(path).pixels[..., 0], expected, atol=1e-6)


def test_the_first_of_several_windows(tmp_path):
    path = edited("MR_small.dcm", tmp_path / "a.dcm", WindowCenter=[500, 40], WindowWidth=[900, 80])
    expected = linear(stored(path), 500, 900)
    np.testing.assert_allclose(load_image(path).pixels[..., 0], expected, atol=1e-6)


def test_a_display_table(tmp_path):
    dataset = pydicom.dcmread(bundled("MR_small.dcm"))
    item = pydicom.Dataset()
    item.LUTDescriptor = [4096, 0, 10]
    table = (np.linspace(0, 1, 4096) ** 2 * 1023).astype(np.uint16)
    item.add_new("LUTData", "OW", table.tobytes())
    dataset.VOILUTSequence = [item]
    dataset.save_as(tmp_path / "a.dcm")
    loaded = load_image(tmp_path / "a.dcm")
    values = stored(bundled("MR_small.dcm")).astype(int)
    expected = table[np.clip(values, 0, 4095)] / 1023
    np.testing.assert_allclose(loaded.pixels[..., 2], expected, atol=1e-6)
    assert loaded.steps == ("display table of the file applied",)


def test_rgb_and_the_palette():
    path = bundled("SC_rgb_dcmtk_+eb+cr.dcm")
    loaded = load_image(path)
    assert loaded.pixels.dtype == np.uint8
    np.testing.assert_array_equal(loaded.pixels, pydicom.dcmread(path).pixel_array)
    palette = load_image(bundled("examples_palette.dcm"))
    assert palette.steps == ("palette of 16 bits applied",)
    assert np.ptp(palette.pixels, axis=2).max() > 0.5  # it is a colour image


@pytest.mark.parametrize(
    "name", ["SC_rgb_dcmtk_+eb+cy+n1.dcm", "SC_rgb_dcmtk_+eb+cy+np.dcm", "SC_rgb_rle.dcm"]
)
def test_every_colour_encoding_shows_the_same_picture(name):
    reference = load_image(bundled("SC_rgb_dcmtk_+eb+cr.dcm")).pixels.astype(int)
    difference = np.abs(load_image(bundled(name)).pixels.astype(int) - reference)
    assert np.median(difference) <= 2  # the chroma of some is subsampled at edges


def test_sixteen_bit_colour():
    path = bundled("SC_rgb_rle_16bit.dcm")
    loaded = load_image(path)
    np.testing.assert_allclose(loaded.pixels, stored(path) / 65535, atol=1e-6)
    eight = load_image(bundled("SC_rgb_rle.dcm")).pixels
    np.testing.assert_array_equal(to_uint8(loaded.pixels), eight)


def test_several_frames_are_refused_or_chosen():
    path = bundled("SC_rgb_rle_2frame.dcm")
    with pytest.raises(ImageError, match="holds 2 frames"):
        load_image(path)
    with pytest.raises(ImageError, match="no frame 2"):
        load_image(path, frame=2)
    for frame in (0, 1):
        loaded = load_image(path, frame=frame)
        np.testing.assert_array_equal(loaded.pixels, pydicom.dcmread(path).pixel_array[frame])
        assert loaded.steps == (f"frame {frame} of 2",)


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("MR_truncated.dcm", "less than expected"),
        ("rtplan.dcm", "holds no image"),
        ("no_meta.dcm", "no DICOM header"),
        ("SC_rgb_small_odd.dcm", "too small"),
        ("badVR.dcm", "badVR.dcm"),
    ],
)
def test_what_is_no_complete_image(name, cause):
    with pytest.raises(ImageError, match=cause) as caught:
        load_image(bundled(name))
    assert str(bundled(name)) in str(caught.value)


def test_a_missing_codec_names_the_packages(monkeypatch):
    from pydicom.pixels.decoders.base import Decoder

    monkeypatch.setattr(Decoder, "is_available", property(lambda self: False))
    with pytest.raises(ImageError, match="no installed package decodes JPEG-LS") as caught:
        load_image(bundled("MR_small_jpeg_ls_lossless.dcm"))
    assert "pylibjpeg" in str(caught.value)


def test_without_pydicom_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for read in (load_image, probe_header):
        with pytest.raises(MissingDependency, match=r"cas-metric\[dicom\]"):
            read(bundled("MR_small.dcm"))


def test_a_dicom_without_suffix_is_recognised(tmp_path):
    path = tmp_path / "IM000001"
    path.write_bytes(bundled("MR_small.dcm").read_bytes())
    assert load_image(path).pixels.shape == (64, 64, 3)


@pytest.mark.filterwarnings("ignore")  # pydicom warns of what is odd in its own files
def test_every_bundled_file_is_read_or_refused():
    folder = bundled("MR_small.dcm").parent
    read = 0
    for path in sorted(folder.glob("*.dcm")):
        try:
            pixels = load_image(path).pixels
        except ImageError:
            continue
        read += 1
        assert pixels.ndim == 3
        assert pixels.shape[2] == 3
        assert pixels.dtype in (np.uint8, np.float32)
        assert pixels.max() <= (255 if pixels.dtype == np.uint8 else 1)
        assert pixels.min() >= 0
    assert read >= 30
