"""The columns and figures of aligned copies, for the rows of an analysis."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cas_metric.copies import aligned, geometry, neighbours
from cas_metric.copies.chance import cases_of, one_each
from cas_metric.copies.shortlist import Shortlist

if TYPE_CHECKING:
    from cas_metric.copies.pictures import Pictures
    from cas_metric.copies.suspects import Sets
    from cas_metric.manifest import Manifest


def aligned_columns(
    sets: Sets,
    test: tuple[Manifest | None, Pictures | None],
    progress: aligned.Progress | None = None,
) -> tuple[dict[str, Any], aligned.Calibration]:
    """Columns for the readable generated images, and what real images give.

    ``copy_score`` is the evidence as a multiple of its threshold, ``copy_p`` the exact share of
    real images with as much, ``copy_image`` a row of the training manifest, ``copy_transform`` how
    that image lies in the generated one; ``copy_patient_p``, where training patients have several
    images, the exact share of pairs of one patient with as much. ``points`` are the most matched
    keypoints that agree, with the training image ``points_image``.
    """
    ours, theirs = sets.ours.keypoints, sets.theirs.keypoints
    if ours is None or theirs is None:
        raise ValueError("the pictures were read without local features")
    index = Shortlist(theirs)
    calibration = _calibrate(sets, index, test)
    rows = sets.ours.rows
    # Blank pictures have nothing to be aligned by.
    shown = np.flatnonzero(~sets.ours.blank)
    found = aligned.search(ours, rows[shown], theirs, index, progress=progress)
    nothing = aligned.Aligned(geometry.NONE, -1)
    chosen, alike = [nothing] * len(rows), [nothing] * len(rows)
    for at, near in zip(shown.tolist(), found, strict=True):
        chosen[at], alike[at] = aligned.best(near, calibration), aligned.most_points(near)
    score = np.array([calibration.score(one.match) for one in chosen])
    known = score > 0
    points = np.array([one.match.inliers for one in alike])
    columns = {
        "copy_score": score,
        "copy_p": _share_above(calibration.scores(), score),
        "copy_image": _positions(chosen, known),
        "copy_correlation": np.array([one.match.correlation for one in chosen]),
        "copy_transform": np.array(
            [
                geometry.describe(one.match) if use else ""
                for one, use in zip(chosen, known, strict=True)
            ],
            dtype=object,
        ),
    }
    columns |= {"points": points, "points_image": _positions(alike, points > 0)}
    if calibration.patients:
        columns["copy_patient_p"] = _share_above(calibration.patient_scores(), score)
    return columns, calibration


def _positions(found: list[aligned.Aligned], known: NDArray[np.bool_]) -> NDArray[Any]:
    """Rows of the training set, None where nothing is known."""
    image: NDArray[Any] = np.full(len(found), None, dtype=object)
    image[known] = [one.position for one, use in zip(found, known, strict=True) if use]
    return image


def _share_above(reference: aligned.Floats, scores: aligned.Floats) -> aligned.Floats:
    """Exact p-value of each score: how many of the reference have as much, itself included."""
    ordered = np.sort(reference)
    above = len(ordered) - np.searchsorted(ordered, scores, side="left")
    return np.asarray((1 + above) / (1 + len(ordered)))


def aligned_figures(
    methods: list[dict[str, Any]], rows: pd.DataFrame, calibration: aligned.Calibration
) -> None:
    """Add ``aligned`` to each method: hits beside those of real images and of one patient's."""
    real, patients = calibration.scores(), calibration.patient_scores()
    for one in methods:
        own = rows[(rows["method"] == one["method"]) & (rows["status"] == "ok")]
        limit, against = calibration.points_threshold, calibration.against
        one["aligned"] = _beside(own, own["copy_score"] > 1, real > 1, against)
        one["points"] = _beside(own, own["points"] > limit, calibration.points > limit, against)
        if len(patients):
            beyond = (own["copy_score"] > max(float(patients[-1]), 1.0)).to_numpy(dtype=bool)
            one["aligned"]["one_patient"] = {
                "pairs": len(patients),
                "pairs_above": int((patients > 1).sum()),
                "hits_beyond": int(beyond.sum()),
            }


def _beside(
    rows: pd.DataFrame, marks: pd.Series[bool], usual: NDArray[np.bool_], against: str
) -> dict[str, Any]:
    """Hits among generated images beside those among real ones, one image a case."""
    hits = marks.to_numpy(dtype=bool)
    first = ~pd.Series(cases_of(rows), index=rows.index).duplicated().to_numpy()
    return {
        "hits": int(hits.sum()),
        "real_hits": int(usual.sum()),
        "real_images": len(usual),
        "against": against,
        "expected": float(usual.mean() * len(rows)) if len(usual) else float("nan"),
        "p": neighbours.excess_p(hits[first], usual) if len(usual) else float("nan"),
    }


def _calibrate(
    sets: Sets, index: Shortlist, test: tuple[Manifest | None, Pictures | None]
) -> aligned.Calibration:
    """Real images against the training images: unseen ones, or else each against the others.

    One image a patient: the p-values count them as independent.
    """
    theirs = sets.theirs.keypoints
    manifest, pictures = test
    patients = sets.train.rows["patient"].to_numpy(dtype=str)
    if theirs is None:
        raise ValueError("the pictures were read without local features")
    shown = np.flatnonzero(~sets.theirs.blank)
    rows = sets.theirs.rows[shown]
    pairs = aligned.one_patient(
        theirs, rows, patients[rows], [sets.theirs.contents[at] for at in shown]
    )
    if manifest is not None and pictures is not None and pictures.keypoints is not None:
        names = manifest.rows["patient"].to_numpy(dtype=str)
        unseen = aligned.sample(one_each(pictures.rows[~pictures.blank], names))
        barred = related(names, pictures, patients, sets.theirs)
        found = aligned.search(pictures.keypoints, unseen, theirs, index, excluded=barred)
        return aligned.calibrate(found, "test", pairs)
    barred = related(patients, sets.theirs, patients, sets.theirs)
    own = aligned.sample(one_each(rows, patients))
    found = aligned.search(theirs, own, theirs, index, excluded=barred)
    return aligned.calibrate(found, "training", pairs)


def unrelated(sets: Sets) -> NDArray[np.int64]:
    """Rows of ``sets.generated`` that are not blank and not :func:`related` to training images.

    The others would teach that copies are usual.
    """
    patients = [one.rows["patient"].to_numpy(dtype=str) for one in (sets.generated, sets.train)]
    known = related(patients[0], sets.ours, patients[1], sets.theirs)
    shown = sets.ours.rows[~sets.ours.blank].tolist()
    return np.array([row for row in shown if not known(row)], dtype=np.int64)


def related(
    names: NDArray[np.str_], ours: Pictures, patients: NDArray[np.str_], theirs: Pictures
) -> Callable[[int], set[int]]:
    """Rows of the training set that show the patient, or have the very pixels, of a row of ours.

    Duplicates among the real images would teach that copies are usual.
    """
    places: dict[str, set[int]] = {}
    for row, content in zip(theirs.rows.tolist(), theirs.contents, strict=True):
        places.setdefault(content, set()).add(row)
    contents = dict(zip(ours.rows.tolist(), ours.contents, strict=True))

    def rows(row: int) -> set[int]:
        same = set(np.flatnonzero(patients == names[row]).tolist()) if names[row] else set()
        return same | places.get(contents[row], set())

    return rows
