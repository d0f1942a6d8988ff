"""Generated images against the images that their generator was trained on (Appendix M).

Detectors: structural similarity, perceptual hash, cosine distance in feature space, and alignment.
The result is one row a generated image, the pairs to look at, and Tables 17 and 18 by method.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cas_metric.copies import aligned, neighbours, phash, ssim_search
from cas_metric.copies.chance import (
    Usual,
    beside_usual,
    correct,
    nearer_figures,
    one_each,
    thresholds,
)
from cas_metric.copies.evidence import aligned_columns, aligned_figures, unrelated
from cas_metric.copies.feature_space import (
    feature_columns,
    means,
    neighbour_figures,
    reference_rows,
)
from cas_metric.copies.suspects import (
    ALIGNED,
    FEATURES,
    LISTED,
    PHASH,
    POINTS,
    SSIM,
    VARIANT,
    Detected,
    Features,
    Sets,
    suspicious_pairs,
)
from cas_metric.errors import InputError
from cas_metric.protocol import PHASH_THRESHOLD, SSIM_SIZE

if TYPE_CHECKING:
    from cas_metric.copies.pictures import Pictures
    from cas_metric.manifest import Manifest


@dataclass(frozen=True)
class Settings:
    """What is compared, and how.

    Attributes:
        search: How SSIM goes through all pairs; None leaves SSIM out.
        size: Side of the grey square that SSIM is taken on.
        variants: Which variants are hashed too, as the pictures were read.
        faiss: Whether FAISS searches for the nearest images in feature space.
    """

    search: ssim_search.Search | None = field(default_factory=ssim_search.Search)
    size: int = SSIM_SIZE
    variants: str = "none"
    faiss: bool = False


@dataclass(frozen=True, eq=False)
class Analysis:
    """What was found.

    Attributes:
        rows: One row a generated image, failed ones included.
        pairs: Most suspicious first: flagged pairs and the nearest other ones.
        methods: Figures of each method; see :func:`analyse`.
        reference: ``(L,)`` distance of each real test image that is not related to the training
            images to its nearest one.
        calibration: What real images give when aligned with training images; None where the
            pictures carry no local features.
        left_out: Flagged pairs that ``pairs`` has no room for: those that are least near.
    """

    rows: pd.DataFrame
    pairs: pd.DataFrame
    methods: list[dict[str, Any]]
    reference: NDArray[np.float64] | None
    calibration: aligned.Calibration | None = None
    left_out: int = 0


def analyse(
    generated: Manifest,
    train: Manifest,
    pictures: tuple[Pictures, Pictures],
    *,
    test: Manifest | None = None,
    test_pictures: Pictures | None = None,
    features: Features | None = None,
    settings: Settings | None = None,
    progress: aligned.Progress | None = None,
) -> Analysis:
    """Compare every generated image with every training image.

    Args:
        generated: Generated images, of any number of methods.
        train: Images that the generator was trained on.
        pictures: What :func:`cas_metric.copies.pictures.read_pictures` found of both.
        test: Real images that it has not seen.
        test_pictures: Their pictures: how often real images set off the pixel detectors.
        features: Embeddings of all three; None leaves the feature space out.
        settings: What is compared, and how.
        progress: Told after every image that was aligned.

    Raises:
        InputError: No image of one of the sets can be read.
    """
    settings = settings or Settings()
    sets = Sets(generated, train, *pictures)
    for name, found in (("generated", sets.ours), ("training", sets.theirs)):
        if not len(found):
            raise InputError(f"none of the {name} images can be read")
    rows = _empty_rows(sets)
    where = sets.ours.rows
    pixels, above = _pixel_columns(sets, settings)
    for column, values in pixels.items():
        rows[column] = pd.Series(values, index=where)
    beside, unseen = None, None
    if test is not None and test_pictures is not None and len(test_pictures):
        beside = Sets(test, train, test_pictures, pictures[1])
        unseen = unrelated(beside)
    reference = None
    if features is not None:
        columns, reference = feature_columns(features, unseen, faiss=settings.faiss)
        rows = rows.assign(**columns)
    calibration = None
    if sets.ours.keypoints is not None and sets.theirs.keypoints is not None:
        columns, calibration = aligned_columns(sets, (test, test_pictures), progress)
        for column, values in columns.items():
            rows[column] = pd.Series(values, index=where)
    rows["blank"] = pd.Series(sets.ours.blank, index=where)
    rows["flags"] = _flags(rows, reference, calibration)
    usual = None if beside is None or unseen is None else _usual(beside, unseen, settings)
    rows["copy"] = _beyond_real(rows, thresholds(usual))
    detected = Detected(rows, above, reference, calibration)
    pairs, left_out = suspicious_pairs(sets, detected, features)
    names = train.rows["image"].to_numpy(dtype=str)
    for column in ("ssim_image", "phash_image", "train_image", "copy_image", "points_image"):
        if column in rows:
            known = rows[column].notna()
            rows.loc[known, column] = names[rows.loc[known, column].astype(int)]
    if test is not None and "test_image" in rows:
        known = rows["test_image"].notna()
        tests = test.rows["image"].to_numpy(dtype=str)
        rows.loc[known, "test_image"] = tests[rows.loc[known, "test_image"].astype(int)]
    methods = _methods(rows, features, (train, test), (reference, unseen), usual)
    if calibration is not None:
        aligned_figures(methods, rows, calibration)
    correct(methods)
    return Analysis(rows, pairs, methods, reference, calibration, left_out)


def _empty_rows(sets: Sets) -> pd.DataFrame:
    rows = sets.generated.rows
    reasons = [sets.ours.errors.get(str(path), "") for path in sets.generated.paths()]
    table = rows[["id", "method", "seed", "label", "image", "reference"]].reset_index(drop=True)
    table["method"] = table["method"].replace("", "generated")
    return table.assign(status=["failed" if r else "ok" for r in reasons], error=reasons)


def _pixel_columns(sets: Sets, settings: Settings) -> tuple[dict[str, Any], NDArray[np.int64]]:
    """Columns of the pixel detectors for the readable images, and flagged pairs of manifest rows.

    ``…_image`` columns hold rows of the training manifest.
    """
    ours, theirs = sets.ours, sets.theirs
    words = theirs.words[:, 0]
    hashed = _nearest_hashes(ours, theirs)
    # Blank pictures all resemble each other: they are reported as blank, not as copies.
    seen, shown = np.flatnonzero(~ours.blank), np.flatnonzero(~theirs.blank)
    near = phash.pairs_within(ours.words[seen, 0], words[shown], limit=LISTED)
    near[:, 0], near[:, 1] = seen[near[:, 0]], shown[near[:, 1]]
    counts = np.zeros(len(ours), np.int64)
    counts[seen] = phash.count_within(ours.words[seen, 0], words[shown])
    columns: dict[str, Any] = {
        "phash": hashed.distance,
        "phash_image": theirs.rows[hashed.position].astype(object),
        "phash_near": counts,
    }
    flagged = [near[:, :2]]
    if ours.words.shape[1] > 1:
        table = [_nearest_hashes(ours, theirs, v) for v in range(1, ours.words.shape[1])]
        distance = np.stack([one.distance for one in table])
        best = distance.argmin(axis=0)
        names = np.array([phash.SYMMETRIES[v] for v in phash.variants_of(settings.variants)[1:]])
        position = np.stack([one.position for one in table])[best, np.arange(len(ours))]
        columns["phash_variant"] = distance.min(axis=0)
        columns["phash_variant_name"] = names[best]
        near_variant = (columns["phash_variant"] <= PHASH_THRESHOLD) & ~ours.blank
        columns["phash_variant_near"] = near_variant.astype(np.int64)
        close = np.flatnonzero(near_variant)
        flagged.append(np.stack([close, position[close]], axis=1))
    if settings.search is not None:
        found = ssim_search.nearest(ours.grey, theirs.grey, settings.search)
        known = found.position >= 0
        listed = ~(ours.blank[found.above[:, 0]] | theirs.blank[found.above[:, 1]])
        image: NDArray[Any] = np.full(len(ours), None, dtype=object)
        image[known] = theirs.rows[found.position[known]]
        columns |= {
            "ssim": found.value,
            "ssim_image": image,
            "ssim_above": np.where(ours.blank, 0, found.counts),
        }
        flagged.append(found.above[listed])
    pairs = np.concatenate(flagged)
    return columns, np.stack([ours.rows[pairs[:, 0]], theirs.rows[pairs[:, 1]]], axis=1)


def _nearest_hashes(ours: Pictures, theirs: Pictures, variant: int = 0) -> phash.NearestHash:
    """The closest training image of each, which is blank for blank ones or where all are."""
    words, shown = theirs.words[:, 0], np.flatnonzero(~theirs.blank)
    found = phash.nearest(ours.words[:, variant], words)
    if len(shown) and len(shown) < len(words):
        seen = ~ours.blank
        near = phash.nearest(ours.words[seen, variant], words[shown])
        found.distance[seen], found.position[seen] = near.distance, shown[near.position]
    return found


def _flags(
    rows: pd.DataFrame,
    reference: NDArray[np.float64] | None,
    calibration: aligned.Calibration | None,
) -> list[str]:
    """Which detectors each image sets off, joined by commas."""
    marks = {SSIM: rows.get("ssim_above", 0) > 0, PHASH: rows["phash_near"] > 0}
    if "phash_variant" in rows:
        marks[VARIANT] = rows["phash_variant_near"] > 0
    if reference is not None:
        near = neighbours.nearer_than_real(rows["train_distance"].to_numpy(), reference)
        marks[FEATURES] = near & (rows["blank"] != True)  # noqa: E712
    if calibration is not None:
        marks[ALIGNED] = rows["copy_score"] > 1
        marks[POINTS] = rows["points"] > calibration.points_threshold
    table = pd.DataFrame(marks, index=rows.index)
    return [", ".join(name for name, on in line.items() if on) for _, line in table.iterrows()]


def _beyond_real(rows: pd.DataFrame, limits: dict[str, float]) -> pd.Series[bool]:
    """Whether an image resembles a training image more than real images do, by any pixels."""
    marks = [(rows["phash_near"] > 0) & (rows["phash"] <= limits[PHASH])]
    if "phash_variant" in rows:
        near = rows["phash_variant"] <= limits[VARIANT]
        marks.append((rows["phash_variant_near"] > 0) & near)
    if "ssim" in rows:
        marks.append((rows["ssim_above"] > 0) & (rows["ssim"] > limits[SSIM]))
    if "copy_score" in rows:
        marks.append(rows["copy_score"] > 1)
    return pd.concat(marks, axis=1).any(axis=1)


# -- figures of a method --------------------------------------------------------------------------


def _methods(
    rows: pd.DataFrame,
    features: Features | None,
    real: tuple[Manifest, Manifest | None],
    beside: tuple[NDArray[np.float64] | None, NDArray[np.int64] | None],
    usual: dict[str, Usual] | None,
) -> list[dict[str, Any]]:
    found = []
    for method, group in rows.groupby("method", sort=True):
        ok = group[group["status"] == "ok"]
        entry: dict[str, Any] = {
            "method": str(method),
            "n": len(ok),
            "n_failed": len(group) - len(ok),
            "blank": int(ok["blank"].astype(bool).sum()),
            "copies": int(ok["copy"].sum()),
        }
        entry |= _duplicate_figures(ok)
        if usual is not None and len(ok):
            entry["usual"] = beside_usual(ok, usual)
        if features is not None:
            figures = neighbour_figures(ok, features, real)
            if real[1] is not None and "nearer_than_real" in figures:
                patients = real[1].rows["patient"].to_numpy(dtype=str)
                units = patients[reference_rows(features, beside[1])]
                figures |= nearer_figures(ok, beside[0], units)
            entry["neighbours"] = figures
        entry["per_class"] = {
            str(label): {"n": len(part), **_duplicate_figures(part), **means(part)}
            for label, part in ok.groupby("label", sort=True)
            if label
        }
        found.append(entry)
    return found


def _usual(sets: Sets, unseen: NDArray[np.int64], settings: Settings) -> dict[str, Usual] | None:
    """What the pixel detectors say of ``unseen`` real test images, one a patient.

    None where there is none.
    """
    patients = sets.generated.rows["patient"].to_numpy(dtype=str)
    one = np.flatnonzero(np.isin(sets.ours.rows, one_each(unseen, patients)))
    if not len(one):
        return None
    columns, _ = _pixel_columns(sets, settings)
    found = {PHASH: ("phash_near", "phash")}
    if "phash_variant" in columns:
        found[VARIANT] = "phash_variant_near", "phash_variant"
    if "ssim_above" in columns:
        found[SSIM] = "ssim_above", "ssim"
    return {
        name: Usual(
            np.asarray(columns[count])[one] > 0, np.asarray(columns[value], dtype=float)[one]
        )
        for name, (count, value) in found.items()
    }


def _duplicate_figures(rows: pd.DataFrame) -> dict[str, Any]:
    """The columns of Table 17."""
    near = rows["phash_near"] > 0
    figures: dict[str, Any] = {"phash_near": int(near.sum()), "either": int(near.sum())}
    if len(rows):
        figures["min_phash"] = int(rows["phash"].min())
    if "ssim" in rows:
        above = rows["ssim_above"] > 0
        figures |= {
            "ssim_above": int(above.sum()),
            "either": int((near | above).sum()),
            "max_ssim": float(rows["ssim"].max()),
        }
    if "phash_variant" in rows:
        figures["phash_variant_near"] = int((rows["phash_variant_near"] > 0).sum())
    return figures
