"""The one way from a file to pixels: picks the reader by what the file holds."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Final, Literal

from cas_metric.errors import ImageError
from cas_metric.images.limits import (
    BUDGET,
    BYTES_PER_PIXEL,
    MAX_PIXELS,
    Header,
    check_header,
    naming,
)
from cas_metric.images.notes import appearance
from cas_metric.images.raster import REWRITE, load_raster, probe_raster
from cas_metric.images.values import BACKGROUND, LoadedImage, Window, at_hand

#: Endings of the files that a folder scan takes for images.
IMAGE_SUFFIXES: Final = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".webp", ".bmp", ".gif"),
    *(".jp2", ".j2k"),
    *(".dcm", ".dicom", ".nii", ".nii.gz"),
)


#: What a file of each format begins with, or is called. Its reader is imported when there is one.
_DICOM_SUFFIXES: Final = (".dcm", ".dicom")
_DICOM_MARK: Final = b"DICM"  # after a preamble of any content
_DICOM_PREAMBLE: Final = 128
_NIFTI_SUFFIXES: Final = (".nii", ".nii.gz")
_TIFF_MARKS: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def load_image(
    path: str | Path,
    *,
    window: Window | None = None,
    frame: int | None = None,
    axis: int | None = None,
    max_pixels: int = MAX_PIXELS,
    background: tuple[int, int, int] = BACKGROUND,
) -> LoadedImage:
    """Read one image completely, as RGB.

    * Eight bits stay eight bits. Sixteen bits are divided by 65535 (or by the range of the bits
      that the file says it uses) unless a ``window`` is given.
    * Float, signed and 32-bit images have no natural range: they need a ``window``. Values that
      are not finite are refused.
    * The EXIF orientation is applied; transparent pixels are put on ``background``; CMYK and RGB
      of 8 bits with an embedded colour profile become sRGB.
    * DICOM: rescale, then ``window`` or the display table or window of the file (one of them is
      needed beyond 8 bits), then MONOCHROME1 inverted.
    * An image in which nothing or little can be seen is read, and noted among its steps.

    Args:
        path: PNG, JPEG, TIFF, WebP, BMP, GIF, JPEG 2000, DICOM or NIfTI; also a URL, or a name
            behind that of an archive or table (:func:`cas_metric.files.place`).
        window: Range of stored values to show, for grey images; refused for colours.
        frame: Which picture of a file that holds several, from 0; the slice index for NIfTI.
        axis: Anatomical axis for NIfTI: 0 sagittal, 1 coronal, 2 axial.
        max_pixels: Largest accepted width times height.
        background: RGB behind transparent pixels.

    Returns:
        The pixels and the record of what was done to them. Memory to get them is taken from the
        budget that all threads share (:data:`~cas_metric.images.limits.BUDGET`).

    Raises:
        ImageError: The file is missing, empty, truncated, corrupt, too large, too small or thin,
            holds several pictures, or has values without a known range.
        MissingDependency: The extra for DICOM or NIfTI is not installed.

    Examples:
        >>> image = load_image("demo/real/test/images/test-00000.png")
        >>> image.pixels.shape, image.pixels.dtype, image.steps
        ((64, 64, 3), dtype('uint8'), ())
    """
    with at_hand(path) as file:
        return _load(_existing(file), window, frame, axis, max_pixels, background)


def _load(
    path: Path,
    window: Window | None,
    frame: int | None,
    axis: int | None,
    max_pixels: int,
    background: tuple[int, int, int],
) -> LoadedImage:
    """Decode one local file by what it holds."""
    cost = 0 if BUDGET.is_held else decoding_cost(path, max_pixels=max_pixels)
    with BUDGET.reserved(cost), naming(path, "check that the file is complete"):
        held = _format(path)
        if held == "nifti":
            from cas_metric.images.nifti import load_nifti

            image = load_nifti(path, axis=axis, index=frame, window=window, max_pixels=max_pixels)
        elif held == "dicom":
            from cas_metric.images.dicom import load_dicom

            image = load_dicom(path, window=window, frame=frame, max_pixels=max_pixels)
        elif held == "tiff":
            from cas_metric.images.tiff import load_tiff

            image = load_tiff(
                path, window=window, frame=frame, max_pixels=max_pixels, background=background
            )
        else:
            image = load_raster(
                path, window=window, frame=frame, max_pixels=max_pixels, background=background
            )
        return dataclasses.replace(image, steps=(*image.steps, *appearance(image.pixels)))


def probe_header(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Width and height by the header alone: cheap, and enough to refuse what cannot be decoded.

    A file that passes may still turn out truncated when it is decoded. Orientation is not applied.

    Raises:
        ImageError: The file is missing, empty, of no known format, too large, too small or thin.
        MissingDependency: The extra for DICOM or NIfTI is not installed.

    Examples:
        >>> probe_header("demo/real/test/images/test-00000.png")
        (64, 64)
    """
    with at_hand(path) as file:
        return _probe(file, max_pixels)[:2]


def decoding_cost(path: str | Path, *, resized_to: int = 0, max_pixels: int = MAX_PIXELS) -> int:
    """Upper bound, by the header, of the bytes of memory that decoding takes.

    Args:
        path: As :func:`load_image`.
        resized_to: Shorter side that the picture is going to be resized to, its proportions kept.
        max_pixels: As :func:`load_image`.

    Raises:
        ImageError: As :func:`probe_header`; or it would be more than
            :data:`~cas_metric.images.MAX_BYTES`.
        MissingDependency: The extra for DICOM or NIfTI is not installed.
    """
    with at_hand(path) as file:
        width, height, cost = _probe(file, max_pixels)
        aspect = max(width, height) / min(width, height)
        resized = int(resized_to**2 * aspect) * BYTES_PER_PIXEL
        return check_header(file, Header(width, height, cost + resized), max_pixels).cost


def _probe(path: Path, max_pixels: int) -> Header:
    path = _existing(path)
    held = _format(path)
    if held == "nifti":
        from cas_metric.images.nifti import probe_nifti

        return probe_nifti(path, max_pixels)
    if held == "dicom":
        from cas_metric.images.dicom import probe_dicom

        return probe_dicom(path, max_pixels)
    if held == "tiff":
        from cas_metric.images.tiff import probe_tiff

        return probe_tiff(path, max_pixels)
    return probe_raster(path, max_pixels)


def _format(path: Path) -> Literal["nifti", "dicom", "tiff", "raster"]:
    """What a file holds, by its name and its first bytes; ``raster`` is whatever Pillow reads."""
    name = path.name.lower()
    if name.endswith(_NIFTI_SUFFIXES):
        return "nifti"
    if name.endswith(_DICOM_SUFFIXES):
        return "dicom"
    with naming(path, REWRITE), path.open("rb") as file:
        head = file.read(_DICOM_PREAMBLE + len(_DICOM_MARK))
    if head[_DICOM_PREAMBLE:] == _DICOM_MARK:
        return "dicom"
    return "tiff" if head[:4] in _TIFF_MARKS else "raster"


def _existing(path: Path) -> Path:
    try:
        if not path.is_file():
            cause = "is a folder, not an image" if path.is_dir() else "no such file"
            raise ImageError(f"{path}: {cause}", fix="check the path in the manifest")
        if path.stat().st_size == 0:
            raise ImageError(f"{path}: the file is empty", fix="write the image again")
        with path.open("rb"):
            return path
    except (OSError, ValueError) as error:  # no permission; a NUL byte in the name
        raise ImageError(f"{path}: {error}", fix="check the path and its permissions") from error
