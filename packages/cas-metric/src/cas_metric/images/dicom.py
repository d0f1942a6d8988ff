"""DICOM files, by pydicom: headers, frames, stored values.

How stored values look is decided in :mod:`cas_metric.images.dicom_display`.
"""

from __future__ import annotations

import importlib.util
import io
import itertools
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np
from PIL import Image

from cas_metric.errors import ImageError, MissingDependency
from cas_metric.images import dicom_display
from cas_metric.images.dicom_display import number
from cas_metric.images.limits import BYTES_PER_DEEP_PIXEL, Header, check_header, naming
from cas_metric.images.values import SAVE_ONE, LoadedImage, Window

if TYPE_CHECKING:
    from pydicom import Dataset

PREAMBLE: Final = 128
FIX: Final = "check that the file is a complete DICOM image"
#: Elements larger than this many bytes are passed over where only the header is wanted.
LARGE_ELEMENT: Final = 2**16
#: Bytes before the pixels of a deflated data set; where only they are wanted, no more is inflated.
DEFLATED_HEADER: Final = 2**22
#: Copies of an inflated data set that reading holds at once.
DEFLATED_COPIES: Final = 4
#: Run-length code may be longer than what it stands for, but hardly by more than this factor; and
#: as two bytes of it can become 128, a frame that breaks the rule takes as many bytes a pixel.
RLE_EXPANSION: Final = 80
RLE_OVERHEAD: Final = 1.25


def load_dicom(
    path: Path, *, window: Window | None, frame: int | None, max_pixels: int
) -> LoadedImage:
    """Decode one DICOM image; see :func:`cas_metric.images.load_image`."""
    with naming(path, FIX):
        dataset = _read(path)
        _check(path, dataset, max_pixels)
        index, chosen = _choose_frame(path, dataset, frame)
        dicom_display.flatten_functional_groups(dataset, index)
        values, interpretation = _decode(path, dataset, index)
        values, taken = _meant_bits(path, dataset, values)
        pixels, shown = dicom_display.show(path, dataset, values, interpretation, window)
    return LoadedImage(np.ascontiguousarray(pixels), (*chosen, *taken, *shown))


def probe_dicom(path: Path, max_pixels: int) -> Header:
    """Size and cost of a DICOM image by its header."""
    with naming(path, FIX):
        return _check(path, _read(path, header_only=True), max_pixels)


def _read(path: Path, *, header_only: bool = False) -> Dataset:
    """The data set of a file."""
    if importlib.util.find_spec("pydicom") is None:
        raise MissingDependency("pydicom", extra="dicom", purpose="reading DICOM images")
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError
    from pydicom.filereader import read_file_meta_info
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    source: Path | BinaryIO = path
    try:
        syntax = read_file_meta_info(path).get("TransferSyntaxUID")
        if syntax == DeflatedExplicitVRLittleEndian:
            source = _inflate(path, header_only)
        large = LARGE_ELEMENT if header_only else None
        dataset = dcmread(source, stop_before_pixels=header_only, defer_size=large)
    except InvalidDicomError as error:
        raise ImageError(f"{path}: has no DICOM header", fix="export the image again") from error
    if syntax is not None:
        dataset.file_meta.TransferSyntaxUID = syntax
    return dataset


def _inflate(path: Path, header_only: bool) -> BinaryIO:
    """A deflated file as if it had been written plainly: pydicom would inflate without bounds."""
    from pydicom.filereader import read_file_meta_info
    from pydicom.filewriter import write_file_meta_info
    from pydicom.uid import ExplicitVRLittleEndian

    limit = DEFLATED_HEADER
    if not header_only:
        limit += _native_bytes(_read(path, header_only=True))
    meta = read_file_meta_info(path)
    group_length = 12  # the element that states the length of the rest
    with path.open("rb") as file:
        file.seek(PREAMBLE + 4 + group_length + int(meta.FileMetaInformationGroupLength))
        content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(), limit)
    if not header_only and len(content) == limit:
        raise ImageError(
            f"{path}: inflates to far more than the image that its header describes", fix=FIX
        )
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    plain: Any = io.BytesIO()
    plain.write(bytes(PREAMBLE) + b"DICM")
    write_file_meta_info(plain, meta, enforce_standard=False)
    plain.write(content)
    plain.seek(0)
    return plain


def _check(path: Path, dataset: Dataset, max_pixels: int) -> Header:
    from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if "Rows" not in dataset or "Columns" not in dataset:
        kind = dataset.get("Modality") or "object"
        where = f" in its first {DEFLATED_HEADER >> 20} MiB" * (
            syntax == DeflatedExplicitVRLittleEndian
        )
        raise ImageError(
            f"{path}: this DICOM {kind} holds no image{where}", fix="remove it from the manifest"
        )
    height, width = int(number(dataset, "Rows", 0)), int(number(dataset, "Columns", 0))
    cost = width * height * BYTES_PER_DEEP_PIXEL + 2 * path.stat().st_size
    if syntax == RLELossless:
        cost += width * height * RLE_EXPANSION
    elif syntax == DeflatedExplicitVRLittleEndian:
        cost += DEFLATED_COPIES * (_native_bytes(dataset) + DEFLATED_HEADER)
    return check_header(path, Header(width, height, cost), max_pixels)


def _native_bytes(dataset: Dataset) -> int:
    """Bytes of all frames, as they are when nothing compresses them."""
    counts = ("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames")
    samples = np.prod([number(dataset, name, 1) for name in counts])
    return int(samples * number(dataset, "BitsAllocated", 8) / 8)


def _choose_frame(path: Path, dataset: Dataset, frame: int | None) -> tuple[int, list[str]]:
    count = int(number(dataset, "NumberOfFrames", 1))
    if frame is None and count > 1:
        raise ImageError(f"{path}: holds {count} frames", fix=SAVE_ONE)
    if frame is not None and not 0 <= frame < count:
        raise ImageError(
            f"{path}: has no frame {frame}", fix=f"choose a frame from 0 to {count - 1}"
        )
    return frame or 0, [f"frame {frame} of {count}"] if count > 1 else []


def _decode(path: Path, dataset: Dataset, index: int) -> tuple[np.ndarray, str]:
    """Values of one frame, and what they are.

    Returns:
        ``(H, W)``, or ``(H, W, 3)`` where a pixel has several samples, and the photometric
        interpretation: RGB where pydicom converted from YBR.
    """
    from pydicom.pixels.decoders.base import get_decoder

    syntax = dataset.file_meta.TransferSyntaxUID
    decoder = get_decoder(syntax)
    needed = f"install one of: {'; '.join(decoder.missing_dependencies)}"
    if not decoder.is_available:
        raise ImageError(f"{path}: no installed package decodes {syntax.name}", fix=needed)
    options: dict[str, Any] = {}
    if syntax.is_encapsulated:
        _check_code(path, dataset, index)
    if _bits_as_written(dataset):
        options["correct_unused_bits"] = False  # it takes the lowest bits for those meant
    try:
        values, meaning = decoder.as_array(dataset, index=index, **options)
    except RuntimeError as error:  # every installed decoder tried and failed
        cause = " ".join(str(error).split())
        raise ImageError(f"{path}: {syntax.name}: {cause}", fix=needed) from error
    return values, str(meaning["photometric_interpretation"])


def _check_code(path: Path, dataset: Dataset, index: int) -> None:
    """Refuse compressed frames that would decode to far more than the header says."""
    from pydicom.encaps import get_frame
    from pydicom.uid import RLELossless

    count = int(number(dataset, "NumberOfFrames", 1))
    code = get_frame(dataset.PixelData, index, number_of_frames=count)
    size = int(dataset.Columns), int(dataset.Rows)
    if dataset.file_meta.TransferSyntaxUID == RLELossless:
        segments = struct.unpack_from("<L", code)[0]
        starts = [*struct.unpack_from(f"<{min(segments, 15)}L", code, 4), len(code)]
        longest = max(end - start for start, end in itertools.pairwise(starts))
        agrees = longest <= size[0] * size[1] * RLE_OVERHEAD + size[1] + 2
    elif code.startswith((b"\xff\xd8", b"\xff\x4f", b"\0\0\0\x0cjP")):
        try:
            with Image.open(io.BytesIO(code), formats=("JPEG", "JPEG2000")) as image:
                agrees = image.size == size
        except OSError:
            return  # no code of Pillow's: the decoder for it has its own checks
    else:
        return
    if not agrees:
        raise ImageError(f"{path}: the compressed frame is not of {size[0]} x {size[1]}", fix=FIX)


def _bits_as_written(dataset: Dataset) -> bool:
    """Whether the words of the file are kept: native and run-length data, not other codes."""
    from pydicom.uid import RLELossless

    syntax = dataset.file_meta.TransferSyntaxUID
    return "PixelData" in dataset and (not syntax.is_encapsulated or syntax == RLELossless)


def _meant_bits(path: Path, dataset: Dataset, values: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """The bits from ``HighBit`` down that ``BitsStored`` counts; others may hold anything."""
    allocated = int(number(dataset, "BitsAllocated", 8))
    stored = int(number(dataset, "BitsStored", allocated))
    high = int(number(dataset, "HighBit", stored - 1))
    if values.dtype.kind == "f" or allocated == 1:
        return values, []
    if not 0 < stored <= high + 1 <= allocated:
        raise ImageError(
            f"{path}: {stored} bits up to bit {high} do not fit into {allocated}", fix=FIX
        )
    if not _bits_as_written(dataset):
        if high == stored - 1:
            return values, []
        raise ImageError(
            f"{path}: {stored} bits up to bit {high} in compressed data are not read",
            fix="export the image without compression",
        )
    unused = 8 * values.dtype.itemsize - stored
    meant = (values << (8 * values.dtype.itemsize - 1 - high)) >> unused
    changed = [f"{stored} bits taken, up to bit {high}"] if (meant != values).any() else []
    return meant, changed
