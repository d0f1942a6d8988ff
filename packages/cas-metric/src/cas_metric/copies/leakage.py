"""Images and patients that two splits share.

Exact duplicates have the same bytes, or the same pixels in another file. Near duplicates have
perceptual hashes within five bits (Appendix M); SSIM on grey squares then tells which of them agree
pixel by pixel, and leaves the others to the reader's eye. Altered copies (cropped, shifted,
rotated, mirrored, inverted, pasted in) agree once they are aligned, more than training images do
with each other. Two images of one patient that agree no better than such pairs of the training set
do are told from copies. Of one training image at most :data:`LISTED` pairs of a kind are listed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cas_metric.copies import phash, ssim
from cas_metric.copies.evidence import aligned_columns
from cas_metric.copies.suspects import LISTED, Sets
from cas_metric.protocol import PHASH_THRESHOLD, SSIM_THRESHOLD

if TYPE_CHECKING:
    from cas_metric.copies.pictures import Pictures
    from cas_metric.manifest import Manifest

#: What a pair of images has in common, strongest first.
SAME_BYTES: Final = "same file"
SAME_PIXELS: Final = "same pixels"
NEAR: Final = "near duplicate"
ALTERED: Final = "altered copy"
ANOTHER: Final = "another image of the patient"


@dataclass(frozen=True, eq=False)
class Leakage:
    """What two splits share.

    Attributes:
        pairs: One row a pair of images: ``train``, ``test`` (files), their labels and patients,
            ``kind``, ``phash``, ``ssim``, ``confirmed`` (SSIM above the threshold); where
            the pictures carry local features also ``score``, the evidence of the alignment as a
            multiple of what training images ask for, and ``transform``.
        patients: One row a shared patient: ``patient``, images in ``train`` and in ``test``.
        figures: Counts for machines.
    """

    pairs: pd.DataFrame
    patients: pd.DataFrame
    figures: dict[str, Any]


def find_leakage(
    train: Manifest,
    test: Manifest,
    pictures: tuple[Pictures, Pictures],
    *,
    threshold: int = PHASH_THRESHOLD,
) -> Leakage:
    """Look for images and patients of ``test`` in ``train``.

    Args:
        train: One split.
        test: The other.
        pictures: What :func:`cas_metric.copies.pictures.read_pictures` found of both.
        threshold: Largest Hamming distance of near duplicates.
    """
    ours, theirs = pictures
    kinds = _kinds(ours, theirs, threshold)
    altered = _altered(Sets(test, train, theirs, ours))
    kinds = {pair: found.kind for pair, found in altered.items()} | kinds
    indices = np.array(list(kinds), dtype=np.int64).reshape(-1, 2)
    pairs = _table(train, test, pictures, indices).assign(kind=list(kinds.values()))
    pairs["confirmed"] = pairs["ssim"] > SSIM_THRESHOLD
    known = [altered.get(pair) for pair in kinds]
    if ours.keypoints is not None:
        pairs["score"] = [one.score if one else float("nan") for one in known]
        pairs["transform"] = [one.transform if one else "" for one in known]
    strength = {SAME_BYTES: 0, SAME_PIXELS: 1, ALTERED: 2, NEAR: 3, ANOTHER: 4}
    # A near duplicate that agrees when aligned is more than a hash.
    rank = [
        strength[ALTERED if kind == NEAR and one else kind]
        for kind, one in zip(kinds.values(), known, strict=True)
    ]
    order = pairs.assign(strength=rank).sort_values(
        ["strength", "ssim"], ascending=[True, False], kind="stable"
    )
    pairs = order.drop(columns="strength").reset_index(drop=True)
    patients = shared_patients(train, test)
    figures = _figures(pairs, patients, (len(ours), len(theirs)), (train, test))
    return Leakage(pairs, patients, {**figures, "phash_threshold": threshold})


class _Altered(NamedTuple):
    """How a pair fits once it is aligned."""

    kind: str
    score: float
    transform: str


def _altered(sets: Sets) -> dict[tuple[int, int], _Altered]:
    """Pairs of positions (train, test) that fit when aligned."""
    if sets.ours.keypoints is None or sets.theirs.keypoints is None:
        return {}
    if not len(sets.ours) or not len(sets.theirs):
        return {}
    columns, calibration = aligned_columns(sets, (None, None))
    place = {int(row): at for at, row in enumerate(sets.theirs.rows)}
    usual = max(calibration.patient_scores(), default=0.0)
    patients = [one.rows["patient"].to_numpy(dtype=str) for one in (sets.train, sets.generated)]
    found = {}
    for at in np.flatnonzero(columns["copy_score"] > 1):
        row, score = int(columns["copy_image"][at]), float(columns["copy_score"][at])
        one, other = patients[0][row], patients[1][sets.ours.rows[at]]
        kind = ANOTHER if one and one == other and score <= usual else ALTERED
        found[place[row], int(at)] = _Altered(kind, score, str(columns["copy_transform"][at]))
    return found


def shared_patients(train: Manifest, test: Manifest) -> pd.DataFrame:
    """Patients named in both splits, with the number of their images in each."""
    counts = [m.rows.loc[m.rows["patient"] != "", "patient"].value_counts() for m in (train, test)]
    both = sorted(set(counts[0].index) & set(counts[1].index))
    return pd.DataFrame(
        {
            "patient": pd.Series(both, dtype="str"),
            "train": [int(counts[0][patient]) for patient in both],
            "test": [int(counts[1][patient]) for patient in both],
        }
    )


def _kinds(ours: Pictures, theirs: Pictures, threshold: int) -> dict[tuple[int, int], str]:
    """What each offending pair (positions in both sets) has in common, at its strongest."""
    found: dict[tuple[int, int], str] = {}
    seen, shown = np.flatnonzero(~ours.blank), np.flatnonzero(~theirs.blank)
    near = phash.pairs_within(ours.words[seen, 0], theirs.words[shown, 0], threshold, limit=LISTED)
    found |= {(int(seen[i]), int(shown[j])): NEAR for i, j, _ in near}
    for kind, left, right in (
        (SAME_PIXELS, ours.contents, theirs.contents),
        (SAME_BYTES, ours.digests, theirs.digests),
    ):
        places: dict[str, list[int]] = {}
        for j, digest in enumerate(right):
            places.setdefault(digest, []).append(j)
        found |= {
            (i, j): kind for i, digest in enumerate(left) for j in places.get(digest, ())[:LISTED]
        }
    return found


def _table(
    train: Manifest,
    test: Manifest,
    pictures: tuple[Pictures, Pictures],
    indices: NDArray[np.int64],
) -> pd.DataFrame:
    """Files, labels, patients and both scores of the pairs at ``indices`` ``(P, 2)``."""
    columns: dict[str, Any] = {}
    for name, manifest, found, at in zip(
        ("train", "test"), (train, test), pictures, indices.T, strict=True
    ):
        rows = manifest.rows.iloc[found.rows[at]]
        columns[name] = [str(found.paths[k]) for k in at]
        columns[f"{name}_label"] = rows["label"].tolist()
        columns[f"{name}_patient"] = rows["patient"].tolist()
    (ours, theirs), (i, j) = pictures, indices.T
    words = zip(ours.words[i, 0], theirs.words[j, 0], strict=True)
    columns["phash"] = [int(a ^ b).bit_count() for a, b in words]
    columns["ssim"] = ssim.paired(ours.grey[i], theirs.grey[j])
    return pd.DataFrame(columns)


def _figures(
    pairs: pd.DataFrame,
    patients: pd.DataFrame,
    sizes: tuple[int, int],
    splits: tuple[Manifest, Manifest],
) -> dict[str, Any]:
    near = pairs["kind"] == NEAR
    return {
        "n_train": sizes[0],
        "n_test": sizes[1],
        "pairs": len(pairs),
        "same_file": int((pairs["kind"] == SAME_BYTES).sum()),
        "same_pixels": int((pairs["kind"] == SAME_PIXELS).sum()),
        "near_duplicates": int(near.sum()),
        "altered_copies": int((pairs["kind"] == ALTERED).sum()),
        "another_image": int((pairs["kind"] == ANOTHER).sum()),
        "near_duplicates_confirmed": int((near & pairs["confirmed"]).sum()),
        "train_images_affected": int(pairs["train"].nunique()),
        "test_images_affected": int(pairs["test"].nunique()),
        "labels_differ": int((pairs["train_label"] != pairs["test_label"]).sum()),
        # Of one side alone, nothing can be found in both.
        "patients_known": all(bool((one.rows["patient"] != "").any()) for one in splits),
        "shared_patients": len(patients),
        "test_images_of_shared_patients": int(patients["test"].sum()),
    }
