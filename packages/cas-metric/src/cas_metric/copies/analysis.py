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
    cases_of,
    correct,
    nearer_figures,
    one_each,
    thresholds,
    units_of,
)
from cas_metric.copies.evidence import aligned_columns, aligned_figures, related
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
from cas_metric.statistics.intervals import mean_interval

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
        pairs: Most suspicious first: all flagged pairs, then the nearest ones.
        methods: Figures of each method; see :func:`analyse`.
        reference: ``(L,)`` distance of each real test image to its nearest training image.
        calibration: What real images give when aligned with training images; None where the
            pictures carry no local features.
    """

    rows: pd.DataFrame
    pairs: pd.DataFrame
    methods: list[dict[str, Any]]
    reference: NDArray[np.float64] | None
    calibration: aligned.Calibration | None = None


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
    reference = None
    if features is not None:
        columns, reference = _feature_columns(features, settings)
        rows = rows.assign(**columns)
    calibration = None
    if sets.ours.keypoints is not None and sets.theirs.keypoints is not None:
        columns, calibration = aligned_columns(sets, (test, test_pictures), progress)
        for column, values in columns.items():
            rows[column] = pd.Series(values, index=where)
    rows["blank"] = pd.Series(sets.ours.blank, index=where)
    rows["flags"] = _flags(rows, reference, calibration)
    usual = None
    if test is not None and test_pictures is not None and len(test_pictures):
        usual = _usual(Sets(test, train, test_pictures, pictures[1]), settings)
    rows["copy"] = _beyond_real(rows, thresholds(usual))
    detected = Detected(rows, above, reference, calibration)
    pairs = suspicious_pairs(sets, detected, features)
    names = train.rows["image"].to_numpy(dtype=str)
    for column in ("ssim_image", "phash_image", "train_image", "copy_image", "points_image"):
        if column in rows:
            known = rows[column].notna()
            rows.loc[known, column] = names[rows.loc[known, column].astype(int)]
    if test is not None and "test_image" in rows:
        known = rows["test_image"].notna()
        tests = test.rows["image"].to_numpy(dtype=str)
        rows.loc[known, "test_image"] = tests[rows.loc[known, "test_image"].astype(int)]
    methods = _methods(rows, features, (train, test), reference, usual)
    if calibration is not None:
        aligned_figures(methods, rows, calibration)
    correct(methods)
    return Analysis(rows, pairs, methods, reference, calibration)


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
    hashed = phash.nearest(ours.words[:, 0], words)
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
        table = [phash.nearest(ours.words[:, v], words) for v in range(1, ours.words.shape[1])]
        distance = np.stack([one.distance for one in table])
        best = distance.argmin(axis=0)
        names = np.array([phash.SYMMETRIES[v] for v in phash.variants_of(settings.variants)[1:]])
        position = np.stack([one.position for one in table])[best, np.arange(len(ours))]
        columns["phash_variant"] = distance.min(axis=0)
        columns["phash_variant_name"] = names[best]
        close = np.flatnonzero((columns["phash_variant"] <= PHASH_THRESHOLD) & ~ours.blank)
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


def _feature_columns(
    features: Features, settings: Settings
) -> tuple[dict[str, Any], NDArray[np.float64] | None]:
    """Columns of the feature space for all rows, and the distances of real test images."""
    columns: dict[str, Any] = {}
    reference = None
    queries = _usable(features.generated)
    for name, real in (("train", features.train), ("test", features.test)):
        if real is None:
            continue
        kept = np.flatnonzero(_usable(real))
        if not len(kept):
            raise InputError(f"no embedding of a {name} image could be made")
        distance = np.full(len(queries), np.nan)
        image: NDArray[Any] = np.full(len(queries), None, dtype=object)
        found = neighbours.nearest(features.generated[queries], real[kept], faiss=settings.faiss)
        distance[queries] = found.distance[:, 0]
        image[queries] = kept[found.position[:, 0]]
        columns |= {f"{name}_distance": distance, f"{name}_image": image}
    if features.test is not None:
        near = neighbours.nearest(_finite(features.test), _finite(features.train))
        reference = near.distance[:, 0]
        below = np.searchsorted(np.sort(reference), columns["train_distance"], side="right")
        # NaN sorts last; such rows get no share.
        columns["real_share_nearer"] = np.where(queries, below / len(reference), np.nan)
    return columns, reference


def _flags(
    rows: pd.DataFrame,
    reference: NDArray[np.float64] | None,
    calibration: aligned.Calibration | None,
) -> list[str]:
    """Which detectors each image sets off, joined by commas."""
    marks = {SSIM: rows.get("ssim_above", 0) > 0, PHASH: rows["phash_near"] > 0}
    if "phash_variant" in rows:
        marks[VARIANT] = (rows["phash_variant"] <= PHASH_THRESHOLD) & (rows["blank"] != True)  # noqa: E712
    if reference is not None:
        marks[FEATURES] = neighbours.nearer_than_real(rows["train_distance"].to_numpy(), reference)
    if calibration is not None:
        marks[ALIGNED] = rows["copy_score"] > 1
        marks[POINTS] = rows["points"] > calibration.points_threshold
    table = pd.DataFrame(marks, index=rows.index)
    return [", ".join(name for name, on in line.items() if on) for _, line in table.iterrows()]


def _beyond_real(rows: pd.DataFrame, limits: dict[str, float]) -> pd.Series[bool]:
    """Whether an image resembles a training image more than real images do, by any pixels."""
    marks = [(rows["phash_near"] > 0) & (rows["phash"] <= limits[PHASH])]
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
    reference: NDArray[np.float64] | None,
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
            figures = _neighbour_figures(ok, features, real)
            if reference is not None and real[1] is not None and "nearer_than_real" in figures:
                figures |= nearer_figures(ok, features, real[1], reference)
            entry["neighbours"] = figures
        entry["per_class"] = {
            str(label): {"n": len(part), **_duplicate_figures(part), **_means(part)}
            for label, part in ok.groupby("label", sort=True)
            if label
        }
        found.append(entry)
    return found


def _usual(sets: Sets, settings: Settings) -> dict[str, Usual] | None:
    """What the pixel detectors say of real test images, one a patient, against training.

    Blank ones are left out, and those whose patient or pixels are in training: they would teach
    that copies are usual. None where none is left.
    """
    patients = [one.rows["patient"].to_numpy(dtype=str) for one in (sets.generated, sets.train)]
    known = related(patients[0], sets.ours, patients[1], sets.theirs)
    fresh = ~sets.ours.blank & np.array([not known(row) for row in sets.ours.rows.tolist()])
    one = np.flatnonzero(np.isin(sets.ours.rows, one_each(sets.ours.rows[fresh], patients[0])))
    if not len(one):
        return None
    columns, _ = _pixel_columns(sets, settings)
    found = {PHASH: ("phash_near", "phash")}
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
        figures["phash_variant_near"] = int((rows["phash_variant"] <= PHASH_THRESHOLD).sum())
    return figures


def _means(rows: pd.DataFrame) -> dict[str, Any]:
    """Mean distances and their difference over the images of a class."""
    figures: dict[str, Any] = {
        name: float(rows[f"{name}_distance"].mean())
        for name in ("train", "test")
        if f"{name}_distance" in rows
    }
    if "test" in figures:
        gaps = rows["train_distance"] - rows["test_distance"]
        figures["difference"] = mean_interval(gaps, clusters=cases_of(rows))._asdict()
    return figures


def _neighbour_figures(
    rows: pd.DataFrame, features: Features, real: tuple[Manifest, Manifest | None]
) -> dict[str, Any]:
    """The columns of Table 18, size-matched ones and the permutation test."""
    figures = _means(rows)
    if features.test is None or real[1] is None:
        return figures
    queries = features.generated[rows.index]
    usable = _usable(queries)
    if not usable.any():
        return figures
    sets = [_usable(values) for values in (features.train, features.test)]
    labels = {
        column: np.concatenate(
            [m.rows[column].to_numpy(dtype=str)[k] for m, k in zip(real, sets, strict=True) if m]
        )
        for column in ("label", "patient")
    }
    compared = neighbours.compare(
        queries[usable],
        features.train[sets[0]],
        features.test[sets[1]],
        clusters=cases_of(rows[usable]),
        strata=labels["label"].tolist(),
        units=units_of(labels["patient"]),
    )
    figures |= {
        "difference": compared.difference._asdict(),
        "matched_size": compared.matched_size,
        "matched_difference": compared.matched_difference._asdict(),
        "p_nearer_to_train": compared.p,
        "nearer_than_real": int(rows["flags"].str.contains(FEATURES).sum()),
    }
    return figures


def _usable(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which rows hold an embedding."""
    return np.asarray(np.isfinite(values).all(axis=1))


def _finite(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return values[_usable(values)]
