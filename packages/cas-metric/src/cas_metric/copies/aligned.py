"""Copies that were altered: shortlisted, verified by geometry, and held against real images.

Every query is aligned with a bounded number of training images, so that the cost of a query does
not grow with the training set but for the products of the shortlist. The evidence is calibrated on
real images: unseen test images against the training set, or else training images against the
others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
#: A copy has so many times the evidence of the 95th percentile of real images, and the least where
#: these have nothing in common; chosen on the first halves of ``benchmarks.copies.planted``.
MARGIN: Final = 1.5
WHOLE_LEAST: Final = 80.0
PART_LEAST: Final = 200.0
POINTS_LEAST: Final = 12.0
_POINTS_USUAL: Final = 60.0
#: Queries whose shortlists are made together.
_TOGETHER: Final = 32
#: Fewer real images than this calibrate nothing.
FEWEST: Final = 10

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
        points: ``(L,)`` most matched keypoints that agree.
        against: ``test`` or ``training``: which real images.
        patients: Two real training images of one patient, laid over each other; a pair a patient.
    """

    whole: Floats
    part: Floats
    points: Floats
    against: str
    patients: tuple[Match, ...] = ()

    @property
    def thresholds(self) -> tuple[float, float]:
        """Evidence of the whole and of a part that a copy exceeds."""
        return (
            _limit(self.whole, WHOLE_LEAST, WHOLE_USUAL),
            _limit(self.part, PART_LEAST, PART_USUAL),
        )

    @property
    def points_threshold(self) -> float:
        """Matched keypoints that only another picture of the same scene exceeds."""
        return _limit(self.points, POINTS_LEAST, _POINTS_USUAL)

    def score(self, match: Match) -> float:
        """Evidence as a multiple of its threshold; above 1 it is a copy."""
        whole, part = self.thresholds
        return max(match.evidence / whole, match.part / part)

    def scores(self) -> Floats:
        """``(L,)`` the same of the real images."""
        whole, part = self.thresholds
        return np.maximum(self.whole / whole, self.part / part)

    def patient_scores(self) -> Floats:
        """``(P,)`` scores of :attr:`patients`, ascending."""
        return np.sort([self.score(match) for match in self.patients])


def _limit(values: Floats, least: float, default: float) -> float:
    """Beyond the upper tail, which a few copies among the real images do not move."""
    if len(values) < FEWEST:
        return default
    return max(least, MARGIN * float(np.quantile(values, 0.95)))


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
    found: list[list[Aligned]] = []
    try:
        for start in range(0, len(rows), _TOGETHER):
            together = rows[start : start + _TOGETHER].tolist()
            listed = shortlist.candidates(ours, together)
            for row, (words, windows) in zip(together, listed, strict=True):
                placed = set(windows.tolist())
                barred = excluded(row) if excluded else set()
                found.append(
                    [
                        Aligned(
                            geometry.align(ours, row, theirs, other, in_place=other in placed),
                            other,
                        )
                        for other in sorted({*words.tolist(), *placed})
                        if other not in barred
                    ]
                )
                if progress is not None:
                    progress(len(found), len(rows))
    finally:
        cv2.setNumThreads(threads)
    return found


def one_patient(
    theirs: Keypoints,
    rows: NDArray[np.int64],
    patients: NDArray[np.str_],
    contents: Sequence[str],
    seed: int = 0,
) -> tuple[Match, ...]:
    """How well two images of a patient fit, for at most :data:`CALIBRATION` patients.

    Args:
        theirs: Features of the training images.
        rows: Which of them.
        patients: Whom each of ``rows`` shows; empty where nobody knows.
        contents: Digest of the pixels of each of ``rows``: equal ones are no two images.
        seed: Of the draw.
    """
    rng = np.random.default_rng(seed)
    images: dict[str, dict[str, int]] = {}
    for row, patient, content in zip(rows.tolist(), patients.tolist(), contents, strict=True):
        if patient:
            images.setdefault(patient, {}).setdefault(content, row)
    several = [list(own.values()) for own in images.values() if len(own) > 1]
    chosen = sample(np.arange(len(several)), seed=seed)
    pairs = [rng.choice(several[at], 2, replace=False) for at in chosen]
    return tuple(geometry.align(theirs, int(one), theirs, int(other)) for one, other in pairs)


def calibrate(
    found: list[list[Aligned]], against: str, patients: tuple[Match, ...] = ()
) -> Calibration:
    """What real images give, each by the best of its shortlist."""
    return Calibration(
        np.array([max((one.match.evidence for one in near), default=0.0) for near in found]),
        np.array([max((one.match.part for one in near), default=0.0) for near in found]),
        np.array([float(most_points(near).match.inliers) for near in found]),
        against,
        patients,
    )


def sample(rows: NDArray[np.int64], size: int = CALIBRATION, seed: int = 0) -> NDArray[Any]:
    """At most ``size`` of ``rows``, in their order."""
    if len(rows) <= size:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, size, replace=False))


def most_points(near: list[Aligned]) -> Aligned:
    """The training image of a shortlist with the most matched keypoints that agree."""
    return max(near, key=lambda one: one.match.inliers, default=Aligned(geometry.NONE, -1))


def best(near: list[Aligned], calibration: Calibration) -> Aligned:
    """The training image of a shortlist with the most evidence."""
    return max(
        near, key=lambda one: calibration.score(one.match), default=Aligned(geometry.NONE, -1)
    )
