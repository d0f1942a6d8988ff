"""DICOM, by pydicom: rescale, display window, photometric interpretation.

The order is that of the standard (PS3.3 C.11): modality rescale, then the values of interest
(an explicit window, else the table or window of the file), then the presentation.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from cas_metric.errors import ImageError, MissingDependency
from cas_metric.images.values import LoadedImage, Window, check_size, grey_to_rgb, naming

if TYPE_CHECKING:
    from pydicom import Dataset

SUFFIXES: Final = (".dcm", ".dicom")
PREAMBLE: Final = 128
FIX: Final = "check that the file is a complete DICOM image"


def is_dicom(path: Path) -> bool:
    """Whether the file carries DICOM's mark, or at least its name."""
    if path.suffix.lower() in SUFFIXES:
        return True
    with naming(path, FIX), path.open("rb") as file:
        return file.read(PREAMBLE + 4)[PREAMBLE:] == b"DICM"


def load_dicom(
    path: Path, *, window: Window | None, frame: int | None, max_pixels: int
) -> LoadedImage:
    """Decode one DICOM image; see :func:`cas_metric.images.load_image`."""
    with naming(path, FIX):
        dataset = _read(path)
        _check_header(path, dataset, max_pixels)
        index, steps = _choose_frame(path, dataset, frame)
        values = _decode(path, dataset, index)
        if values.ndim == 3:
            pixels, done = _colour(dataset, values)
        elif dataset.PhotometricInterpretation == "PALETTE COLOR":
            pixels, done = _palette(dataset, values)
        else:
            pixels, done = _grey(path, dataset, values, window)
    return LoadedImage(np.ascontiguousarray(pixels), (*steps, *done))


def probe_dicom(path: Path, max_pixels: int) -> tuple[int, int]:
    """Width and height of a DICOM image by its header."""
    with naming(path, FIX):
        dataset = _read(path, stop_before_pixels=True)
        _check_header(path, dataset, max_pixels)
        return int(dataset.Columns), int(dataset.Rows)


def _read(path: Path, *, stop_before_pixels: bool = False) -> Dataset:
    if importlib.util.find_spec("pydicom") is None:
        raise MissingDependency("pydicom", extra="dicom", purpose="reading DICOM images")
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        return pydicom.dcmread(path, stop_before_pixels=stop_before_pixels)
    except InvalidDicomError as error:
        raise ImageError(f"{path}: has no DICOM header", fix="export the image again") from error


def _check_header(path: Path, dataset: Dataset, max_pixels: int) -> None:
    if "Rows" not in dataset or "Columns" not in dataset:
        kind = dataset.get("Modality", "object")
        raise ImageError(
            f"{path}: this DICOM {kind} holds no image", fix="remove it from the manifest"
        )
    check_size(path, int(dataset.Columns), int(dataset.Rows), max_pixels)


def _choose_frame(path: Path, dataset: Dataset, frame: int | None) -> tuple[int, list[str]]:
    count = int(dataset.get("NumberOfFrames", 1) or 1)
    if frame is None and count > 1:
        raise ImageError(
            f"{path}: holds {count} frames", fix="export the wanted one as a file of its own"
        )
    if frame is not None and not 0 <= frame < count:
        raise ImageError(
            f"{path}: has no frame {frame}", fix=f"choose a frame from 0 to {count - 1}"
        )
    return frame or 0, [f"frame {frame} of {count}"] if count > 1 else []


def _decode(path: Path, dataset: Dataset, index: int) -> np.ndarray:
    """Stored values of one frame: ``(H, W)`` or, already converted from YBR, ``(H, W, 3)`` RGB."""
    from pydicom.pixels import get_decoder, pixel_array

    syntax = dataset.file_meta.TransferSyntaxUID
    decoder = get_decoder(syntax)
    needed = f"install one of: {'; '.join(decoder.missing_dependencies)}"
    if not decoder.is_available:
        raise ImageError(f"{path}: no installed package decodes {syntax.name}", fix=needed)
    try:
        return pixel_array(dataset, index=index)
    except RuntimeError as error:  # every installed decoder tried and failed
        cause = " ".join(str(error).split())
        raise ImageError(f"{path}: {syntax.name}: {cause}", fix=needed) from error


def _grey(
    path: Path, dataset: Dataset, values: np.ndarray, window: Window | None
) -> tuple[np.ndarray, list[str]]:
    from pydicom.pixels import apply_modality_lut

    steps = []
    rescaled = apply_modality_lut(values, dataset)
    if "ModalityLUTSequence" in dataset:
        steps.append("modality table applied")
    elif "RescaleSlope" in dataset:
        steps.append(f"rescaled by {dataset.RescaleSlope} and {dataset.RescaleIntercept}")
    if window is not None:
        shown, step = window.apply(rescaled), str(window)
    else:
        shown, step = _show_as_stated(path, dataset, rescaled)
    steps.append(step)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        shown = 1 - shown
        steps.append("MONOCHROME1 inverted")
    return grey_to_rgb(shown.astype(np.float32)), steps


def _show_as_stated(path: Path, dataset: Dataset, rescaled: np.ndarray) -> tuple[np.ndarray, str]:
    """Values in [0, 1] by the display table or window of the file; 8 bits need none.

    Deeper images without either are refused: how many of their values carry the picture is not
    known (a CT uses a twentieth of its 16 bits), and the full range would show flat grey.
    """
    from pydicom.pixels import apply_voi, apply_windowing

    if dataset.get("VOILUTSequence"):
        top = 2 ** int(dataset.VOILUTSequence[0].LUTDescriptor[2]) - 1
        return apply_voi(rescaled, dataset) / float(top), "display table of the file applied"
    has_window = "WindowCenter" in dataset and "WindowWidth" in dataset
    if not has_window and ("PixelData" not in dataset or int(dataset.BitsStored) > 8):
        raise ImageError(
            f"{path}: the file does not say which of its values to show "
            f"({rescaled.min():g} to {rescaled.max():g})",
            fix="give a window (the values to show black and white)",
        )
    low, high = _value_range(dataset)
    if has_window:
        # pydicom maps the window onto the range of stored values, which the last line undoes.
        rescaled = apply_windowing(rescaled, dataset)
        step = _window_step(dataset)
    else:
        step = f"full range {low:g} to {high:g} shown"
    return ((rescaled.astype(np.float64) - low) / (high - low)).clip(0, 1), step


def _window_step(dataset: Dataset) -> str:
    center, width = (
        element.value[0] if element.VM > 1 else element.value
        for element in (dataset["WindowCenter"], dataset["WindowWidth"])
    )
    function = dataset.get("VOILUTFunction", "LINEAR")
    return f"window of the file: centre {center}, width {width}, {function}"


def _value_range(dataset: Dataset) -> tuple[float, float]:
    """Smallest and largest value that the stored bits can mean after the rescale."""
    if dataset.get("ModalityLUTSequence"):
        return 0.0, 2.0 ** int(dataset.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
    bits = int(dataset.BitsStored)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    if dataset.PixelRepresentation == 0:
        low, high = 0, 2**bits - 1
    slope = float(dataset.get("RescaleSlope", 1))
    intercept = float(dataset.get("RescaleIntercept", 0))
    return low * slope + intercept, high * slope + intercept


def _palette(dataset: Dataset, values: np.ndarray) -> tuple[np.ndarray, list[str]]:
    from pydicom.pixels import apply_color_lut

    colours = apply_color_lut(values, dataset)[..., :3]
    bits = int(dataset.RedPaletteColorLookupTableDescriptor[2])
    scaled = colours.astype(np.float32) / np.float32(2**bits - 1)
    return scaled, [f"palette of {bits} bits applied"]


def _colour(dataset: Dataset, values: np.ndarray) -> tuple[np.ndarray, list[str]]:
    interpretation = str(dataset.PhotometricInterpretation)
    steps = [] if interpretation == "RGB" else [f"{interpretation} converted to RGB"]
    bits = int(dataset.BitsStored)
    if bits == 8 and values.dtype == np.uint8:
        return values, steps
    steps.append(f"{bits}-bit scaled by 1/{2**bits - 1}")
    return (values / float(2**bits - 1)).astype(np.float32), steps
