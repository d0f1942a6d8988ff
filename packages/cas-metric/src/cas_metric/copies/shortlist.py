"""Which training images are worth a look: words of local features, and windows of the picture.

Neither needs weights. A *word* is a descriptor of the training set; a picture is the weighted
histogram of the words nearest to its own descriptors, which survives crops, rotations, mirroring
and inverting. The *windows* are coarse band-passed squares at fixed places, whose best agreement
finds a patch that was pasted in where it stood.

Source: Sivic and Zisserman, "Video Google" (ICCV 2003), with square roots of the counts.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from cas_metric.copies.keypoints import SMALL, Floats, Keypoints, invariant, rooted

#: Descriptors drawn from the training set to be the words.
WORDS: Final = 2048
#: Candidates of the words and of the windows.
BY_WORDS: Final = 20
BY_WINDOWS: Final = 4
#: Pictures compared at once.
_BLOCK: Final = 256
_COARSE: Final = 32
_WINDOW: Final = 12
_STEP: Final = 4


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
        blocks = [(self._count(train, rows), windows(train, rows)) for rows in _blocks(train)]
        counts = np.concatenate([one for one, _ in blocks])
        seen = (counts > 0).sum(axis=0)
        self._weights = np.log((1 + len(counts)) / (1 + seen)).astype(np.float32)
        self._histograms = self._weighted(counts)
        self._windows = np.concatenate([one for _, one in blocks])

    def candidates(self, queries: Keypoints, rows: slice) -> list[NDArray[np.int64]]:
        """Training pictures to be verified, for each picture of ``queries`` in ``rows``."""
        words = self._weighted(self._count(queries, rows)) @ self._histograms.T
        ours = windows(queries, rows)
        agreement = np.full(words.shape, -1.0, np.float32)
        for window in range(ours.shape[1]):
            table = np.abs(ours[:, window] @ self._windows[:, window].T)
            np.maximum(agreement, table, out=agreement)
        return [
            np.unique(np.concatenate([_top(one, BY_WORDS), _top(other, BY_WINDOWS)]))
            for one, other in zip(words, agreement, strict=True)
        ]

    def _count(self, pictures: Keypoints, rows: slice) -> Floats:
        """``(N, W)`` how often each word is the nearest."""
        places = range(*rows.indices(len(pictures.counts)))
        counts = np.zeros((len(places), len(self._words)), np.float32)
        if not len(self._words):
            return counts
        norms = (self._words**2).sum(axis=1)
        for at, row in enumerate(places):
            own = invariant(pictures.rooted(row))
            nearest = (2 * own @ self._words.T - norms).argmax(axis=1)
            np.add.at(counts[at], nearest, 1)
        return counts

    def _weighted(self, counts: Floats) -> Floats:
        return _unit(np.sqrt(counts) * self._weights)


def windows(pictures: Keypoints, rows: slice) -> Floats:
    """``(N, P, 144)`` band-passed windows of unit norm, at places of a grid."""
    import cv2

    found = []
    for row in range(*rows.indices(len(pictures.counts))):
        small = cv2.resize(pictures.picture(row), (_COARSE, _COARSE), interpolation=cv2.INTER_AREA)
        band = small - cv2.GaussianBlur(small, (0, 0), 4)
        view = np.lib.stride_tricks.sliding_window_view(band, (_WINDOW, _WINDOW))
        found.append(view[::_STEP, ::_STEP].reshape(-1, _WINDOW**2))
    return _unit(np.array(found, np.float32).reshape(len(found), -1, _WINDOW**2), 4.0)


def _unit(values: Floats, floor: float = 1e-9) -> Floats:
    """Of unit norm; shorter than ``floor`` stays shorter than one."""
    return values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), floor)


def _top(values: Floats, count: int) -> NDArray[np.int64]:
    if len(values) <= count:
        return np.arange(len(values))
    return np.argpartition(-values, count - 1)[:count]


def _blocks(pictures: Keypoints) -> list[slice]:
    size = len(pictures.counts)
    return [slice(k, min(k + _BLOCK, size)) for k in range(0, size, _BLOCK)]


__all__ = ["SMALL", "Shortlist", "windows"]
