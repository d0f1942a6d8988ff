"""Damaged TIFF, DICOM and NIfTI files raise nothing but image errors, and never take long."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from tests.support.dicom_files import item, table, write_dicom

from cas_metric.errors import ImageError
from cas_metric.images import LoadedImage, Window, decoding_cost, load_image

nibabel = pytest.importorskip("nibabel")
pytest.importorskip("pydicom")

RNG = np.random.default_rng(7)
GREY = RNG.integers(0, 4096, (24, 30), dtype=np.uint16)
WINDOW = Window(0, 4096)


def deep_tiff(path: Path, **options) -> None:
    tifffile.imwrite(path, GREY, **options)


def enhanced(path: Path) -> None:
    groups = item(FrameVOILUTSequence=[item(WindowCenter=40, WindowWidth=400)])
    squares = table((np.arange(4096) // 16).astype("<u2").tobytes(), 16, count=4096)
    write_dicom(
        path,
        GREY,
        BitsStored=12,
        HighBit=11,
        VOILUTSequence=[squares],
        SharedFunctionalGroupsSequence=[groups],
    )


def palette(path: Path) -> None:
    stated = {}
    for colour in ("Red", "Green", "Blue"):
        stated[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 8]
        stated[f"{colour}PaletteColorLookupTableData"] = bytes(range(256))
    indices = (GREY // 16).astype(np.uint8)
    write_dicom(path, indices, PhotometricInterpretation="PALETTE COLOR", **stated)


def coded(path: Path) -> None:
    from pydicom.encaps import encapsulate

    buffer = io.BytesIO()
    Image.fromarray((GREY // 16).astype(np.uint8)).save(buffer, format="JPEG")
    syntax = "1.2.840.10008.1.2.4.50"
    write_dicom(path, encapsulate([buffer.getvalue()]), shape=GREY.shape, syntax=syntax)


def volume(path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(GREY[..., None].astype(np.int16), np.eye(4)), path)


FILES = {
    "plain.tif": deep_tiff,
    "tiled.tif": lambda path: deep_tiff(path, tile=(16, 16), compression="zlib", predictor=True),
    "big.tif": lambda path: deep_tiff(path, bigtiff=True, byteorder=">"),
    "enhanced.dcm": enhanced,
    "palette.dcm": palette,
    "jpeg.dcm": coded,
    "deflated.dcm": lambda path: write_dicom(path, GREY, syntax="1.2.840.10008.1.2.1.99"),
    "big.dcm": lambda path: write_dicom(path, GREY, syntax="1.2.840.10008.1.2.2"),
    "a.nii": volume,
    "a.nii.gz": volume,
}


@pytest.mark.filterwarnings("ignore")  # the libraries warn of what is odd
@pytest.mark.parametrize("name", FILES)
def test_arbitrary_damage_raises_nothing_but_image_errors(tmp_path, name):
    path = tmp_path / name
    FILES[name](path)
    content = path.read_bytes()
    header = min(len(content), 1200)
    for _ in range(60):
        damaged = bytearray(content)
        for position in RNG.integers(0, header, 6):
            damaged[position] = RNG.integers(0, 256)
        path.write_bytes(damaged)
        for window in (None, WINDOW):
            with contextlib.suppress(ImageError):
                assert isinstance(load_image(path, window=window), LoadedImage)
        with contextlib.suppress(ImageError):
            assert decoding_cost(path) > 0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_never_gives_other_pixels(tmp_path, name):
    """Cut anywhere: refused, or (where only padding was lost) the same pixels as the whole."""
    path = tmp_path / name
    FILES[name](path)
    content = path.read_bytes()
    window = None if name == "palette.dcm" else WINDOW
    whole = load_image(path, window=window).pixels
    for cut in np.linspace(1, len(content) - 1, 60).astype(int):
        path.write_bytes(content[:cut])
        with contextlib.suppress(ImageError):
            pixels = load_image(path, window=window).pixels
            np.testing.assert_array_equal(pixels, whole, err_msg=f"cut at {cut}")
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ImageError, match=name):
        load_image(path, window=window)
