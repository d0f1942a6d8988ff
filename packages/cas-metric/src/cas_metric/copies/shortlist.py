"""Which training images are worth a look: words of local features, and windows of the picture.

Neither needs weights. A *word* is a descriptor of the training set; a picture is the weighted
histogram of the words nearest to its own descriptors, which survives crops, rotations, mirroring
and inverting. The *windows* are coarse squares at fixed places, whose best agreement finds a patch
that was pasted in where it stood.

Source: Sivic and Zisserman, "Video Google" (ICCV 2003), with square roots of the counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cas_metric.copies.keypoints import Floats, Keypoints, invariant, on_disk, rooted

#: Descriptors drawn from the training set to be the words.
WORDS: Final = 2048
#: Candidates of the words and of the windows.
BY_WORDS: Final = 16
BY_WINDOWS: Final = 4
#: Pictures compared at once.
_BLOCK: Final = 256
_COARSE: Final = 32
_WINDOW: Final = 12
_STEP: Final = 4
_GRID: Final = (_COARSE - _WINDOW) // _STEP + 1
#: Side of the coarse picture that is compared as a whole, and the parts of a training picture that
#: it is held against: left, top and side, as shares.
_WHOLE: Final = 16
_ZOOMS: Final = (
    (0.1, 0.1, 0.8),
    *((x, y, 0.6) for x in (0.0, 0.2, 0.4) for y in (0.0, 0.2, 0.4)),
)


class Shortlist:
    """An index of training pictures.

    Args:
        train: Their features.
        seed: Of the draw of the words.
    """

    def __init__(self, train: Keypoints, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        owner = np.repeat(np.arange(len(train.counts)), train.counts)
        place = np.arange(len(owner)) - np.repeat(
            np.cumsum(train.counts) - train.counts, train.counts
        )
        drawn = np.sort(rng.choice(len(owner), min(WORDS, len(owner)), replace=False))
        self._words = invariant(rooted(train.descriptors[owner[drawn], place[drawn]]))
        size = len(train.counts)
        self._blocks = [slice(k, min(k + _BLOCK, size)) for k in range(0, size, _BLOCK)]
        self._histograms = on_disk((size, len(self._words)), np.float32)
        self._windows = on_disk((size, _GRID**2, _WINDOW**2), np.float32)
        self._zoomed = on_disk((size, len(_ZOOMS), _WHOLE**2), np.float32)
        seen = np.zeros(len(self._words))
        for block in self._blocks:
            rows = range(block.start, block.stop)
            self._histograms[block] = self._count(train, rows)
            self._windows[block] = windows(train, rows)
            self._zoomed[block] = np.stack([_whole(train, rows, zoom) for zoom in _ZOOMS], axis=1)
            seen += (self._histograms[block] > 0).sum(axis=0)
        self._weights = np.log((1 + size) / (1 + seen)).astype(np.float32)
        for block in self._blocks:
            self._histograms[block] = self._weighted(self._histograms[block])

    def candidates(
        self, queries: Keypoints, rows: Sequence[int]
    ) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """For each of ``rows`` of ``queries``: the likeliest by words, and by windows.

        Several rows at once cost little more than one: the index is read once.
        """
        histograms = self._weighted(self._count(queries, rows))
        ours, whole = windows(queries, rows), _whole(queries, rows)
        words = np.empty((len(rows), len(self._histograms)), np.float32)
        agreement = np.zeros_like(words)
        for block in self._blocks:
            words[:, block] = histograms @ self._histograms[block].T
            theirs, zoomed = self._windows[block], self._zoomed[block]
            for window in range(ours.shape[1]):
                table = np.abs(ours[:, window] @ theirs[:, window].T)
                np.maximum(agreement[:, block], table, out=agreement[:, block])
            for part in range(len(_ZOOMS)):
                table = np.abs(whole @ zoomed[:, part].T)
                np.maximum(agreement[:, block], table, out=agreement[:, block])
        return [
            (_top(one, BY_WORDS), _top(other, BY_WINDOWS))
            for one, other in zip(words, agreement, strict=True)
        ]

    def _count(self, pictures: Keypoints, rows: Sequence[int]) -> Floats:
        """``(N, W)`` how often each word is the nearest."""
        counts = np.zeros((len(rows), len(self._words)), np.float32)
        if not len(self._words):
            return counts
        norms = (self._words**2).sum(axis=1)
        for at, row in enumerate(rows):
            own = invariant(pictures.rooted(row))
            nearest = (2 * own @ self._words.T - norms).argmax(axis=1)
            np.add.at(counts[at], nearest, 1)
        return counts

    def _weighted(self, counts: Floats) -> Floats:
        return _unit(np.sqrt(counts) * self._weights)


def windows(pictures: Keypoints, rows: Sequence[int]) -> Floats:
    """``(N, P, 144)`` windows of unit norm at places of a grid, without their quadratic trend.

    A trend would come from what surrounds a patch that was pasted in.
    """
    import cv2

    found = []
    for row in rows:
        small = cv2.resize(pictures.picture(row), (_COARSE, _COARSE), interpolation=cv2.INTER_AREA)
        view = np.lib.stride_tricks.sliding_window_view(small, (_WINDOW, _WINDOW))
        found.append(view[::_STEP, ::_STEP].reshape(-1, _WINDOW**2))
    values = np.array(found, np.float32).reshape(len(found), -1, _WINDOW**2)
    return _unit(np.asarray(values - (values @ _TREND) @ _TREND.T, np.float32), 4.0)


def _whole(
    pictures: Keypoints, rows: Sequence[int], box: tuple[float, float, float] = (0, 0, 1)
) -> Floats:
    """``(N, 256)`` the band-passed picture, or the ``(left, top, side)`` part of it."""
    import cv2

    left, top, side = box
    found = []
    for row in rows:
        picture = pictures.picture(row)
        height, width = picture.shape
        part = picture[
            round(top * height) : max(1, round((top + side) * height)),
            round(left * width) : max(1, round((left + side) * width)),
        ]
        small = cv2.resize(part, (_WHOLE, _WHOLE), interpolation=cv2.INTER_AREA)
        found.append((small - cv2.GaussianBlur(small, (0, 0), 3)).ravel())
    return _unit(np.array(found, np.float32).reshape(len(found), -1), 4.0)


def _unit(values: Floats, floor: float = 1e-9) -> Floats:
    """Of unit norm; shorter than ``floor`` stays shorter than one."""
    return values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), floor)


def _top(values: Floats, count: int) -> NDArray[np.int64]:
    if len(values) <= count:
        return np.arange(len(values))
    return np.argpartition(-values, count - 1)[:count]


def _trend() -> Floats:
    """``(144, 6)`` orthonormal polynomials of degree two over a window."""
    y, x = np.mgrid[-1 : 1 : _WINDOW * 1j, -1 : 1 : _WINDOW * 1j].reshape(2, -1)
    basis = np.column_stack([np.ones_like(x), x, y, x * x, x * y, y * y])
    return np.asarray(np.linalg.qr(basis)[0], dtype=np.float32)


_TREND: Final = _trend()
