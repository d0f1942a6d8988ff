"""The one way from a file to pixels: picks the reader by what the file holds."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cas_metric.errors import ImageError
from cas_metric.images import dicom, nifti, raster
from cas_metric.images.values import BACKGROUND, MAX_PIXELS, LoadedImage, Window, check_size

#: Endings of the files that a folder scan takes for images.
IMAGE_SUFFIXES: Final = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".jp2"),
    *(".dcm", ".dicom", ".nii", ".nii.gz"),
)


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
    * Float and signed images have no natural range: they need a ``window``.
    * The EXIF orientation is applied; transparent pixels are put on ``background``; CMYK and RGB
      with an embedded colour profile become sRGB.
    * DICOM: rescale, then ``window`` or the display window of the file (one of them is needed
      beyond 8 bits), then MONOCHROME1 inverted.

    Args:
        path: PNG, JPEG, TIFF, WebP, BMP, GIF, JPEG 2000, DICOM or NIfTI.
        window: Range of stored values to show, for grey images.
        frame: Which picture of a file that holds several, from 0; the slice index for NIfTI.
        axis: Anatomical axis for NIfTI: 0 sagittal, 1 coronal, 2 axial.
        max_pixels: Largest accepted width times height.
        background: RGB behind transparent pixels.

    Returns:
        The pixels and the record of what was done to them.

    Raises:
        ImageError: The file is missing, empty, truncated, corrupt, too large, too small, holds
            several pictures, or has values without a known range.
        MissingDependency: The extra for DICOM or NIfTI is not installed.
    """
    path = _existing(path)
    if nifti.is_nifti(path):
        return nifti.load_nifti(path, axis=axis, index=frame, window=window, max_pixels=max_pixels)
    if dicom.is_dicom(path):
        return dicom.load_dicom(path, window=window, frame=frame, max_pixels=max_pixels)
    return raster.load_raster(
        path, window=window, frame=frame, max_pixels=max_pixels, background=background
    )


def probe_header(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Width and height by the header alone: cheap, and enough to refuse what cannot be decoded.

    A file that passes may still turn out truncated when it is decoded. Orientation is not applied.

    Raises:
        ImageError: The file is missing, empty, of no known format, too large or too small.
        MissingDependency: The extra for DICOM or NIfTI is not installed.
    """
    path = _existing(path)
    if nifti.is_nifti(path):
        return nifti.probe_nifti(path, max_pixels)
    if dicom.is_dicom(path):
        return dicom.probe_dicom(path, max_pixels)
    with raster.opened(path) as image:
        check_size(path, image.width, image.height, max_pixels)
        return image.width, image.height


def _existing(path: str | Path) -> Path:
    path = Path(path)
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
