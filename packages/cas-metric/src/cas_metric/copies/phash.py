"""Perceptual hashes, packed into one 64-bit word an image and compared by popcount.

The hash is ImageHash's ``phash`` (32×32 greyscale, DCT, the 8×8 lowest frequencies against their
median); only the comparison is ours, since subtracting hash objects pair by pair takes a thousand
times as long as counting the differing bits of packed words.

Source: Appendix M (near-duplicate at a Hamming distance of at most 5); ImageHash 4.3.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cas_metric.errors import InputError
from cas_metric.protocol import PHASH_THRESHOLD

Words = NDArray[np.uint64]

_TURNED = ("as is", "rotated 90°", "rotated 180°", "rotated 270°")
_SQUARE = (*_TURNED, "mirrored", *(f"mirrored, {name}" for name in _TURNED[1:]))
#: Names of the symmetries of the square and of its negative, in the order of :func:`symmetries`.
SYMMETRIES = (*_SQUARE, "inverted", *(f"{name}, inverted" for name in _SQUARE[1:]))
#: Changes that make them; the symmetries that a domain pack may name.
CHANGES = ("mirror", "rotate90", "invert")
#: Pairs compared at once: their differing bits, 8 bytes each, stay in a processor's cache.
_BLOCK_PAIRS = 200_000


class NearestHash(NamedTuple):
    """For each query the closest word of the other set.

    Attributes:
        distance: ``(N,)`` Hamming distance, 0 to 64.
        position: ``(N,)`` where it is; the first of several equally close ones.
    """

    distance: NDArray[np.int64]
    position: NDArray[np.int64]


def phash(pixels: NDArray[np.uint8]) -> np.uint64:
    """ImageHash's 64-bit perceptual hash as one word.

    Args:
        pixels: ``(H, W, 3)`` RGB or ``(H, W)`` grey, uint8.

    Examples:
        >>> picture = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)
        >>> int(hamming(np.array([phash(picture)]), np.array([phash(picture)]))[0, 0])
        0
    """
    return pack(imagehash.phash(Image.fromarray(pixels)))


def pack(value: imagehash.ImageHash) -> np.uint64:
    """The 8×8 bits of an ImageHash, row by row, first bit highest."""
    return np.uint64(int.from_bytes(np.packbits(value.hash).tobytes(), "big"))


def symmetries(
    pixels: NDArray[np.uint8], chosen: Collection[int] = range(len(SYMMETRIES))
) -> Iterator[NDArray[np.uint8]]:
    """The picture as it is, rotated by quarters, the same of its mirror image, and all inverted.

    Args:
        pixels: ``(H, W, 3)`` or ``(H, W)``, uint8.
        chosen: Positions in :data:`SYMMETRIES` of those that are wanted.
    """
    for place in chosen:
        negative, (mirrored, quarter) = place >= len(_SQUARE), divmod(place % len(_SQUARE), 4)
        picture = pixels[:, ::-1] if mirrored else pixels
        picture = np.rot90(255 - picture if negative else picture, quarter)
        yield np.ascontiguousarray(picture)


def variants_of(choice: str) -> tuple[int, ...]:
    """Positions in :data:`SYMMETRIES` of what some changes and their combinations give.

    Args:
        choice: ``none``, ``all``, or changes of :data:`CHANGES` separated by commas.

    Raises:
        InputError: A change is not known.

    Examples:
        >>> [SYMMETRIES[place] for place in variants_of("mirror,invert")]
        ['as is', 'mirrored', 'inverted', 'mirrored, inverted']
    """
    named = {part.strip() for part in choice.split(",")} - {"none", ""}
    named = set(CHANGES) if "all" in named else named
    if unknown := sorted(named - set(CHANGES)):
        raise InputError(
            f"no variants {unknown[0]!r}",
            fix=f"choose none, all, or some of {', '.join(CHANGES)}, separated by commas",
        )
    return tuple(
        place
        for place in range(len(SYMMETRIES))
        if ("invert" in named or place < len(_SQUARE))
        and ("mirror" in named or place % len(_SQUARE) < 4)
        and ("rotate90" in named or place % 4 == 0)
    )


def hamming(left: Words, right: Words) -> NDArray[np.uint8]:
    """Differing bits of every pair: ``(N,)`` and ``(M,)`` words give ``(N, M)``, 0 to 64.

    Examples:
        >>> hamming(np.array([0b1011], np.uint64), np.array([0b1001, 0], np.uint64)).tolist()
        [[1, 3]]
    """
    return np.bitwise_count(left[:, None] ^ right[None, :])


def nearest(queries: Words, others: Words) -> NearestHash:
    """The closest of ``others`` ``(M,)`` to each of ``queries`` ``(N,)``, over all pairs."""
    distance = np.empty(len(queries), dtype=np.int64)
    index = np.empty(len(queries), dtype=np.int64)
    for rows in _blocks(len(queries), len(others)):
        table = hamming(queries[rows], others)
        index[rows] = table.argmin(axis=1)
        distance[rows] = table.min(axis=1)
    return NearestHash(distance, index)


def pairs_within(
    left: Words,
    right: Words | None = None,
    threshold: int = PHASH_THRESHOLD,
    limit: int | None = None,
) -> NDArray[np.int64]:
    """All pairs at a Hamming distance of at most ``threshold``.

    Args:
        left: ``(N,)`` words.
        right: ``(M,)`` words; None compares ``left`` with itself, each pair once.
        threshold: Largest distance that counts.
        limit: Closest ones that are listed of each word of ``left``, of those that come after it
            where there is no ``right``; None lists all.

    Returns:
        ``(P, 3)`` rows of left index, right index and distance.
    """
    others = left if right is None else right
    found = []
    for rows in _blocks(len(left), len(others)):
        table = hamming(left[rows], others)
        # Flat indices: those of a table with two axes take five times as long to find.
        i, j = np.divmod(np.flatnonzero(table <= threshold), len(others))
        if right is None:
            once = i + rows.start < j
            i, j = i[once], j[once]
        distance = table[i, j]
        if limit is not None:
            chosen = _closest(i, distance, limit)
            i, j, distance = i[chosen], j[chosen], distance[chosen]
        found.append(np.stack([i + rows.start, j, distance], axis=1))
    return np.concatenate(found) if found else np.empty((0, 3), dtype=np.int64)


def count_within(left: Words, right: Words, threshold: int = PHASH_THRESHOLD) -> NDArray[np.int64]:
    """``(N,)`` how many of ``right`` lie within ``threshold`` of each of ``left``."""
    counts = np.empty(len(left), dtype=np.int64)
    for rows in _blocks(len(left), len(right)):
        counts[rows] = (hamming(left[rows], right) <= threshold).sum(axis=1)
    return counts


def _closest(rows: NDArray[np.int64], distance: NDArray[np.uint8], limit: int) -> NDArray[np.int64]:
    """Which entries are among the ``limit`` closest of their row, in order."""
    order = np.lexsort((distance, rows))
    ranked = rows[order]
    place = np.arange(len(order)) - np.searchsorted(ranked, ranked)
    return np.sort(order[place < limit])


def _blocks(rows: int, columns: int) -> Iterator[slice]:
    step = max(1, _BLOCK_PAIRS // max(columns, 1))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))
