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
    _require_pydicom()
    import pydicom

    with naming(path, FIX):
        dataset = pydicom.dcmread(path)
        _check_header(path, dataset, max_pixels)
        index, steps = _choose_frame(path, dataset, frame)
        values = _decode(path, dataset, index)
        if dataset.get("SamplesPerPixel", 1) > 1 or values.ndim == 3:
            pixels, done = _colour(dataset, values)
        elif dataset.PhotometricInterpretation == "PALETTE COLOR":
            pixels, done = _palette(dataset, values)
        else:
            pixels, done = _grey(path, dataset, values, window)
    return LoadedImage(np.ascontiguousarray(pixels), (*steps, *done))


def probe_dicom(path: Path, max_pixels: int) -> tuple[int, int]:
    """Width and height of a DICOM image by its header."""
    _require_pydicom()
    import pydicom

    with naming(path, FIX):
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        _check_header(path, dataset, max_pixels)
        return int(dataset.Columns), int(dataset.Rows)


def _require_pydicom() -> None:
    if importlib.util.find_spec("pydicom") is None:
        raise MissingDependency("pydicom", extra="dicom", purpose="reading DICOM images")


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
    if not decoder.is_available:
        needed = "; or ".join(decoder.missing_dependencies)
        raise ImageError(
            f"{path}: no installed package decodes {syntax.name}", fix=f"install one of: {needed}"
        )
    return pixel_array(dataset, index=index)


def _grey(
    path: Path, dataset: Dataset, values: np.ndarray, window: Window | None
) -> tuple[np.ndarray, list[str]]:
    from pydicom.pixels import apply_modality_lut, apply_voi, apply_windowing

    steps = []
    rescaled = apply_modality_lut(values, dataset)
    if "ModalityLUTSequence" in dataset:
        steps.append("modality table applied")
    elif "RescaleSlope" in dataset:
        steps.append(f"rescaled by {dataset.RescaleSlope} and {dataset.RescaleIntercept}")
    if window is not None:
        shown = window.apply(rescaled)
        steps.append(str(window))
    elif dataset.get("VOILUTSequence"):
        top = 2 ** int(dataset.VOILUTSequence[0].LUTDescriptor[2]) - 1
        shown = apply_voi(rescaled, dataset).astype(np.float32) / np.float32(top)
        steps.append("display table of the file applied")
    else:
        low, high = _value_range(path, dataset)
        if "WindowCenter" in dataset and "WindowWidth" in dataset:
            # pydicom maps the window onto the range of stored values, undone by the line below.
            rescaled = apply_windowing(rescaled, dataset)
            steps.append(_window_step(dataset))
        else:
            steps.append(f"no window in the file: full range {low:g} to {high:g} shown")
        shown = ((rescaled.astype(np.float64) - low) / (high - low)).clip(0, 1)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        shown = 1 - shown
        steps.append("MONOCHROME1 inverted")
    return grey_to_rgb(shown.astype(np.float32)), steps


def _window_step(dataset: Dataset) -> str:
    center, width = (
        element.value[0] if element.VM > 1 else element.value
        for element in (dataset["WindowCenter"], dataset["WindowWidth"])
    )
    function = dataset.get("VOILUTFunction", "LINEAR")
    return f"window of the file: centre {center}, width {width}, {function}"


def _value_range(path: Path, dataset: Dataset) -> tuple[float, float]:
    """Smallest and largest value that the stored bits can mean after the rescale."""
    if "PixelData" not in dataset:
        raise ImageError(
            f"{path}: float pixel data have no fixed range", fix="give a window explicitly"
        )
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
