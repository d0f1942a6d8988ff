"""The images that libraries carry for their own tests, read here and by independent decoders.

``python -m benchmarks.images.decoders [--pillow FOLDER]``

pydicom and nibabel bring theirs along. Pillow's lie in its source distribution:

    pip download --no-deps --no-binary pillow pillow && tar xf pillow-*.tar.gz

The judges are no dependencies of the project: ``pip install SimpleITK opencv-python-headless
imagecodecs`` (the last is what tifffile decodes LZW and JPEG with).

Every file must be read or refused with an ``ImageError``; anything else ends the run with its
traceback. Of a file that is read, the largest difference to the judge is told, in 255 grey levels,
wherever it is more than one. What is seen of stored values (window, inversion, palette, alpha) is
computed here a second time from the judge's values, in the plainest way.
"""

from __future__ import annotations

import argparse
import collections
import logging
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813
import tifffile

from cas_metric.errors import ImageError
from cas_metric.images import LoadedImage, Window, load_image, to_uint8

TOLERANCE = 1.0  # grey levels of 255
#: Where the reader asks for a window or a slice, it gets these.
NO_WINDOW = ("which of its values to show", "no fixed range", "no display range")
NO_SLICE = "a volume is not an image"

#: Files in which the judge is at a loss, and others of the same picture.
PYDICOM_TWINS = {
    "SC_rgb_rle_16bit.dcm": "SC_rgb_rle.dcm",
    "SC_rgb_rle_16bit_2frame.dcm": "SC_rgb_rle_2frame.dcm",
    "SC_rgb_rle_32bit.dcm": "SC_rgb_rle.dcm",
    "SC_rgb_rle_32bit_2frame.dcm": "SC_rgb_rle_2frame.dcm",
    "rtdose_expb.dcm": "rtdose.dcm",
    "rtdose_expb_1frame.dcm": "rtdose_1frame.dcm",
    "rtdose_rle_1frame.dcm": "rtdose_1frame.dcm",
}
PILLOW_TWINS = {
    "bmp/g/pal8os2.bmp": "bmp/g/pal8.bmp",
    "bmp/q/pal8os2sp.bmp": "bmp/g/pal8.bmp",
    "mmap_error.bmp": "bmp/g/pal8.bmp",
    "bmp/q/rgb32h52.bmp": "bmp/g/rgb24.bmp",
    "bmp/g/rgb16.bmp": "bmp/g/rgb24.bmp",
    "bmp/g/rgb16-565.bmp": "bmp/g/rgb24.bmp",
    "bmp/g/rgb16-565pal.bmp": "bmp/g/rgb24.bmp",
}

#: Values of a file, ``(H, W)`` or ``(H, W, C)``, and how they show through a window, in [0, 1].
Values = np.ndarray
Judge = tuple[Callable[[Path], Values], Callable[[Path, Values, Window | None], np.ndarray]]


class Unjudged(Exception):
    """No second opinion can be had, for the reason given."""


def main() -> None:
    """Go through all files and print what differs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pillow", type=Path, help="Tests/images of Pillow's source distribution")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    dicom, nifti = (values_itk, show_dicom), (values_itk, show_nifti)
    report("pydicom", Path(pydicom.__file__).parent / "data", "*", dicom)
    report_twins(Path(pydicom.__file__).parent / "data" / "test_files", PYDICOM_TWINS)
    report("nibabel, DICOM", Path(nibabel.__file__).parent, "*.dcm", dicom)
    report("nibabel, NIfTI", Path(nibabel.__file__).parent, "*.nii*", nifti)
    if arguments.pillow:
        report("Pillow", arguments.pillow, "*", (values_raster, show_raster))
        report_twins(arguments.pillow, PILLOW_TWINS)


def report(name: str, folder: Path, pattern: str, judge: Judge) -> None:
    """Print what differs in one collection, and a line of counts."""
    counts: collections.Counter[str] = collections.Counter()
    causes: collections.Counter[str] = collections.Counter()
    for path in sorted(one for one in folder.rglob(pattern) if one.is_file()):
        outcome = compare(path, judge)
        kind, _, detail = outcome.partition(": ")
        counts[kind] += 1
        if kind == "refused":
            causes[re.sub(r"[-.0-9]+|\(.*\)", "…", detail)] += 1
        elif kind != "equal":
            print(f"  {path.relative_to(folder)}: {outcome}")
    told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    print(f"{name}: {sum(counts.values())} files: {told}", flush=True)
    for cause, count in causes.most_common():
        print(f"  {count} refused: {cause[:150]}")


def report_twins(folder: Path, twins: dict[str, str]) -> None:
    """Print whether files that hold one picture are shown alike."""
    for one, other in twins.items():
        window = Window(0, 2e6) if one.startswith("rtdose") else None
        several = "2frame" in one or one == "rtdose_expb.dcm"
        first, second = (
            to_uint8(load_image(folder / name, window=window, frame=0 if several else None).pixels)
            for name in (one, other)
        )
        apart = np.abs(first.astype(int) - second)
        print(f"  {one} and {other}: {apart.max()} of 255 apart")


def compare(path: Path, judge: Judge) -> str:
    """``refused: why``, ``equal``, ``unjudged: why``, or ``differs: by how much``."""
    read, show = judge
    try:
        image, window = load(path, read)
    except ImageError as error:
        return "refused: " + error.problem.removeprefix(f"{path}: ")
    try:
        if any("converted to sRGB" in step for step in image.steps):
            raise Unjudged("has a colour profile, which the judge ignores")
        expected = show(path, read(path), window)
    except Unjudged as error:
        return f"unjudged: {error}"
    pixels = image.pixels.astype(np.float64)
    if image.pixels.dtype == np.uint8:
        pixels /= 255
    if expected.ndim == 2:
        expected = np.stack([expected] * 3, axis=2)
    expected = _turned(path, expected, image)
    if pixels.shape != expected.shape:
        return f"differs: {pixels.shape} here, {expected.shape} there"
    apart = np.abs(pixels - expected) * 255
    if apart.max() <= TOLERANCE:
        return "equal"
    steps = "; ".join(image.steps)
    return f"differs: by {apart.max():.1f} of 255, on average {apart.mean():.2f} ({steps})"


def _turned(path: Path, expected: np.ndarray, image: LoadedImage) -> np.ndarray:
    """As the EXIF says, where the judge does not look at it (TIFF 6.0, page 36)."""
    found = [step for step in image.steps if step.startswith("EXIF orientation")]
    if not found or path.suffix in (".jpg", ".jpeg", ".mpo"):
        return expected
    rows_first = {2: np.s_[:, ::-1], 3: np.s_[::-1, ::-1], 4: np.s_[::-1], 5: np.s_[:]}
    columns_first = {6: np.s_[:, ::-1], 7: np.s_[::-1, ::-1], 8: np.s_[::-1]}
    orientation = int(found[0].split()[2])
    if orientation < 5:
        return expected[rows_first[orientation]]
    return expected.swapaxes(0, 1)[(rows_first | columns_first)[orientation]]


def load(path: Path, read: Callable[[Path], Values]) -> tuple[LoadedImage, Window | None]:
    """The image, through a window of all its values where it needs one; frame and slice 0."""
    options: dict[str, int] = {}
    try:
        return load_image(path), None
    except ImageError as error:
        if NO_SLICE in str(error):
            options = {"axis": 2, "frame": 0}
        elif "holds" in str(error) and ("frames" in str(error) or "pictures" in str(error)):
            options = {"frame": 0}
        elif not any(cause in str(error) for cause in NO_WINDOW):
            raise
    try:
        return load_image(path, **options), None
    except ImageError as error:
        if not any(cause in str(error) for cause in NO_WINDOW):
            raise
    try:
        values = read(path)
        window = Window(float(values.min()), float(values.max()) + 1)
    except Unjudged:
        window = Window(0, 4000)
    return load_image(path, window=window, **options), window


def values_itk(path: Path) -> Values:
    """Values after the rescale, by ITK: DICOM by GDCM, NIfTI by its own library."""
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise Unjudged("ITK does not read it") from error
    if path.name.endswith((".nii", ".nii.gz")):
        return sitk.GetArrayFromImage(sitk.DICOMOrient(image, "RAS"))
    values = sitk.GetArrayFromImage(image)
    return values[0] if values.ndim > 2 and image.GetDimension() > 2 else values


def show_nifti(path: Path, values: Values, window: Window | None) -> np.ndarray:
    """The lowest axial slice, front up, left on the left."""
    header = nibabel.load(path).header
    low, high = window.bounds if window else (float(header["cal_min"]), float(header["cal_max"]))
    return ((values[0][::-1].astype(float) - low) / (high - low)).clip(0, 1)


def show_dicom(path: Path, values: Values, window: Window | None) -> np.ndarray:
    """PS3.3 C.11 on values that ITK has rescaled, and coloured where there is a palette."""
    found = pydicom.dcmread(path, stop_before_pixels=True)
    bits = int(found.BitsStored)
    if values.ndim == 3 or bits == 1:  # ITK gives the bits of a mask as 0 and 255
        return values / float(np.iinfo(values.dtype).max)
    values = values.astype(float)
    if found.PhotometricInterpretation == "MONOCHROME1":  # GDCM has turned these around
        slope, intercept = (
            float(found.get("RescaleSlope", 1)),
            float(found.get("RescaleIntercept", 0)),
        )
        values = slope * (2**bits - 1) + 2 * intercept - values
    if window is not None:
        low, high = window.bounds
        shown = ((values - low) / (high - low)).clip(0, 1)
    elif "WindowWidth" in found:
        center = float(np.atleast_1d(found.WindowCenter)[0])
        width = float(np.atleast_1d(found.WindowWidth)[0])
        shown = ((values - (center - 0.5)) / (width - 1) + 0.5).clip(0, 1)
    else:
        shown = values / (2**bits - 1)
    return 1 - shown if found.PhotometricInterpretation == "MONOCHROME1" else shown


def values_raster(path: Path) -> Values:
    """Stored values by tifffile and imagecodecs, or by OpenCV."""
    if path.read_bytes()[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _values_tiff(path)
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is not None and (image.ndim == 2 or image.shape[2] == 3):  # also turn it by its EXIF
        image = cv2.imread(str(path), cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
    if image is None:
        raise Unjudged("OpenCV does not read it")
    if image.ndim == 3:
        image = image[..., [2, 1, 0, 3][: image.shape[2]]]
    return image


def _values_tiff(path: Path) -> Values:
    """Stored values, of less than 8 or 16 bits spread over these; colours as RGB, black is 0."""
    try:
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages[0]
            values = page.asarray()
    except Exception as error:
        raise Unjudged(f"tifffile does not read it ({type(error).__name__})") from error
    if page.axes.startswith("S"):
        values = np.moveaxis(values, 0, -1)
    if page.colormap is not None and values.ndim == 3:
        raise Unjudged("palette and alpha")
    if page.colormap is not None:
        return page.colormap[:, values.astype(int)].transpose(1, 2, 0)
    if page.photometric == 5:
        ink = 255.0 - values
        return (ink[..., :3] * ink[..., 3:] / 255).round().astype(np.uint8)
    if page.photometric == 8:
        raise Unjudged("CIELAB")
    if page.extrasamples == (1,):
        alpha = np.maximum(values[..., -1:], 1) / 255.0
        colours = (values[..., :-1] / alpha).clip(0, 255)
        return np.concatenate([colours.round().astype(np.uint8), values[..., -1:]], axis=2)
    if values.dtype.kind in "bu":
        top = 2**page.bitspersample - 1
        values = values.astype(float) / top
        return 1 - values if page.photometric == 0 else values
    if page.photometric == 0:
        raise Unjudged("holds numbers of which the lowest is white")
    return values


def show_raster(path: Path, values: Values, window: Window | None) -> np.ndarray:
    """Divided by the range of the type, alpha put on white."""
    if window is not None:
        low, high = window.bounds
        return ((values.astype(float) - low) / (high - low)).clip(0, 1)
    shown = values if values.dtype.kind == "f" else values / float(np.iinfo(values.dtype).max)
    if path.suffix in (".j2k", ".jp2") and values.dtype == np.uint16:
        shown = shown * 65535 / (2 ** _bits_of_jpeg_2000(path) - 1)
    if shown.ndim == 3 and shown.shape[2] in (2, 4):
        alpha = shown[..., -1:]
        shown = shown[..., :-1] * alpha + 1 - alpha
    return shown if shown.ndim == 2 or shown.shape[2] == 3 else shown[..., 0]


def _bits_of_jpeg_2000(path: Path) -> int:
    """Ssiz of the first component (ISO 15444-1, A.5.1)."""
    content = path.read_bytes()
    return content[content.index(b"\xff\x51") + 2 + 38] % 128 + 1


if __name__ == "__main__":
    main()
