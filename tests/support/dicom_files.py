"""DICOM files of drawn values, with whatever attributes a test wants them to have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def write_dicom(
    path: Path,
    values: np.ndarray | bytes,
    *,
    shape: tuple[int, ...] = (),
    syntax: str = "1.2.840.10008.1.2.1",
    **attributes: Any,
) -> Path:
    """Write ``(H, W)`` grey or ``(H, W, 3)`` colours; an attribute of None is left out.

    Args:
        path: File to write.
        values: Integers of 8, 16 or 32 bits, floats, or bytes as they shall stand in the file.
        shape: Of ``values``, where they are bytes.
        syntax: Transfer syntax.
        attributes: By keyword; they replace those that follow from ``values``.
    """
    import pydicom

    dataset = pydicom.Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3.4"
    shape = shape or values.shape
    colour = len(shape) == 3
    size = 1 if isinstance(values, bytes) else values.dtype.itemsize
    stated = {
        "Rows": shape[0],
        "Columns": shape[1],
        "SamplesPerPixel": 3 if colour else 1,
        "PhotometricInterpretation": "RGB" if colour else "MONOCHROME2",
        "BitsAllocated": 8 * size,
        "BitsStored": 8 * size,
        "HighBit": 8 * size - 1,
        "PixelRepresentation": int(not isinstance(values, bytes) and values.dtype.kind == "i"),
    }
    if colour:
        stated["PlanarConfiguration"] = 0
    big = syntax == "1.2.840.10008.1.2.2"
    if isinstance(values, bytes):
        stated["PixelData"] = values
    elif values.dtype.kind == "f":
        stated[{4: "FloatPixelData", 8: "DoubleFloatPixelData"}[size]] = values.tobytes()
    else:
        stated["PixelData"] = values.astype(
            values.dtype.newbyteorder(">" if big else "<")
        ).tobytes()
    for name, value in {**stated, **attributes}.items():
        if value is not None:
            setattr(dataset, name, value)
    if "PixelData" in dataset:
        dataset["PixelData"].VR = "OB" if size == 1 else "OW"
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path, enforce_file_format=True)
    return path


def item(**attributes: Any) -> Any:
    """A data set to put into a sequence."""
    import pydicom

    dataset = pydicom.Dataset()
    for name, value in attributes.items():
        setattr(dataset, name, value)
    return dataset


def table(entries: np.ndarray | bytes, bits: int, *, first: int = 0, count: int = 0) -> Any:
    """An item with a lookup table: bytes become OW, an array numbers (US)."""
    dataset = item(LUTDescriptor=[count or len(entries), first, bits])
    if isinstance(entries, bytes):
        dataset.add_new("LUTData", "OW", entries)
    else:
        dataset.add_new("LUTData", "US", entries.tolist())
    return dataset
