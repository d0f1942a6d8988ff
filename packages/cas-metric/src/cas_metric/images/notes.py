"""What a reader should know of an image that was read without error.

A note is one of the steps that a :class:`~cas_metric.images.LoadedImage` records: it therefore
goes wherever they go, through caches too, and :func:`notes_of` finds it again.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

import numpy as np

#: Spread of an image, out of 1, at which nothing can be seen in it: one of 255 grey levels.
BLANK_SPREAD: Final = 1 / 255
#: Spread below which an image is called faint. 12 bits in a file of 16 fill a sixteenth of its
#: range, 14 bits a quarter.
FAINT_SPREAD: Final = 1 / 4
#: Every how manieth row and column is looked at first.
SPARSE: Final = 8


class Note(StrEnum):
    """Kinds of notes, as they stand in tables.

    Attributes:
        BLANK: Every pixel is the same, up to one of 255 grey levels: all black, say, as a safety
            checker or a failure of half precision returns it.
        FAINT: The pixels use no more than a quarter of the range: nearly black, say, as 12 bits
            that were saved in a file of 16.
    """

    BLANK = "blank"
    FAINT = "faint"


def appearance(pixels: np.ndarray) -> tuple[str, ...]:
    """The notes that ``(H, W, 3)`` pixels deserve, as steps: none for nearly every image.

    >>> appearance(np.zeros((8, 8, 3), np.uint8))
    ('blank: every pixel is about (0, 0, 0) of 255',)
    """
    low, high = _extremes(pixels[::SPARSE, ::SPARSE])
    if (high - low).max() > FAINT_SPREAD:  # nearly always, and then of the whole image too
        return ()
    low, high = _extremes(pixels)
    spread = (high - low).max()  # within a channel: a plane of one colour is blank too
    if spread > FAINT_SPREAD:
        return ()
    low, high = 255 * low, 255 * high
    if spread <= BLANK_SPREAD:
        colour = tuple(int(value) for value in np.rint((low + high) / 2))
        return (f"{Note.BLANK}: every pixel is about {colour} of 255",)
    return (f"{Note.FAINT}: all pixels between {low.min():.0f} and {high.max():.0f} of 255",)


def _extremes(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest value of each channel, out of 1."""
    top = 255 if pixels.dtype == np.uint8 else 1
    return pixels.min(axis=(0, 1)) / top, pixels.max(axis=(0, 1)) / top


def notes_of(steps: Iterable[str]) -> tuple[Note, ...]:
    """The kinds of notes among the steps of an image, each at most once.

    >>> notes_of(("16-bit scaled by 1/65535", "faint: all pixels between 0 and 16 of 255"))
    (<Note.FAINT: 'faint'>,)
    """
    kinds = {step.partition(":")[0] for step in steps}
    return tuple(note for note in Note if note in kinds)
