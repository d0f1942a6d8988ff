"""Small inputs that a reader got wrong once, kept outside of the repository: each as it should be.

Drawn files of the same kinds are in the tests of each format, and run everywhere.
"""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from tests.support.real_data import shared_cases

from cas_metric.errors import ImageError
from cas_metric.images import Window, load_image

FULL = Window(-128, 127)


def stored(path) -> np.ndarray:
    pydicom = pytest.importorskip("pydicom")
    dataset = pydicom.dcmread(path)
    dtype = np.uint16 if dataset.BitsAllocated == 16 else np.uint8
    return np.frombuffer(dataset.PixelData, dtype).reshape(dataset.Rows, dataset.Columns)


def test_a_slope_of_zero():
    path = shared_cases("images/A1_slope_0.dcm")
    for window in (None, FULL):
        with pytest.raises(ImageError, match="RescaleSlope is 0"):
            load_image(path, window=window)


def test_float_pixels_with_nan():
    path = shared_cases("images/A3_float_nan.dcm")
    for window in (None, FULL):
        with pytest.raises(ImageError, match="not finite"):
            load_image(path, window=window)


def test_a_display_table_that_declares_more_than_it_holds():
    path = shared_cases("images/B1_voilut_declares_16_holds_12.dcm")
    import pydicom

    entries = np.asarray(pydicom.dcmread(path).VOILUTSequence[0].LUTData)
    assert entries.max() == 4095
    expected = entries[stored(path)] / 4095
    np.testing.assert_allclose(load_image(path).pixels[..., 0], expected, atol=1e-6)


def test_one_enhanced_frame():
    path = shared_cases("images/C1_enhanced_one_frame.dcm")
    hounsfield = stored(path).astype(float) - 1024
    expected = np.clip((hounsfield - 39.5) / 399 + 0.5, 0, 1)
    np.testing.assert_allclose(load_image(path).pixels[..., 0], expected, atol=1e-6)


def test_signed_bytes():
    path = shared_cases("images/D1_int8.tif")
    with pytest.raises(ImageError, match="int8 values"):
        load_image(path)
    values = tifffile.imread(path).astype(float)
    assert values.min() < 0
    shown = load_image(path, window=FULL).pixels[..., 2]
    np.testing.assert_allclose(shown, (values + 128) / 255, atol=1e-6)


def test_twelve_bits_at_the_top_of_sixteen():
    path = shared_cases("images/D4_highbit_15.dcm")
    expected = np.clip(((stored(path) >> 4) - 2047.5) / 4095 + 0.5, 0, 1)
    np.testing.assert_allclose(load_image(path).pixels[..., 0], expected, atol=1e-6)


def test_an_empty_window():
    path = shared_cases("images/E1_window_empty_8bit.dcm")
    np.testing.assert_allclose(load_image(path).pixels[..., 0], stored(path) / 255, atol=1e-6)


def test_a_thin_strip():
    with pytest.raises(ImageError, match="a strip, not a picture"):
        load_image(shared_cases("images/F_thin.png"))
