"""The pairs of generated and training images to look at, with all three scores."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cas_metric.copies import geometry, neighbours, ssim
from cas_metric.protocol import PHASH_THRESHOLD, SSIM_THRESHOLD

if TYPE_CHECKING:
    from cas_metric.copies.aligned import Calibration
    from cas_metric.copies.pictures import Pictures
    from cas_metric.manifest import Manifest

#: Pairs listed beyond those that a detector flags.
PAIRS: Final = 200
#: Names of the detectors, as they stand in the column ``flags``.
SSIM: Final = "SSIM"
PHASH: Final = "pHash"
VARIANT: Final = "pHash of a variant"
FEATURES: Final = "features"
ALIGNED: Final = "aligned copy"
POINTS: Final = "matched points"
#: Training images that are listed of one generated image and detector.
LISTED: Final = 16
#: Flagged pairs that are listed in all, the nearest ones.
FLAGGED: Final = 2000


@dataclass(frozen=True, eq=False)
class Features:
    """Embeddings of unit norm in the order of the manifests' rows; NaN rows for failed images.

    Attributes:
        generated: ``(N, D)``.
        train: ``(M, D)``.
        test: ``(L, D)``; None without a test set.
    """

    generated: NDArray[np.float32]
    train: NDArray[np.float32]
    test: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Sets:
    """Both sets of pictures with their manifests."""

    generated: Manifest
    train: Manifest
    ours: Pictures
    theirs: Pictures


@dataclass(frozen=True, eq=False)
class Detected:
    """What the detectors found.

    Attributes:
        rows: One row a generated image; ``…_image`` columns hold rows of the training manifest.
        above: ``(P, 2)`` flagged pairs, rows of both manifests.
        reference: Distances of real test images to training; None without a test set.
        calibration: What real images give when aligned; None without local features.
    """

    rows: pd.DataFrame
    above: NDArray[np.int64]
    reference: NDArray[np.float64] | None
    calibration: Calibration | None = None


def suspicious_pairs(
    sets: Sets, found: Detected, features: Features | None
) -> tuple[pd.DataFrame, int]:
    """Flagged pairs and the nearest ones with all three scores, most suspicious first.

    Returns:
        The table, and how many flagged pairs it leaves out.
    """
    rows = found.rows
    chosen, left_out = _candidates(rows, found.above)
    ours = pd.Series(np.arange(len(sets.ours)), index=sets.ours.rows)
    theirs = pd.Series(np.arange(len(sets.theirs)), index=sets.theirs.rows)
    kept = chosen[[g in ours.index and t in theirs.index for g, t in chosen]]
    i, j = ours[kept[:, 0]].to_numpy(), theirs[kept[:, 1]].to_numpy()
    table = pd.DataFrame(
        {
            "generated": [str(sets.ours.paths[k]) for k in i],
            "training": [str(sets.theirs.paths[k]) for k in j],
            "method": rows["method"].to_numpy()[kept[:, 0]],
            "label": rows["label"].to_numpy()[kept[:, 0]],
            "ssim": ssim.paired(sets.ours.grey[i], sets.theirs.grey[j]),
            "phash": [
                int(a ^ b).bit_count()
                for a, b in zip(sets.ours.words[i, 0], sets.theirs.words[j, 0], strict=True)
            ],
        }
    )
    if features is not None:
        one, other = features.generated[kept[:, 0]], features.train[kept[:, 1]]
        table["distance"] = np.clip(1 - (one * other).sum(axis=1), 0, 2)
    table = table.assign(**_alignments(sets, kept, found.calibration))
    table["flags"] = _pair_flags(table, found.reference, found.calibration)
    order = table.assign(count=_weight(table)).sort_values(
        ["count", *(["score"] if "score" in table else []), "ssim", "phash"],
        ascending=[False, *([False] if "score" in table else []), False, True],
        kind="stable",
    )
    return order.drop(columns="count").reset_index(drop=True), left_out


def _weight(pairs: pd.DataFrame) -> pd.Series[int]:
    """How many detectors agree, where pixels confirm a copy: pHash alone proves little."""
    count = pairs["flags"].str.count(",") + (pairs["flags"] != "")
    if "score" not in pairs:
        return count
    return count.where((pairs["score"] > 1) | (pairs["ssim"] > SSIM_THRESHOLD), 0)


def _alignments(
    sets: Sets, kept: NDArray[np.int64], calibration: Calibration | None
) -> dict[str, list[Any]]:
    """Columns of the alignment of each pair, rows of both manifests ``(P, 2)``."""
    ours, theirs = sets.ours.keypoints, sets.theirs.keypoints
    if calibration is None or ours is None or theirs is None:
        return {}
    found = [geometry.align(ours, i, theirs, j) for i, j in kept.tolist()]
    return {
        "score": [calibration.score(match) for match in found],
        "correlation": [match.correlation for match in found],
        "points": [match.inliers for match in found],
        "transform": [geometry.describe(match) for match in found],
    }


def _candidates(rows: pd.DataFrame, above: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """The :data:`FLAGGED` nearest flagged pairs and the :data:`PAIRS` nearest other ones.

    Returns:
        Rows of both manifests, ``(P, 2)``, and the number of flagged pairs that are left out.
    """
    flagged = {(row, other) for row, other in above.tolist()}
    # Best rank by any detector; a flagged pair that is not the nearest of its image comes last.
    ranked = dict.fromkeys(flagged, math.inf)
    for column, image, ascending in (
        ("ssim", "ssim_image", False),
        ("phash", "phash_image", True),
        ("train_distance", "train_image", True),
        ("copy_score", "copy_image", False),
        ("points", "points_image", False),
    ):
        if column not in rows:
            continue
        ranks = rows[column].rank(method="first", ascending=ascending)
        known = rows[rows[image].notna() & ranks.notna()]
        for row, other, flags in zip(known.index, known[image], known["flags"], strict=True):
            pair = int(row), int(other)
            ranked[pair] = min(ranked.get(pair, math.inf), float(ranks[row]))
            wanted = {"train_distance": FEATURES, "copy_score": ALIGNED, "points": POINTS}.get(
                column
            )
            if wanted is not None and wanted in flags:
                flagged.add(pair)
    order = sorted(ranked, key=lambda pair: (ranked[pair], pair))
    first = [pair for pair in order if pair in flagged][:FLAGGED]
    others = [pair for pair in order if pair not in flagged][:PAIRS]
    chosen = np.array([*first, *others], dtype=np.int64).reshape(-1, 2)
    return chosen, len(flagged) - len(first)


def _pair_flags(
    pairs: pd.DataFrame, reference: NDArray[np.float64] | None, calibration: Calibration | None
) -> list[str]:
    """Which detectors flag the pair itself."""
    marks = {SSIM: pairs["ssim"] > SSIM_THRESHOLD, PHASH: pairs["phash"] <= PHASH_THRESHOLD}
    if reference is not None:
        marks[FEATURES] = neighbours.nearer_than_real(pairs["distance"].to_numpy(), reference)
    if calibration is not None and "score" in pairs:
        marks[ALIGNED] = pairs["score"] > 1
        marks[POINTS] = pairs["points"] > calibration.points_threshold
    table = pd.DataFrame(marks, index=pairs.index)
    return [", ".join(name for name, on in line.items() if on) for _, line in table.iterrows()]
