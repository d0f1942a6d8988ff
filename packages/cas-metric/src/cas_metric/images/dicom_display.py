"""From the stored values of a DICOM image to what is seen of it.

The order is that of the standard (PS3.3 C.11): modality rescale, then the values of interest
(an explicit window, else the table or window of the file), then the presentation.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

from cas_metric.errors import ImageError
from cas_metric.images.dicom_tables import LookupTable, palette
from cas_metric.images.raster import to_srgb
from cas_metric.images.values import GIVE_A_WINDOW, Window, grey_to_rgb, measured, refuse_window

if TYPE_CHECKING:
    from pydicom import Dataset

#: Items of functional groups whose attributes plain images carry at the top level.
DISPLAY_GROUPS: Final = ("PixelValueTransformationSequence", "FrameVOILUTSequence")


def number(dataset: Dataset, name: str, default: float) -> float:
    """The first value of an attribute, or ``default`` where it is absent or empty.

    Raises:
        ValueError: It is no finite number.
    """
    value = dataset.get(name)
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = value[0] if len(value) else None
    if value is None or str(value).strip() == "":
        return default
    if not np.isfinite(float(value)):
        raise ValueError(f"{name} is {value}")
    return float(value)


def flatten_functional_groups(dataset: Dataset, index: int) -> None:
    """Put what an enhanced image says of one frame where plain images say it."""
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [])[:1]
    own = (dataset.get("PerFrameFunctionalGroupsSequence") or [])[index : index + 1]
    for group in (*shared, *own):
        for name in DISPLAY_GROUPS:
            for item in (group.get(name) or [])[:1]:
                dataset.update(item)


def show(
    path: Path, dataset: Dataset, values: np.ndarray, interpretation: str, window: Window | None
) -> tuple[np.ndarray, list[str]]:
    """RGB pixels of one frame, and what was done to get them.

    Args:
        path: For messages.
        dataset: The attributes of the frame at its top level.
        values: ``(H, W)`` stored values, or ``(H, W, 3)`` colours.
        interpretation: Photometric interpretation of ``values``.
        window: Values after the rescale to show black and white, for grey.

    Raises:
        ImageError: A window on colours, values that are not finite, no window where one is
            needed, or an interpretation or table that is not read.
    """
    if interpretation in ("MONOCHROME1", "MONOCHROME2") and values.ndim == 2:
        return _grey(path, dataset, values, window)
    refuse_window(path, window)
    if interpretation == "PALETTE COLOR" and values.ndim == 2:
        return palette(path, dataset, values)
    if interpretation == "RGB" and values.ndim == 3 and values.dtype.kind == "u":
        return _colour(dataset, values)
    raise ImageError(
        f"{path}: {interpretation} of {values.dtype} values is not read",
        fix="export the image as RGB or MONOCHROME2",
    )


def _grey(
    path: Path, dataset: Dataset, values: np.ndarray, window: Window | None
) -> tuple[np.ndarray, list[str]]:
    if dataset.get("RedPaletteColorLookupTableDescriptor") and "PixelPresentation" in dataset:
        raise ImageError(
            f"{path}: a supplemental palette colours a part of its values, which is not read",
            fix="export the image as RGB",
        )
    values, full, steps = _rescaled(path, dataset, values)
    values = measured(path, values)
    if window is not None:
        shown, step = window.apply(values), str(window)
    else:
        shown, step = _as_stated(path, dataset, values, full)
    steps.append(step)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        shown = 1 - shown
        steps.append("MONOCHROME1 inverted")
    return grey_to_rgb(shown.astype(np.float32, copy=False)), steps


def _rescaled(
    path: Path, dataset: Dataset, values: np.ndarray
) -> tuple[np.ndarray, Window | None, list[str]]:
    """Values after the modality table or rescale, and the range that at most 8 bits can mean.

    Deeper values have no such range: how many of them carry the picture is not known (a CT uses a
    twentieth of its 16 bits), and the full range would show flat grey.
    """
    low, high = 0.0, 0.0
    if "PixelData" in dataset:
        bits = int(number(dataset, "BitsStored", number(dataset, "BitsAllocated", 8)))
        if bits <= 8:
            low, high = 0.0, 2.0**bits - 1
            if values.dtype.kind == "i":
                low, high = -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1
    steps = []
    if tables := dataset.get("ModalityLUTSequence"):
        table = LookupTable.of_item(path, dataset, tables[0])
        values = table.look_up(values)
        low, high = 0.0, table.white if high > low else 0.0
        steps.append(f"modality table applied{table.remark}")
    elif _states(dataset, "RescaleSlope") or _states(dataset, "RescaleIntercept"):
        slope = number(dataset, "RescaleSlope", 1)
        intercept = number(dataset, "RescaleIntercept", 0)
        if slope == 0:
            raise ImageError(
                f"{path}: RescaleSlope is 0, so that every pixel has the same value",
                fix="export the image again, with the slope that its values need",
            )
        steps.append(f"rescaled by {slope:.10g} and {intercept:.10g}")
        if (slope, intercept) != (1, 0):
            values = values.astype(np.float64)
            values *= slope
            values += intercept
        low, high = sorted((low * slope + intercept, high * slope + intercept))
    return values, Window(low, high) if low < high else None, steps


def _as_stated(
    path: Path, dataset: Dataset, values: np.ndarray, full: Window | None
) -> tuple[np.ndarray, str]:
    """Values in [0, 1] by the display table or window of the file; 8 bits need none."""
    if tables := dataset.get("VOILUTSequence"):
        table = LookupTable.of_item(path, dataset, tables[0])
        shown = table.look_up(values) / np.float32(table.white)
        return shown, f"display table of the file applied{table.remark}"
    if _states(dataset, "WindowCenter") and _states(dataset, "WindowWidth"):
        return _by_window_of_file(path, dataset, values)
    if full is not None:
        return full.apply(values), f"full range {full.low:g} to {full.high:g} shown"
    raise ImageError(
        f"{path}: the file does not say which of its values to show "
        f"({values.min():g} to {values.max():g})",
        fix=GIVE_A_WINDOW,
    )


def _by_window_of_file(path: Path, dataset: Dataset, values: np.ndarray) -> tuple[np.ndarray, str]:
    """Values in [0, 1] by the functions of PS3.3 C.11.2.1.2 and C.11.2.1.3."""
    center, width = number(dataset, "WindowCenter", 0), number(dataset, "WindowWidth", 0)
    function = str(dataset.get("VOILUTFunction") or "LINEAR")
    step = f"window of the file: centre {center:.10g}, width {width:.10g}, {function}"
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID") or width <= 0:
        raise ImageError(f"{path}: {step}: no such window", fix=GIVE_A_WINDOW)
    if function == "LINEAR":
        if width < 1:
            raise ImageError(f"{path}: {step}: narrower than 1", fix=GIVE_A_WINDOW)
        center, width = center - 0.5, width - 1
    if width == 0:
        return (values > center).astype(np.float32), step
    shown = values.astype(np.float64)
    shown -= center
    shown /= width
    if function == "SIGMOID":
        from scipy.special import expit

        shown *= 4
        return expit(shown, out=shown), step
    shown += 0.5
    return shown.clip(0, 1, out=shown), step


def _colour(dataset: Dataset, values: np.ndarray) -> tuple[np.ndarray, list[str]]:
    stated = str(dataset.PhotometricInterpretation)
    steps = [] if stated == "RGB" else [f"{stated} converted to RGB"]
    profile = dataset.get("ICCProfile")
    bits = int(number(dataset, "BitsStored", 8))
    if bits == 8 and values.dtype == np.uint8:
        image, done = to_srgb(Image.fromarray(values), profile)
        return np.asarray(image), [*steps, *done]
    steps.append(f"{bits}-bit scaled by 1/{2**bits - 1}")
    return values.astype(np.float32) / np.float32(2**bits - 1), steps


def _states(dataset: Dataset, name: str) -> bool:
    """Whether an attribute is there with a value; an empty one says nothing."""
    return not np.isnan(number(dataset, name, np.nan))
