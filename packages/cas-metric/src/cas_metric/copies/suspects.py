"""The pairs of generated and training images to look at, with all three scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cas_metric.copies import neighbours, ssim
from cas_metric.protocol import PHASH_THRESHOLD, SSIM_THRESHOLD

if TYPE_CHECKING:
    from cas_metric.copies.pictures import Pictures
    from cas_metric.manifest import Manifest

#: Pairs listed beyond those that a detector flags.
PAIRS: Final = 200
#: Names of the detectors, as they stand in the column ``flags``.
SSIM: Final = "SSIM"
PHASH: Final = "pHash"
VARIANT: Final = "pHash of a variant"
FEATURES: Final = "features"


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
    """

    rows: pd.DataFrame
    above: NDArray[np.int64]
    reference: NDArray[np.float64] | None


def suspicious_pairs(sets: Sets, found: Detected, features: Features | None) -> pd.DataFrame:
    """Flagged pairs and the nearest ones with all three scores, most suspicious first."""
    rows = found.rows
    chosen = _candidates(rows, found.above)
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
    table["flags"] = _pair_flags(table, found.reference)
    count = table["flags"].str.count(",") + (table["flags"] != "")
    order = table.assign(count=count).sort_values(
        ["count", "ssim", "phash"], ascending=[False, False, True], kind="stable"
    )
    return order.drop(columns="count").reset_index(drop=True)


def _candidates(rows: pd.DataFrame, above: NDArray[np.int64]) -> NDArray[np.int64]:
    """All flagged pairs and the :data:`PAIRS` nearest ones: rows of both manifests, ``(P, 2)``."""
    flagged = {tuple(pair) for pair in above.tolist()}
    nearest: list[tuple[float, int, int]] = []
    for column, image, ascending in (
        ("ssim", "ssim_image", False),
        ("phash", "phash_image", True),
        ("train_distance", "train_image", True),
    ):
        if column not in rows:
            continue
        ranks = rows[column].rank(method="first", ascending=ascending)
        known = rows[rows[image].notna() & ranks.notna()]
        for row, other, flags in zip(known.index, known[image], known["flags"], strict=True):
            nearest.append((float(ranks[row]), int(row), int(other)))
            if column == "train_distance" and FEATURES in flags:
                flagged.add((int(row), int(other)))
    listed = dict.fromkeys((g, t) for _, g, t in sorted(nearest) if (g, t) not in flagged)
    return np.array([*sorted(flagged), *list(listed)[:PAIRS]], dtype=np.int64).reshape(-1, 2)


def _pair_flags(pairs: pd.DataFrame, reference: NDArray[np.float64] | None) -> list[str]:
    """Which detectors flag the pair itself."""
    marks = {SSIM: pairs["ssim"] > SSIM_THRESHOLD, PHASH: pairs["phash"] <= PHASH_THRESHOLD}
    if reference is not None:
        marks[FEATURES] = neighbours.nearer_than_real(pairs["distance"].to_numpy(), reference)
    table = pd.DataFrame(marks, index=pairs.index)
    return [", ".join(name for name, on in line.items() if on) for _, line in table.iterrows()]
