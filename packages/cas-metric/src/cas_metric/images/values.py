"""What the readers of all formats share: the result, windows, size limits, conversions."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from cas_metric.errors import CasError, ImageError, InputError

if TYPE_CHECKING:
    import torch

#: Largest accepted image: about 9,000 x 9,000. Checked on the header, before any decoding.
#: It lies below the size at which Pillow itself warns of decompression bombs.
MAX_PIXELS: Final = 80_000_000
#: Smallest accepted side. Below it there is nothing to judge: an encoder would see one flat patch.
MIN_SIDE: Final = 8
#: Kinds of steps that :func:`count_steps` spells out.
STEPS_TOLD: Final = 50
#: Colour behind transparent pixels. White is what a reader sees on a page or in a viewer.
BACKGROUND: Final = (255, 255, 255)


@dataclass(frozen=True)
class LoadedImage:
    """One decoded image.

    Attributes:
        pixels: ``(H, W, 3)`` RGB; uint8 where the source has 8 bits, else float32 in [0, 1].
        steps: What was done to the stored values, in order; empty for plain 8-bit grey or RGB.
    """

    pixels: np.ndarray
    steps: tuple[str, ...] = ()


@dataclass(frozen=True)
class Window:
    """A display window: stored values from ``low`` to ``high`` map linearly to [0, 1].

    In DICOM, values are those after rescale (Hounsfield units for CT).

    Attributes:
        low: Value shown black; everything below it is black too.
        high: Value shown white; everything above it is white too.

    Raises:
        InputError: The bounds are not finite, or ``high`` is not above ``low``.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.low) and np.isfinite(self.high) and self.low < self.high):
            raise InputError(
                f"a window from {self.low} to {self.high} is empty",
                fix="give two finite numbers, the lower one first",
            )

    @classmethod
    def from_center(cls, center: float, width: float) -> Window:
        """The window of the given centre and width, e.g. -600 and 1500 for lung CT."""
        return cls(center - width / 2, center + width / 2)

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Map ``values`` of any shape to float32 in [0, 1]."""
        scaled = (values.astype(np.float64) - self.low) / (self.high - self.low)
        return np.clip(scaled, 0.0, 1.0).astype(np.float32)

    @property
    def bounds(self) -> tuple[float, float]:
        """``low`` and ``high``, as numbers for a summary."""
        return float(self.low), float(self.high)

    def __str__(self) -> str:
        return f"window {self.low:g} to {self.high:g}"


def count_steps(records: Iterable[tuple[str, ...]]) -> dict[str, int]:
    """How many images each step was taken on; the most frequent first, rare ones as one sum.

    DICOM files may each state a window of their own; what is told of a set must not grow with it.

    Args:
        records: ``steps`` of each :class:`LoadedImage` of a set.
    """
    counts = Counter(step for record in records for step in record)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    told = dict(ranked[:STEPS_TOLD])
    if rest := ranked[STEPS_TOLD:]:
        told[f"{len(rest)} other steps"] = sum(count for _, count in rest)
    return told


@contextmanager
def naming(path: Path, fix: str) -> Iterator[None]:
    """Turn whatever a decoder raises into an :class:`ImageError` that names ``path``.

    Decoders of untrusted bytes raise nearly every exception there is (``struct.error``,
    ``SyntaxError``, ``IndexError``, ``zlib.error``, …), hence the broad clause.
    """
    try:
        yield
    except CasError:
        raise
    except Exception as error:
        cause = " ".join(str(error).split())[:300] or type(error).__name__
        raise ImageError(f"{path}: {cause}", fix=fix) from error


def check_size(path: Path, width: int, height: int, max_pixels: int) -> None:
    """Refuse images too large to decode safely or too small to show anything.

    Raises:
        ImageError: More than ``max_pixels`` pixels, or a side below :data:`MIN_SIDE`.
    """
    if width * height > max_pixels:
        raise ImageError(
            f"{path}: {width} x {height} is {width * height / 1e6:.0f} million pixels, "
            f"more than the limit of {max_pixels / 1e6:.0f} million",
            fix="crop or downsample the image",
        )
    if min(width, height) < MIN_SIDE:
        raise ImageError(
            f"{path}: {width} x {height} is too small to be scored",
            fix=f"every side needs at least {MIN_SIDE} pixels; regenerate or remove the image",
        )


def grey_to_rgb(values: np.ndarray) -> np.ndarray:
    """``(H, W)`` to ``(H, W, 3)``, the same value in each channel, dtype kept."""
    return np.repeat(values[:, :, np.newaxis], 3, axis=2)


def to_uint8(pixels: np.ndarray) -> np.ndarray:
    """8-bit pixels of a :class:`LoadedImage`: rounded where they are float, else unchanged."""
    if pixels.dtype == np.uint8:
        return pixels
    return np.rint(pixels * 255.0).astype(np.uint8)


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """``(H, W, 3)`` uint8 or float pixels to a ``(3, H, W)`` float32 tensor in [0, 1]."""
    import torch

    channels_first = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    tensor = torch.from_numpy(channels_first).float()
    return tensor / 255.0 if pixels.dtype == np.uint8 else tensor


def sha256_file(path: str | Path) -> str:
    """Hexadecimal SHA-256 of the bytes of a file.

    Raises:
        ImageError: The file is missing or cannot be read.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:
        raise ImageError(
            f"{path}: {error}", fix="check the path and the permissions of the file"
        ) from error
