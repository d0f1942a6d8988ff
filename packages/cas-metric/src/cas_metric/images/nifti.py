"""Slices of NIfTI volumes, by nibabel.

A volume is no image: which axis and which slice are always given, never guessed.
"""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any, Final

import numpy as np

from cas_metric.errors import ImageError, MissingDependency
from cas_metric.images.limits import BYTES_PER_DEEP_PIXEL, Header, check_header, naming
from cas_metric.images.values import GIVE_A_WINDOW, LoadedImage, Window, grey_to_rgb, measured

AXES: Final = ("sagittal", "coronal", "axial")
FIX: Final = "check that the file is a complete NIfTI volume"
SAVE_SLICES: Final = (
    "choose slices and save each as a file of its own: load_image(path, axis=2, frame=80, "
    "window=Window(low, high)) and save_png(image, path) of cas_metric.images; "
    "axis is 0 sagittal, 1 coronal, 2 axial"
)
#: Largest accepted extension of a header, in bytes; nibabel reads it whole, and it may be deflated.
MAX_EXTENSION: Final = 2**24
#: Copies of a volume that are held at once when a slice of it is read.
VOLUME_COPIES: Final = 2


def load_nifti(
    path: Path, *, axis: int | None, index: int | None, window: Window | None, max_pixels: int
) -> LoadedImage:
    """One slice of a volume, in its anatomical orientation.

    The axes are those of the patient (0 left to right, 1 posterior to anterior, 2 inferior to
    superior), however the array is stored. Superior, or anterior in an axial slice, is up; the
    patient's left is on the left of the picture.

    Args:
        path: ``.nii`` or ``.nii.gz`` with three dimensions.
        axis: 0 sagittal, 1 coronal, 2 axial; may be left out, with ``index``, where there is but
            one slice.
        index: Slice along ``axis``, from 0 at the patient's left, back or feet.
        window: Values to show black and white; else the display range of the header
            (``cal_min``, ``cal_max``) is used where it is set.
        max_pixels: Largest accepted slice.

    Raises:
        ImageError: No axis or index, not three dimensions, out of range, no window, corrupt.
        MissingDependency: nibabel is not installed.
    """
    with naming(path, FIX):
        volume = _open(path)
        check_header(path, _header(path, volume), max_pixels)
        axis, index = _the_only_slice(volume, axis, index)
        if axis not in (0, 1, 2) or index is None:
            raise ImageError(f"{path}: a volume is not an image", fix=SAVE_SLICES)
        stored, flip = _orientation(volume)
        stored_axis = int(np.flatnonzero(stored == axis)[0])
        count = volume.shape[stored_axis]
        if not 0 <= index < count:
            raise ImageError(
                f"{path}: has no slice {index} along axis {axis}",
                fix=f"choose a slice from 0 to {count - 1}",
            )
        position = index if flip[stored_axis] > 0 else count - 1 - index
        plane = _cut(volume, stored_axis, position)
        values = measured(path, np.rot90(np.asarray(plane.dataobj).squeeze(axis)))
        window = window or _display_range(path, volume)
    steps = (f"{AXES[axis]} slice {index} of {count}", str(window))
    return LoadedImage(grey_to_rgb(window.apply(values)), steps)


def probe_nifti(path: Path, max_pixels: int) -> Header:
    """The two largest sides of a volume and what a slice costs, by its header."""
    with naming(path, FIX):
        return check_header(path, _header(path, _open(path)), max_pixels)


def _open(path: Path) -> Any:
    """A volume of three dimensions, of which nothing but the header has been read."""
    if importlib.util.find_spec("nibabel") is None:
        raise MissingDependency("nibabel", extra="nifti", purpose="reading NIfTI volumes")
    import nibabel

    with nibabel.openers.ImageOpener(str(path)) as file:
        beginning = file.read(nibabel.Nifti2Header.template_dtype.itemsize)
    for kind in (nibabel.Nifti1Header, nibabel.Nifti2Header):
        size = kind.template_dtype.itemsize
        header = kind(beginning[:size], check=False) if len(beginning) >= size else None
        if header and header["sizeof_hdr"] == size and header["vox_offset"] > MAX_EXTENSION:
            raise ImageError(f"{path}: its pixels begin too far behind its header", fix=FIX)
    volume = nibabel.load(path)
    shape = getattr(volume, "shape", ())
    if len(shape) < 3 or min(shape) < 1 or set(shape[3:]) - {1}:
        fix = "save a plane with a third dimension of 1" if len(shape) < 3 else "extract one volume"
        raise ImageError(f"{path}: has shape {shape}, not three dimensions", fix=fix)
    return volume


def _header(path: Path, volume: Any) -> Header:
    _, height, width = sorted(int(side) for side in volume.shape[:3])
    stored = math.prod(int(side) for side in volume.shape) * volume.get_data_dtype().itemsize
    cost = VOLUME_COPIES * stored + width * height * BYTES_PER_DEEP_PIXEL
    return Header(width, height, cost)


def _the_only_slice(volume: Any, axis: int | None, index: int | None) -> tuple[Any, Any]:
    """Of a volume of one slice, that one; else what was chosen."""
    thin = np.flatnonzero(np.array(volume.shape[:3]) == 1)
    if axis is None and index is None and len(thin) == 1:
        return int(_orientation(volume)[0][thin[0]]), 0
    return axis, index


def _orientation(volume: Any) -> tuple[np.ndarray, np.ndarray]:
    """The axis of the patient along each stored axis, and 1 or -1 for its direction."""
    import nibabel

    if not np.isfinite(volume.affine).all():
        raise ValueError("its affine is not finite, so that no axis is known")
    axes, directions = nibabel.io_orientation(volume.affine).T
    if not np.isfinite(axes).all():
        raise ValueError("its affine leaves an axis of the patient out")
    return axes, directions


def _cut(volume: Any, stored_axis: int, position: int) -> Any:
    """A slab of one slice, along the axes of the patient."""
    import nibabel

    cut: list[Any] = [slice(None)] * 3 + [0] * (len(volume.shape) - 3)
    cut[stored_axis] = slice(position, position + 1)
    return nibabel.as_closest_canonical(volume.slicer[tuple(cut)])


def _display_range(path: Path, volume: Any) -> Window:
    header = volume.header
    low, high = float(header["cal_min"]), float(header["cal_max"])
    if not (low < high and math.isfinite(high - low)):
        raise ImageError(
            f"{path}: the header states no display range",
            fix=GIVE_A_WINDOW,
        )
    return Window(low, high)
