"""Lookup tables of DICOM: of the modality, of the display, of palettes.

Their descriptors are often wrong about the entries, so that the entries have the last word.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cas_metric.errors import ImageError

if TYPE_CHECKING:
    from pydicom import DataElement, Dataset

EXPORT: Final = "export the image again, or as 8-bit PNG"
COLOURS: Final = ("Red", "Green", "Blue")


@dataclass(frozen=True)
class LookupTable:
    """A table that maps values to values.

    Attributes:
        entries: ``(N,)`` or, for palettes, ``(N, 3)`` uint16.
        first: The value that the first entry stands for; lower ones take it too, higher ones than
            the last entry's take that.
        white: The largest value that the entries can mean, as :func:`_white` finds it.
        remark: What to say where that is not what the descriptor declares; else empty.
    """

    entries: np.ndarray
    first: int
    white: float
    remark: str

    @classmethod
    def of_item(cls, path: Path, dataset: Dataset, item: Dataset) -> LookupTable:
        """The table in an item of a modality or display table sequence."""
        count, first, bits = _descriptor(path, item.get("LUTDescriptor"))
        if "LUTData" not in item:
            raise ImageError(f"{path}: a lookup table has no entries", fix=EXPORT)
        entries = _entries(path, item["LUTData"], count, _is_little_endian(dataset))
        return cls(entries, first, *_white(entries, bits))

    @classmethod
    def of_palette(cls, path: Path, dataset: Dataset) -> LookupTable:
        """The three tables of a palette as one."""
        count, first, bits = _descriptor(path, dataset.get("RedPaletteColorLookupTableDescriptor"))
        channels = []
        for colour in COLOURS:
            name = f"{colour}PaletteColorLookupTableData"
            if name in dataset:
                element = dataset[name]
                channels.append(_entries(path, element, count, _is_little_endian(dataset)))
            elif f"Segmented{name}" in dataset:
                element = dataset[f"Segmented{name}"]
                words = _words(element, 1 if bits == 8 else 2, _is_little_endian(dataset))
                channels.append(_expanded(path, words, count))
            else:
                raise ImageError(f"{path}: its palette has no {colour.lower()}", fix=EXPORT)
        entries = np.stack(channels, axis=1)
        return cls(entries, first, *_white(entries, bits))

    def look_up(self, values: np.ndarray) -> np.ndarray:
        """Entries of ``(H, W)`` values, which are rounded where they are not whole: uint16."""
        first = self.first
        if first >= 2**15 and values.min() < 0:  # a negative number in a field without signs
            first -= 2**16
        last = first + len(self.entries) - 1
        whole = np.rint(values) if values.dtype.kind == "f" else values.astype(np.int64)
        return self.entries[whole.clip(first, last).astype(np.int64) - first]


def palette(path: Path, dataset: Dataset, values: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """``(H, W, 3)`` float32 in [0, 1] of ``(H, W)`` indices into the palette of the file."""
    table = LookupTable.of_palette(path, dataset)
    bits = math.ceil(math.log2(table.white + 1))
    step = f"palette of {bits} bits applied{table.remark}"
    return table.look_up(values) / np.float32(table.white), [step]


def _descriptor(path: Path, descriptor: Any) -> tuple[int, int, int]:
    """Number of entries, first value, bits of an entry."""
    try:
        count, first, bits = (int(part) for part in descriptor)
    except (TypeError, ValueError) as error:
        raise ImageError(f"{path}: a lookup table has no descriptor", fix=EXPORT) from error
    return count % 2**16 or 2**16, first, bits


def _entries(path: Path, element: DataElement, count: int, little_endian: bool) -> np.ndarray:
    """``(count,)`` uint16: one or two entries a word, whatever depth is declared."""
    values = element.value
    size = len(values) if isinstance(values, bytes) else 2 * np.size(values)
    width = 2 if size >= 2 * count else 1
    entries = _words(element, width, little_endian)
    if len(entries) < count:
        raise ImageError(
            f"{path}: a lookup table of {count} entries holds {len(entries)}", fix=EXPORT
        )
    return entries[:count]


def _words(element: DataElement, width: int, little_endian: bool) -> np.ndarray:
    """The content of a table as uint16, made from as many bytes each as ``width`` says.

    Of two entries in a word the lower byte is the first (PS3.3 C.7.6.3.1.6).
    """
    values = element.value
    if isinstance(values, bytes):
        if width == 1 and (little_endian or element.VR == "OB"):
            return np.frombuffer(values, np.uint8).astype(np.uint16)
        order = "<u2" if little_endian else ">u2"
        words = np.frombuffer(values[: len(values) // 2 * 2], order).astype("<u2")
    else:  # pydicom has read the numbers
        words = (np.atleast_1d(np.asarray(values, dtype=np.int64)) % 2**16).astype("<u2")
    return words if width == 2 else words.view(np.uint8).astype(np.uint16)


def _white(entries: np.ndarray, bits: int) -> tuple[float, str]:
    """The value of white, and a remark where it is not what the descriptor declares.

    Declared depth is believed where the largest entry needs as many bits; 8 bits also where it
    needs fewer, since no table has less. Else white is the largest entry.
    """
    peak = int(entries.max())
    if bits == peak.bit_length() or (bits == 8 and peak < 2**8):
        return float(2**bits - 1), ""
    remark = f", white is its largest entry {peak}, which has not the declared {bits} bits"
    return float(max(peak, 1)), remark


def _expanded(path: Path, words: np.ndarray, count: int) -> np.ndarray:
    """The entries that the segments of PS3.3 C.7.9.2 stand for: runs and ramps."""
    numbers = words.tolist()
    out: list[int] = []
    position = 0
    while position < len(numbers) and len(out) < count:
        kind, length, value = numbers[position : position + 3]
        if kind == 0:
            out += numbers[position + 2 : position + 2 + length]
            position += 2 + length
        elif kind == 1:
            ramp = np.linspace(out[-1], value, length + 1)[1:]
            out += np.rint(ramp).astype(int).tolist()
            position += 3
        else:
            raise ImageError(f"{path}: its palette repeats segments, which is not read", fix=EXPORT)
    if len(out) < count:
        raise ImageError(f"{path}: a palette of {count} entries holds {len(out)}", fix=EXPORT)
    return np.array(out[:count], dtype=np.uint16)


def _is_little_endian(dataset: Dataset) -> bool:
    return bool(dataset.original_encoding[1])
