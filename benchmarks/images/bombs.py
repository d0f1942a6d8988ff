"""Files of every format and depth that is read, small on disk and large in memory.

``BOMBS`` holds functions ``(path, side)`` that write a picture of ``side`` x ``side`` pixels; they
hold one colour, which compresses best. ``REFUSED`` are those that no estimate may let pass.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import nibabel
import numpy as np
import pydicom
import tifffile
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

Writer = Callable[[Path, int], object]


def _pillow(kind: str, mode: str, **options: object) -> Writer:
    def write(path: Path, side: int) -> None:
        image = Image.new(mode, (side, side))
        image.save(path, format=kind, **options)

    return write


def png(path: Path, side: int, *, bits: int, colour_type: int, extra: bytes = b"") -> None:
    """A PNG of zeros, written row by row."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type]
    row = bytes(1 + (side * bits * channels + 7) // 8)
    deflate = zlib.compressobj(9)
    pixels = b"".join(deflate.compress(row) for _ in range(side)) + deflate.flush()
    header = struct.pack(">IIBBBBB", side, side, bits, colour_type, 0, 0, 0)
    content = _chunk(b"IHDR", header) + extra + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(bits: int, colour_type: int, extra: bytes = b"") -> Writer:
    return lambda path, side: png(path, side, bits=bits, colour_type=colour_type, extra=extra)


def _tiff(dtype: str, channels: int = 1, **options: object) -> Writer:
    def write(path: Path, side: int) -> None:
        shape = (side, side, channels) if channels > 1 else (side, side)
        photometric = "rgb" if channels > 2 else "minisblack"
        values = np.zeros(shape, dtype)
        tifffile.imwrite(path, values, photometric=photometric, compression="zlib", **options)

    return write


def dataset(side: int, *, bits: int, samples: int = 1, signed: bool = False) -> pydicom.Dataset:
    """The attributes of an image of ``side`` x ``side`` pixels, without the pixels."""
    found = pydicom.Dataset()
    found.SOPClassUID, found.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3.4"
    found.Rows = found.Columns = side
    found.SamplesPerPixel = samples
    found.PhotometricInterpretation = "RGB" if samples == 3 else "MONOCHROME2"
    if samples == 3:
        found.PlanarConfiguration = 0
    found.BitsAllocated = found.BitsStored = bits
    found.HighBit, found.PixelRepresentation = bits - 1, int(signed)
    if bits > 8:
        found.WindowCenter, found.WindowWidth = 100, 200
        found.RescaleSlope, found.RescaleIntercept = 2, -1
    return found


def save(path: Path, found: pydicom.Dataset, syntax: str) -> None:
    """Write a data set in a transfer syntax."""
    found.file_meta = pydicom.dataset.FileMetaDataset()
    found.file_meta.TransferSyntaxUID = syntax
    found.save_as(path, enforce_file_format=True)


def _native(syntax: str, bits: int, samples: int = 1, signed: bool = False) -> Writer:
    def write(path: Path, side: int) -> None:
        found = dataset(side, bits=bits, samples=samples, signed=signed)
        found.PixelData = bytes(side * side * samples * bits // 8)
        found["PixelData"].VR = "OB" if bits == 8 else "OW"
        save(path, found, syntax)

    return write


def _palette(path: Path, side: int) -> None:
    found = dataset(side, bits=8)
    found.PhotometricInterpretation = "PALETTE COLOR"
    for colour in ("Red", "Green", "Blue"):
        setattr(found, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        table = np.arange(256, dtype="<u2") * 257
        setattr(found, f"{colour}PaletteColorLookupTableData", table.tobytes())
    found.PixelData = bytes(side * side)
    save(path, found, DeflatedExplicitVRLittleEndian)


def _coded(syntax: str, kind: str, mode: str, bits: int, samples: int = 1) -> Writer:
    def write(path: Path, side: int) -> None:
        code = io.BytesIO()
        Image.new(mode, (side, side)).save(code, format=kind)
        found = dataset(side, bits=bits, samples=samples)
        if syntax == JPEGBaseline8Bit and samples == 3:
            found.PhotometricInterpretation = "YBR_FULL_422"
        found.PixelData = encapsulate([code.getvalue()])
        save(path, found, syntax)

    return write


def rle(path: Path, side: int, *, claimed: int | None = None) -> None:
    """Two segments of runs of 128 equal bytes; the header may claim a smaller picture."""
    segment = b"\x81\0" * (side * side // 128)
    starts = struct.pack("<16L", 2, 64, 64 + len(segment), *[0] * 13)
    found = dataset(claimed or side, bits=16)
    found.PixelData = encapsulate([starts + 2 * segment])
    save(path, found, RLELossless)


def _nifti(dtype: str) -> Writer:
    def write(path: Path, side: int) -> None:
        shape = (side, side, 1)
        image = nibabel.Nifti1Image(np.zeros(shape, dtype), np.eye(4))
        image.header.set_slope_inter(2.0, 1.0)
        image.header["cal_max"] = 100
        nibabel.save(image, path)

    return write


def _strip(path: Path, side: int) -> None:
    """As many pixels, one side 32 times the other: what is resized is larger than the file."""
    Image.new("RGB", (4 * side, side // 8)).save(path)


BOMBS: Final[dict[str, Writer]] = {
    "strip.png": _strip,
    "grey1.png": _png(1, 0),
    "grey8.png": _png(8, 0),
    "grey8-key.png": _png(8, 0, _chunk(b"tRNS", b"\0\0")),
    "palette8.png": _png(8, 3, _chunk(b"PLTE", bytes(768)) + _chunk(b"tRNS", bytes(256))),
    "grey-alpha8.png": _png(8, 4),
    "colour8.png": _png(8, 2),
    "colour-alpha8.png": _png(8, 6),
    "grey16.png": _png(16, 0),
    "grey16-key.png": _png(16, 0, _chunk(b"tRNS", b"\0\0")),
    "grey-alpha16.png": _png(16, 4),
    "colour16.png": _png(16, 2),
    "colour16-key.png": _png(16, 2, _chunk(b"tRNS", bytes(6))),
    "colour-alpha16.png": _png(16, 6),
    "grey.jpg": _pillow("JPEG", "L"),
    "colour.jpg": _pillow("JPEG", "RGB"),
    "progressive.jpg": _pillow("JPEG", "RGB", progressive=True),
    "cmyk.jpg": _pillow("JPEG", "CMYK"),
    "lossless.webp": _pillow("WEBP", "RGB", lossless=True, method=0),
    "alpha.webp": _pillow("WEBP", "RGBA", lossless=True, method=0),
    "lossy.webp": _pillow("WEBP", "RGB", method=0),
    "palette.gif": _pillow("GIF", "P"),
    "palette-key.gif": _pillow("GIF", "P", transparency=0),
    "colour.bmp": _pillow("BMP", "RGB"),
    "grey8.jp2": _pillow("JPEG2000", "L"),
    "colour8.jp2": _pillow("JPEG2000", "RGB"),
    "colour-alpha8.jp2": _pillow("JPEG2000", "RGBA"),
    "grey16.jp2": _pillow("JPEG2000", "I;16"),
    "grey1.tif": _pillow("TIFF", "1", compression="group4"),
    "colour8-lzw.tif": _pillow("TIFF", "RGB", compression="tiff_lzw"),
    "grey8.tif": _tiff("uint8"),
    "colour8.tif": _tiff("uint8", 3, predictor=True),
    "colour-alpha8.tif": _tiff("uint8", 4, extrasamples=["unassalpha"]),
    "int8.tif": _tiff("int8"),
    "grey16.tif": _tiff("uint16", predictor=True),
    "colour16.tif": _tiff("uint16", 3, tile=(512, 512)),
    "colour-alpha16.tif": _tiff("uint16", 4, extrasamples=["assocalpha"]),
    "float32.tif": _tiff("float32"),
    "float64.tif": _tiff("float64"),
    "grey8.dcm": _native(ExplicitVRLittleEndian, 8),
    "grey8-deflated.dcm": _native(DeflatedExplicitVRLittleEndian, 8),
    "grey16-deflated.dcm": _native(DeflatedExplicitVRLittleEndian, 16, signed=True),
    "grey32-deflated.dcm": _native(DeflatedExplicitVRLittleEndian, 32),
    "colour8-deflated.dcm": _native(DeflatedExplicitVRLittleEndian, 8, 3),
    "colour16-deflated.dcm": _native(DeflatedExplicitVRLittleEndian, 16, 3),
    "palette-deflated.dcm": _palette,
    "grey16-rle.dcm": rle,
    "grey-jpeg.dcm": _coded(JPEGBaseline8Bit, "JPEG", "L", 8),
    "colour-jpeg.dcm": _coded(JPEGBaseline8Bit, "JPEG", "RGB", 8, 3),
    "grey16-j2k.dcm": _coded(JPEG2000Lossless, "JPEG2000", "I;16", 16),
    "colour-j2k.dcm": _coded(JPEG2000Lossless, "JPEG2000", "RGB", 8, 3),
    "int16.nii.gz": _nifti("int16"),
    "float64.nii.gz": _nifti("float64"),
}


def _tile_bomb(path: Path, side: int) -> None:
    """A picture of 64 x 64 in a single tile of eight times the given side."""
    _tiff("uint8", tile=(side // 2 * 16, side // 2 * 16))(path, 64)


def _swelling_strip(path: Path, side: int) -> None:
    """16 bits, 64 x 64, whose one deflated strip holds far more."""
    _tiff("uint16")(path, 64)
    content = bytearray(path.read_bytes())
    strip = zlib.compress(bytes(2 * side * side), 9)
    with tifffile.TiffFile(path) as tiff:
        tags = tiff.pages[0].tags
        struct.pack_into("<I", content, tags["StripOffsets"].valueoffset, len(content))
        struct.pack_into("<I", content, tags["StripByteCounts"].valueoffset, len(strip))
    path.write_bytes(bytes(content) + strip)


def _swelling_dicom(path: Path, side: int) -> None:
    """A picture of 64 x 64 before a private element of ``side`` squared zeros, deflated."""
    found = dataset(64, bits=8)
    found.PixelData = bytes(64 * 64)
    found.add_new(0x00091001, "OB", bytes(side * side))
    save(path, found, DeflatedExplicitVRLittleEndian)


def _large_code(path: Path, side: int) -> None:
    """A header of 64 x 64 over a JPEG of the given side."""
    code = io.BytesIO()
    Image.new("L", (side, side)).save(code, format="JPEG")
    found = dataset(64, bits=8)
    found.PixelData = encapsulate([code.getvalue()])
    save(path, found, JPEGBaseline8Bit)


def _extension(path: Path, side: int) -> None:
    """A volume whose header is followed by an extension of zeros, deflated."""
    image = nibabel.Nifti1Image(np.zeros((16, 16, 1), "int16"), np.eye(4))
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension(6, bytes(8 * side * side)))
    nibabel.save(image, path)


#: What hides its size behind a small header: each must be refused, and take little to be refused.
REFUSED: Final[dict[str, Writer]] = {
    "tile.tif": _tile_bomb,
    "strip.tif": _swelling_strip,
    "element.dcm": _swelling_dicom,
    "code.dcm": _large_code,
    "runs.dcm": lambda path, side: rle(path, side, claimed=64),
    "extension.nii.gz": _extension,
}
