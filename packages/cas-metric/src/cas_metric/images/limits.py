"""What one file may cost, found from its header before anything is decoded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from cas_metric.errors import CasError, ImageError

#: Largest accepted image: about 9,000 x 9,000.
#: It lies below the size at which Pillow itself warns of decompression bombs.
MAX_PIXELS: Final = 80_000_000
#: Smallest accepted side. Below it there is nothing to judge: an encoder would see one flat patch.
MIN_SIDE: Final = 8
#: Most that one side may be of the other. An encoder that resizes the shorter side and cuts out
#: the centre would first blow up the longer one by as much, to look at a sliver of it.
MAX_ASPECT: Final = 32
#: Most memory, in bytes, that decoding may take: of one file, and of all threads together.
MAX_BYTES: Final = 2 * 2**30

#: Most bytes that decoding took for a pixel, measured with ``benchmarks/images/memory.py`` and
#: rounded up: with 8 bits a channel, and deeper (which pass through floating point).
BYTES_PER_PIXEL: Final = 24
BYTES_PER_DEEP_PIXEL: Final = 40


class Header(NamedTuple):
    """What a file says of itself before it is decoded.

    Attributes:
        width: In pixels.
        height: In pixels.
        cost: Upper bound of the bytes of memory that decoding takes.
    """

    width: int
    height: int
    cost: int


class MemoryBudget:
    """Bytes that threads share: each takes what it is going to need, and waits until it is free.

    A thread that has taken its share passes further requests: what it does is paid for.

    >>> budget = MemoryBudget(100)
    >>> with budget.reserved(60), budget.reserved(60):
    ...     budget.free
    40
    """

    def __init__(self, total: int) -> None:
        self.total = self.free = total
        self._change = threading.Condition()
        self._own = threading.local()

    @property
    def is_held(self) -> bool:
        """Whether this thread has taken its share."""
        return getattr(self._own, "held", False)

    @contextmanager
    def reserved(self, wanted: int) -> Iterator[None]:
        """Hold ``wanted`` bytes, at most the total, for the time of a block."""
        if self.is_held:
            yield
            return
        wanted = min(wanted, self.total)
        with self._change:
            self._change.wait_for(lambda: self.free >= wanted)
            self.free -= wanted
        self._own.held = True
        try:
            yield
        finally:
            self._own.held = False
            with self._change:
                self.free += wanted
                self._change.notify_all()


#: What all threads of a process that decode share.
BUDGET: Final = MemoryBudget(MAX_BYTES)


def check_header(path: Path, header: Header, max_pixels: int) -> Header:
    """Refuse what is too large to decode safely, or too small or thin to show anything.

    Raises:
        ImageError: More than ``max_pixels`` pixels or :data:`MAX_BYTES`, a side below
            :data:`MIN_SIDE`, or one more than :data:`MAX_ASPECT` times the other.
    """
    width, height, cost = header
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
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError(
            f"{path}: {width} x {height} is a strip, not a picture: "
            f"one side is more than {MAX_ASPECT} times the other",
            fix="crop the image",
        )
    if cost > MAX_BYTES:
        raise ImageError(
            f"{path}: decoding may take {cost / 2**30:.1f} GiB of memory, "
            f"more than the limit of {MAX_BYTES / 2**30:.0f} GiB",
            fix="crop or downsample the image, or save the wanted part as a file of its own",
        )
    return header


@contextmanager
def naming(path: Path, fix: str) -> Iterator[None]:
    """Turn whatever a decoder raises into an :class:`ImageError` that names ``path``.

    Decoders of untrusted bytes raise nearly every exception there is (``struct.error``,
    ``SyntaxError``, ``IndexError``, ``zlib.error``, ``MemoryError``, …), hence the broad clause.
    """
    try:
        yield
    except CasError:
        raise
    except Exception as error:
        cause = " ".join(str(error).split())[:300] or type(error).__name__
        raise ImageError(f"{path}: {cause}", fix=fix) from error
