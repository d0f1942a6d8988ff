"""Slices of NIfTI volumes, by nibabel.

A volume is no image: which axis and which slice are always given, never guessed.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, Final

import numpy as np

from cas_metric.errors import ImageError, MissingDependency
from cas_metric.images.values import LoadedImage, Window, check_size, grey_to_rgb, naming

AXES: Final = ("sagittal", "coronal", "axial")
FIX: Final = "check that the file is a complete NIfTI volume"


def is_nifti(path: Path) -> bool:
    """Whether the file is named as a NIfTI volume."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def load_nifti(
    path: Path, *, axis: int | None, index: int | None, window: Window | None, max_pixels: int
) -> LoadedImage:
    """One slice of a volume, in its anatomical orientation.

    The axes are those of the patient (0 left to right, 1 posterior to anterior, 2 inferior to
    superior), however the array is stored. Superior, or anterior in an axial slice, is up; the
    patient's left is on the left of the picture.

    Args:
        path: ``.nii`` or ``.nii.gz`` with three dimensions.
        axis: 0 sagittal, 1 coronal, 2 axial.
        index: Slice along ``axis``, from 0 at the patient's left, back or feet.
        window: Values to show black and white; else the display range of the header
            (``cal_min``, ``cal_max``) is used where it is set.
        max_pixels: Largest accepted slice.

    Raises:
        ImageError: No axis or index, not three dimensions, out of range, no window, corrupt.
        MissingDependency: nibabel is not installed.
    """
    _require_nibabel()
    import nibabel

    if axis not in (0, 1, 2) or index is None:
        raise ImageError(
            f"{path}: a volume is not an image",
            fix="choose axis (0 sagittal, 1 coronal, 2 axial) and frame (the slice), "
            "or export slices as 16-bit PNG",
        )
    with naming(path, FIX):
        volume: Any = nibabel.load(path)
        _check_volume(path, volume)
        stored, flip = nibabel.io_orientation(volume.affine).T
        stored_axis = int(np.flatnonzero(stored == axis)[0])
        count = volume.shape[stored_axis]
        if not 0 <= index < count:
            raise ImageError(
                f"{path}: has no slice {index} along axis {axis}",
                fix=f"choose a slice from 0 to {count - 1}",
            )
        position = index if flip[stored_axis] > 0 else count - 1 - index
        cut = [slice(None)] * 3
        cut[stored_axis] = slice(position, position + 1)
        plane = nibabel.as_closest_canonical(volume.slicer[tuple(cut)])
        values = np.rot90(np.asarray(plane.dataobj).squeeze(axis))
        check_size(path, values.shape[1], values.shape[0], max_pixels)
        window = window or _display_range(path, volume)
    steps = (f"{AXES[axis]} slice {index} of {count}", str(window))
    return LoadedImage(grey_to_rgb(window.apply(values)), steps)


def probe_nifti(path: Path, max_pixels: int) -> tuple[int, int]:
    """The two largest sides of a volume, by its header."""
    _require_nibabel()
    import nibabel

    with naming(path, FIX):
        volume: Any = nibabel.load(path)
        _check_volume(path, volume)
        _, height, width = sorted(int(side) for side in volume.shape)
        check_size(path, width, height, max_pixels)
        return width, height


def _require_nibabel() -> None:
    if importlib.util.find_spec("nibabel") is None:
        raise MissingDependency("nibabel", extra="nifti", purpose="reading NIfTI volumes")


def _check_volume(path: Path, volume: Any) -> None:
    shape = getattr(volume, "shape", ())
    if len(shape) != 3:
        raise ImageError(
            f"{path}: has shape {shape}, not three dimensions", fix="extract one volume first"
        )


def _display_range(path: Path, volume: Any) -> Window:
    header = volume.header
    low, high = float(header["cal_min"]), float(header["cal_max"])
    if not low < high:
        raise ImageError(
            f"{path}: the header states no display range",
            fix="give a window (the values to show black and white)",
        )
    return Window(low, high)
