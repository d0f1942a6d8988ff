"""Copies that were altered: shortlisted, verified by geometry, and held against real images.

Every query is aligned with a bounded number of training images, so that the cost of a query does
not grow with the training set but for the products of the shortlist. The evidence is calibrated on
real images: unseen test images against the training set, or else training images against the
others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cas_metric.copies import geometry
from cas_metric.copies.geometry import PART_USUAL, WHOLE_USUAL, Match
from cas_metric.copies.keypoints import Keypoints
from cas_metric.copies.shortlist import Shortlist

Floats = NDArray[np.float64]

#: Real images that calibrate, at most.
CALIBRATION: Final = 300
#: How far beyond the spread of real images a copy has to lie; chosen on the first halves of
#: ``benchmarks.copies.planted``.
WHOLE_MARGIN: Final = 2.0
PART_MARGIN: Final = 2.0
#: Fewer real images than this calibrate nothing.
_FEWEST: Final = 10

#: Told after every image with (done, total).
Progress = Callable[[int, int], None]


class Aligned(NamedTuple):
    """The best training image of each query.

    Attributes:
        match: How it lies in the query.
        position: Its row in the training set; -1 where nothing was on the shortlist.
    """

    match: Match
    position: int


@dataclass(frozen=True, eq=False)
class Calibration:
    """What real images give, that are no copies of the training images.

    Attributes:
        whole: ``(L,)`` evidence over the whole overlap.
        part: ``(L,)`` evidence of the best part.
        against: ``test`` or ``training``: which real images.
    """

    whole: Floats
    part: Floats
    against: str

    @property
    def thresholds(self) -> tuple[float, float]:
        """Evidence of the whole and of a part that a copy exceeds."""
        return (
            _limit(self.whole, WHOLE_MARGIN, WHOLE_USUAL),
            _limit(self.part, PART_MARGIN, PART_USUAL),
        )

    def score(self, match: Match) -> float:
        """Evidence as a multiple of its threshold; above 1 it is a copy."""
        whole, part = self.thresholds
        return max(match.evidence / whole, match.part / part)

    def scores(self) -> Floats:
        """``(L,)`` the same of the real images."""
        whole, part = self.thresholds
        return np.maximum(self.whole / whole, self.part / part)


def search(
    ours: Keypoints,
    rows: NDArray[np.int64],
    theirs: Keypoints,
    shortlist: Shortlist,
    *,
    excluded: Callable[[int], set[int]] | None = None,
    progress: Progress | None = None,
) -> list[list[Aligned]]:
    """Align each query with every training image on its shortlist.

    Args:
        ours: Features of the queries.
        rows: Which of them.
        theirs: Features of the training images.
        shortlist: Index of these.
        excluded: Rows of the training set that a query must not be compared with.
        progress: Told after every query.
    """
    import cv2

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # the pictures are small: threads would only wait for each other
    found = []
    try:
        for done, row in enumerate(rows.tolist(), 1):
            ((words, windows),) = shortlist.candidates(ours, slice(row, row + 1))
            placed = set(windows.tolist())
            barred = excluded(row) if excluded else set()
            found.append(
                [
                    Aligned(
                        geometry.align(ours, row, theirs, other, in_place=other in placed), other
                    )
                    for other in sorted({*words.tolist(), *placed})
                    if other not in barred
                ]
            )
            if progress is not None:
                progress(done, len(rows))
    finally:
        cv2.setNumThreads(threads)
    return found


def calibrate(found: list[list[Aligned]], against: str) -> Calibration:
    """What real images give, each by the best of its shortlist."""
    return Calibration(
        np.array([max((one.match.evidence for one in near), default=0.0) for near in found]),
        np.array([max((one.match.part for one in near), default=0.0) for near in found]),
        against,
    )


def sample(rows: NDArray[np.int64], size: int = CALIBRATION, seed: int = 0) -> NDArray[Any]:
    """At most ``size`` of ``rows``, in their order."""
    if len(rows) <= size:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, size, replace=False))


def best(near: list[Aligned], calibration: Calibration) -> Aligned:
    """The training image of a shortlist with the most evidence."""
    return max(
        near, key=lambda one: calibration.score(one.match), default=Aligned(geometry.NONE, -1)
    )


def _limit(values: Floats, margin: float, default: float) -> float:
    """Beyond the upper tail, by its own spread: a few copies among real images do not move it."""
    if len(values) < _FEWEST:
        return default
    middle, high = np.quantile(values, [0.5, 0.95])
    return float(max(middle + margin * (high - middle), 1e-9))
