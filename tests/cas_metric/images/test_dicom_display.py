"""What is seen of stored values: attributes that are empty, nested, missing or at odds."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.dicom_files import item, write_dicom

from cas_metric.errors import ImageError
from cas_metric.images import Window, load_image

pydicom = pytest.importorskip("pydicom")

RNG = np.random.default_rng(0)
EIGHT = RNG.integers(0, 256, (24, 30), dtype=np.uint8)
TWELVE = RNG.integers(0, 4096, (24, 30), dtype=np.uint16)
COLOUR = RNG.integers(0, 256, (24, 30, 3), dtype=np.uint8)
TWELVE_BITS = {"BitsStored": 12, "HighBit": 11}
WINDOW_12 = {"WindowCenter": 2048, "WindowWidth": 4096}


def grey(path, **options):
    """The one channel of a grey picture."""
    pixels = load_image(path, **options).pixels
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


def linear(values, center, width):
    """PS3.3 C.11.2.1.2.1."""
    return np.clip((values.astype(float) - (center - 0.5)) / (width - 1) + 0.5, 0, 1)


def refused(path, match, **options):
    with pytest.raises(ImageError, match=match) as caught:
        load_image(path, **options)
    assert str(path) in str(caught.value)
    assert "\n  fix: " in str(caught.value)


# --- rescale


@pytest.mark.parametrize("window", [None, Window(0, 10)])
@pytest.mark.parametrize(("slope", "cause"), [(0, "RescaleSlope is 0"), ("nan", "RescaleSlope is")])
def test_a_slope_that_leaves_nothing_is_refused(tmp_path, slope, cause, window):
    path = write_dicom(tmp_path / "a.dcm", EIGHT, RescaleSlope="1", RescaleIntercept="0")
    content = path.read_bytes()
    assert content.count(b"DS\x02\x001 ") == 1
    path.write_bytes(content.replace(b"DS\x02\x001 ", b"DS\x04\x00" + f"{slope:<4}".encode()))
    refused(path, cause, window=window)


def test_a_negative_slope_turns_the_picture_around(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", EIGHT, RescaleSlope=-1, RescaleIntercept=255)
    np.testing.assert_allclose(grey(path), 1 - EIGHT / 255, atol=1e-6)


@pytest.mark.parametrize(
    ("stated", "slope", "intercept"),
    [
        ({"RescaleSlope": 2}, 2, 0),
        ({"RescaleIntercept": -1024}, 1, -1024),
        ({"RescaleSlope": "", "RescaleIntercept": ""}, 1, 0),
        ({"RescaleSlope": "", "RescaleIntercept": 7}, 1, 7),
    ],
)
def test_half_a_rescale_and_an_empty_one(tmp_path, stated, slope, intercept):
    path = write_dicom(tmp_path / "a.dcm", TWELVE, **TWELVE_BITS, **stated)
    expected = np.clip((TWELVE * float(slope) + intercept) / 4000, 0, 1)
    np.testing.assert_allclose(grey(path, window=Window(0, 4000)), expected, atol=1e-6)


# --- finite values


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float_pixels_that_are_not_finite_are_refused(tmp_path, dtype, bad):
    values = EIGHT.astype(dtype)
    path = write_dicom(tmp_path / "a.dcm", values, BitsStored=None, HighBit=None)
    np.testing.assert_allclose(grey(path, window=Window(0, 255)), EIGHT / 255, atol=1e-6)
    refused(path, "which of its values to show")
    values[3, 4] = bad
    write_dicom(path, values, BitsStored=None, HighBit=None)
    for window in (None, Window(0, 255)):
        refused(path, "not finite", window=window)


# --- windows


@pytest.mark.parametrize(
    "empty", [{"WindowCenter": ""}, {"WindowWidth": ""}, {"WindowCenter": "", "WindowWidth": ""}]
)
def test_an_empty_window_says_nothing(tmp_path, empty):
    given = {"WindowCenter": 100, "WindowWidth": 50, **empty}
    path = write_dicom(tmp_path / "8.dcm", EIGHT, **given)
    assert load_image(path).steps == ("full range 0 to 255 shown",)
    np.testing.assert_allclose(grey(path), EIGHT / 255, atol=1e-6)
    refused(
        write_dicom(tmp_path / "12.dcm", TWELVE, **TWELVE_BITS, **given),
        "which of its values to show",
    )


def test_an_empty_function_is_the_linear_one(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", TWELVE, **WINDOW_12, **TWELVE_BITS, VOILUTFunction="")
    np.testing.assert_allclose(grey(path), linear(TWELVE, 2048, 4096), atol=1e-6)


@pytest.mark.parametrize(
    ("stated", "cause"),
    [
        ({"WindowWidth": 0}, "no such window"),
        ({"WindowWidth": -5}, "no such window"),
        ({"WindowWidth": 0.5}, "narrower than 1"),
        ({"VOILUTFunction": "LOG"}, "no such window"),
    ],
)
def test_windows_that_the_standard_does_not_know(tmp_path, stated, cause):
    path = write_dicom(tmp_path / "a.dcm", TWELVE, **TWELVE_BITS, **WINDOW_12 | stated)
    refused(path, cause)
    assert grey(path, window=Window(0, 4095)).max() > 0.9


def test_a_window_of_width_one_is_a_threshold(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", EIGHT, WindowCenter=100, WindowWidth=1)
    np.testing.assert_array_equal(grey(path), (EIGHT >= 100).astype(float))


# --- functional groups of enhanced images


def rescale(slope, intercept):
    return [item(RescaleSlope=slope, RescaleIntercept=intercept, RescaleType="HU")]


def test_one_enhanced_frame_by_its_shared_groups(tmp_path):
    groups = item(
        PixelValueTransformationSequence=rescale(1, -1024),
        FrameVOILUTSequence=[item(WindowCenter=40, WindowWidth=400)],
    )
    path = write_dicom(
        tmp_path / "a.dcm",
        TWELVE,
        **TWELVE_BITS,
        NumberOfFrames=1,
        SharedFunctionalGroupsSequence=[groups],
    )
    np.testing.assert_allclose(grey(path), linear(TWELVE - 1024.0, 40, 400), atol=1e-6)
    assert load_image(path).steps[0] == "rescaled by 1 and -1024"


def test_each_frame_by_its_own_groups(tmp_path):
    frames = [
        item(
            PixelValueTransformationSequence=rescale(slope, 0),
            FrameVOILUTSequence=[item(WindowCenter=center, WindowWidth=2000)],
        )
        for slope, center in ((1, 1000), (2, 3000))
    ]
    path = write_dicom(
        tmp_path / "a.dcm",
        np.stack([TWELVE, TWELVE[::-1]]).astype("<u2").tobytes(),
        shape=TWELVE.shape,
        BitsAllocated=16,
        **TWELVE_BITS,
        NumberOfFrames=2,
        SharedFunctionalGroupsSequence=[item(PixelValueTransformationSequence=rescale(9, 9))],
        PerFrameFunctionalGroupsSequence=frames,
    )
    refused(path, "holds 2 frames")
    np.testing.assert_allclose(grey(path, frame=0), linear(TWELVE, 1000, 2000), atol=1e-6)
    expected = linear(TWELVE[::-1] * 2.0, 3000, 2000)
    np.testing.assert_allclose(grey(path, frame=1), expected, atol=1e-6)


# --- bits


@pytest.mark.parametrize("high", [11, 13, 15])
@pytest.mark.parametrize("signed", [False, True])
def test_the_bits_below_the_high_bit(tmp_path, high, signed):
    """What stands in the other bits (old overlays do) is no part of a value."""
    values = TWELVE.astype(np.int32) - (2048 if signed else 0)
    noise = RNG.integers(0, 2**16, TWELVE.shape)
    inside = 0xFFF << (high - 11)
    words = (((values & 0xFFF) << (high - 11)) | (noise & ~inside)).astype(np.uint16)
    path = write_dicom(
        tmp_path / "a.dcm", words, BitsStored=12, HighBit=high, PixelRepresentation=int(signed)
    )
    window = Window(values.min(), values.max())
    np.testing.assert_allclose(grey(path, window=window), window.apply(values), atol=1e-6)
    assert f"12 bits taken, up to bit {high}" in load_image(path, window=window).steps


@pytest.mark.parametrize("stated", [{"BitsStored": 12, "HighBit": 16}, {"BitsStored": 17}])
def test_bits_that_do_not_fit(tmp_path, stated):
    path = write_dicom(tmp_path / "a.dcm", TWELVE, **stated)
    refused(path, "do not fit|Bits Stored", window=Window(0, 1))


# --- colours


def test_a_window_on_colours_is_refused_as_in_other_formats(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", COLOUR)
    np.testing.assert_array_equal(load_image(path).pixels, COLOUR)
    refused(path, "a window applies to grey images", window=Window(0, 100))


def test_planes_and_pixels_give_one_picture(tmp_path):
    planes = np.ascontiguousarray(COLOUR.transpose(2, 0, 1)).tobytes()
    path = write_dicom(tmp_path / "a.dcm", planes, shape=COLOUR.shape, PlanarConfiguration=1)
    np.testing.assert_array_equal(load_image(path).pixels, COLOUR)


def test_ybr_is_converted_and_what_cannot_be_is_refused(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", COLOUR, PhotometricInterpretation="YBR_FULL")
    y, blue, red = np.moveaxis(COLOUR.astype(float), 2, 0) - [[[0]], [[128]], [[128]]]
    rgb = [y + 1.402 * red, y - 0.114 * 1.772 / 0.587 * blue - 0.299 * 1.402 / 0.587 * red]
    expected = np.stack([*rgb, y + 1.772 * blue], axis=2).clip(0, 255)
    assert np.abs(load_image(path).pixels - expected).max() <= 1
    assert load_image(path).steps == ("YBR_FULL converted to RGB",)
    for odd in ("YBR_PARTIAL_422", "HSV", "CMYK"):
        with pytest.raises(ImageError):
            load_image(write_dicom(tmp_path / "b.dcm", COLOUR, PhotometricInterpretation=odd))


@pytest.mark.parametrize("missing", ["PhotometricInterpretation", "BitsAllocated", "Rows"])
def test_what_a_picture_cannot_do_without(tmp_path, missing):
    with pytest.raises(ImageError, match=r"a\.dcm"):
        load_image(write_dicom(tmp_path / "a.dcm", EIGHT, **{missing: None}))


def test_monochrome1_after_every_way_to_show(tmp_path):
    turned = {"PhotometricInterpretation": "MONOCHROME1"}
    path = write_dicom(tmp_path / "a.dcm", EIGHT, **turned)
    np.testing.assert_allclose(grey(path), 1 - EIGHT / 255, atol=1e-6)
    window = Window(20, 70)
    np.testing.assert_allclose(grey(path, window=window), 1 - window.apply(EIGHT), atol=1e-6)
    path = write_dicom(path, EIGHT, WindowCenter=100, WindowWidth=60, **turned)
    np.testing.assert_allclose(grey(path), 1 - linear(EIGHT, 100, 60), atol=1e-6)
