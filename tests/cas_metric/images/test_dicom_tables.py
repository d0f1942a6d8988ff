"""Lookup tables: the entries have the last word, whatever the descriptor says of them."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.dicom_files import table, write_dicom

from cas_metric.errors import ImageError
from cas_metric.images import Window, load_image

pydicom = pytest.importorskip("pydicom")

LITTLE, BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
RNG = np.random.default_rng(1)
VALUES = RNG.integers(0, 4096, (24, 30), dtype=np.uint16)
INDICES = RNG.integers(0, 256, (24, 30), dtype=np.uint8)
TWELVE_BITS = {"BitsStored": 12, "HighBit": 11}
SQUARES = (np.linspace(0, 1, 4096) ** 2 * 4095).round().astype(np.uint16)


def packed(entries: np.ndarray, syntax: str) -> bytes:
    """8-bit entries, two a word, the first in the lower byte (PS3.3 C.7.6.3.1.6)."""
    words = entries.astype(np.uint8).tobytes()
    return np.frombuffer(words, "<u2").astype(">u2" if syntax == BIG else "<u2").tobytes()


def words(entries: np.ndarray, syntax: str) -> bytes:
    return entries.astype(">u2" if syntax == BIG else "<u2").tobytes()


@pytest.mark.parametrize("declared", [8, 10, 12, 16])
@pytest.mark.parametrize("as_numbers", [True, False])
def test_white_of_a_display_table_is_what_its_entries_reach(tmp_path, declared, as_numbers):
    entries = SQUARES if as_numbers else SQUARES.astype("<u2").tobytes()
    lut = table(entries, declared, count=4096)
    path = write_dicom(tmp_path / "a.dcm", VALUES, **TWELVE_BITS, VOILUTSequence=[lut])
    loaded = load_image(path)
    np.testing.assert_allclose(loaded.pixels[..., 0], SQUARES[VALUES] / 4095, atol=1e-6)
    told = "white is its largest entry 4095" in loaded.steps[0]
    assert told == (declared != 12)


def test_a_table_that_fills_its_depth_need_not_reach_white(tmp_path):
    lut = table((SQUARES * (3000 / 4095)).astype(np.uint16), 12)
    path = write_dicom(tmp_path / "a.dcm", VALUES, **TWELVE_BITS, VOILUTSequence=[lut])
    assert load_image(path).pixels.max() == pytest.approx(3000 / 4095, abs=1e-3)


@pytest.mark.parametrize("syntax", [LITTLE, BIG])
@pytest.mark.parametrize("declared", [8, 16])
@pytest.mark.parametrize("layout", [packed, words])
def test_eight_bit_entries_one_or_two_a_word(tmp_path, layout, declared, syntax):
    entries = (SQUARES / 16).astype(np.uint8)
    lut = table(layout(entries, syntax), declared, count=4096)
    path = write_dicom(
        tmp_path / "a.dcm", VALUES, syntax=syntax, **TWELVE_BITS, VOILUTSequence=[lut]
    )
    np.testing.assert_allclose(load_image(path).pixels[..., 1], entries[VALUES] / 255, atol=1e-6)


def test_two_entries_in_each_number(tmp_path):
    entries = (SQUARES / 16).astype(np.uint8)
    lut = table(np.frombuffer(entries.tobytes(), "<u2"), 8, count=4096)
    path = write_dicom(tmp_path / "a.dcm", VALUES, **TWELVE_BITS, VOILUTSequence=[lut])
    np.testing.assert_allclose(load_image(path).pixels[..., 1], entries[VALUES] / 255, atol=1e-6)


@pytest.mark.parametrize("first", [-1000, 65536 - 1000])
def test_the_first_value_may_be_negative(tmp_path, first):
    signed = VALUES.astype(np.int16) - 2000
    lut = table(SQUARES, 12)
    lut["LUTDescriptor"].VR = "SS" if first < 0 else "US"
    lut["LUTDescriptor"].value = [4096, first, 12]
    path = write_dicom(tmp_path / "a.dcm", signed, VOILUTSequence=[lut])
    expected = SQUARES[np.clip(signed.astype(int) + 1000, 0, 4095)] / 4095
    np.testing.assert_allclose(load_image(path).pixels[..., 0], expected, atol=1e-6)


def test_a_modality_table_before_a_window(tmp_path):
    path = write_dicom(
        tmp_path / "a.dcm", VALUES, **TWELVE_BITS, ModalityLUTSequence=[table(SQUARES, 16)]
    )
    window = Window(100, 3000)
    expected = window.apply(SQUARES[VALUES])
    shown = load_image(path, window=window)
    np.testing.assert_allclose(shown.pixels[..., 0], expected, atol=1e-6)
    assert shown.steps[0].startswith("modality table applied")
    with pytest.raises(ImageError, match="which of its values to show"):
        load_image(path)


def test_tables_after_a_rescale_and_before_the_inversion(tmp_path):
    path = write_dicom(
        tmp_path / "a.dcm",
        VALUES,
        **TWELVE_BITS,
        RescaleSlope=0.5,
        RescaleIntercept=10,
        VOILUTSequence=[table(SQUARES, 12)],
        PhotometricInterpretation="MONOCHROME1",
    )
    index = np.rint(VALUES * 0.5 + 10).astype(int)
    expected = 1 - SQUARES[index] / 4095
    np.testing.assert_allclose(load_image(path).pixels[..., 0], expected, atol=1e-6)


@pytest.mark.parametrize("name", ["VOILUTSequence", "ModalityLUTSequence"])
def test_tables_that_are_none(tmp_path, name):
    window = {"WindowCenter": 2048, "WindowWidth": 4096}
    empty = write_dicom(tmp_path / "a.dcm", VALUES, **TWELVE_BITS, **window, **{name: []})
    plain = write_dicom(tmp_path / "b.dcm", VALUES, **TWELVE_BITS, **window)
    np.testing.assert_array_equal(load_image(empty).pixels, load_image(plain).pixels)
    short = table(SQUARES[:100], 12, count=4096)
    without = table(SQUARES, 12)
    del without.LUTData
    nameless = table(SQUARES, 12)
    del nameless.LUTDescriptor
    for broken in (short, without, nameless):
        path = write_dicom(tmp_path / "c.dcm", VALUES, **TWELVE_BITS, **{name: [broken]})
        with pytest.raises(ImageError, match="a lookup table"):
            load_image(path)


COLOURS = np.stack([np.arange(256), 255 - np.arange(256), np.arange(256) // 2], axis=1)


def with_palette(path, tables, declared, *, syntax=LITTLE, segmented=False, **attributes):
    palette = {}
    for colour, data in zip(("Red", "Green", "Blue"), tables, strict=True):
        palette[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, declared]
        palette[f"{'Segmented' * segmented}{colour}PaletteColorLookupTableData"] = data
    return write_dicom(
        path,
        INDICES,
        syntax=syntax,
        PhotometricInterpretation="PALETTE COLOR",
        **palette,
        **attributes,
    )


@pytest.mark.parametrize("syntax", [LITTLE, BIG])
@pytest.mark.parametrize("declared", [8, 16])
@pytest.mark.parametrize(("layout", "scale"), [(packed, 1), (words, 1), (words, 257), (words, 16)])
def test_palettes_of_every_depth_and_byte_order(tmp_path, layout, scale, declared, syntax):
    tables = [layout(COLOURS[:, n] * scale, syntax) for n in range(3)]
    path = with_palette(tmp_path / "a.dcm", tables, declared, syntax=syntax)
    np.testing.assert_allclose(load_image(path).pixels, COLOURS[INDICES] / 255, atol=1e-6)


def test_a_dark_palette_of_eight_bits_stays_dark(tmp_path):
    path = with_palette(
        tmp_path / "a.dcm", [packed(COLOURS[:, n] // 4, LITTLE) for n in range(3)], 8
    )
    np.testing.assert_allclose(load_image(path).pixels, COLOURS[INDICES] // 4 / 255, atol=1e-6)


def test_a_window_on_a_palette_is_refused(tmp_path):
    path = with_palette(tmp_path / "a.dcm", [packed(COLOURS[:, n], LITTLE) for n in range(3)], 8)
    with pytest.raises(ImageError, match="a window applies to grey images"):
        load_image(path, window=Window(0, 100))


def test_segments_of_a_palette(tmp_path):
    """PS3.3 C.7.9.2: 0 is a list, 1 a ramp to a value."""
    ramp = np.array([0, 1, 0, 1, 255, 65535], "<u2").tobytes()
    path = with_palette(tmp_path / "a.dcm", [ramp] * 3, 16, segmented=True)
    expected = np.rint(INDICES * 257.0) / 65535
    np.testing.assert_allclose(load_image(path).pixels[..., 0], expected, atol=1e-6)
    copies = np.array([0, 1, 0, 2, 255, 0, 0], "<u2").tobytes()
    path = with_palette(tmp_path / "b.dcm", [copies] * 3, 16, segmented=True)
    with pytest.raises(ImageError, match="repeats segments"):
        load_image(path)
    short = np.array([0, 1, 0], "<u2").tobytes() + b"\0\0"
    path = with_palette(tmp_path / "c.dcm", [short] * 3, 16, segmented=True)
    with pytest.raises(ImageError, match=r"c\.dcm"):
        load_image(path)


def test_a_supplemental_palette_is_refused(tmp_path):
    tables = [packed(COLOURS[:, n], LITTLE) for n in range(3)]
    path = with_palette(tmp_path / "a.dcm", tables, 8, PixelPresentation="COLOR")
    dataset = pydicom.dcmread(path)
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.save_as(path)
    with pytest.raises(ImageError, match="supplemental palette"):
        load_image(path)
