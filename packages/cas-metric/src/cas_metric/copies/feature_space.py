"""The columns and figures of the feature space, for the rows of an analysis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cas_metric.copies import neighbours
from cas_metric.copies.chance import cases_of, units_of
from cas_metric.copies.suspects import FEATURES, Features
from cas_metric.errors import InputError
from cas_metric.statistics.intervals import mean_interval

if TYPE_CHECKING:
    from cas_metric.manifest import Manifest


def feature_columns(
    features: Features, unseen: NDArray[np.int64] | None, *, faiss: bool = False
) -> tuple[dict[str, Any], NDArray[np.float64] | None]:
    """Columns of the feature space for all rows, and the distances of real test images.

    Args:
        features: Embeddings of all sets.
        unseen: Rows of the test set that are not related to training images and not blank; None
            takes all.
        faiss: Whether FAISS searches.

    Returns:
        The columns; and the distances of those images to training, None without any.

    Raises:
        InputError: No image of one of the real sets could be embedded.
    """
    columns: dict[str, Any] = {}
    reference = None
    queries = usable(features.generated)
    for name, real in (("train", features.train), ("test", features.test)):
        if real is None:
            continue
        kept = np.flatnonzero(usable(real))
        if not len(kept):
            raise InputError(f"no embedding of a {name} image could be made")
        distance = np.full(len(queries), np.nan)
        image: NDArray[Any] = np.full(len(queries), None, dtype=object)
        found = neighbours.nearest(features.generated[queries], real[kept], faiss=faiss)
        distance[queries] = found.distance[:, 0]
        image[queries] = kept[found.position[:, 0]]
        columns |= {f"{name}_distance": distance, f"{name}_image": image}
    known = reference_rows(features, unseen)
    if features.test is not None and len(known):
        train = features.train[usable(features.train)]
        near = neighbours.nearest(features.test[known], train)
        reference = near.distance[:, 0]
        below = np.searchsorted(np.sort(reference), columns["train_distance"], side="right")
        # NaN sorts last; such rows get no share.
        columns["real_share_nearer"] = np.where(queries, below / len(reference), np.nan)
    return columns, reference


def reference_rows(features: Features, unseen: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Rows of the test set whose distances to training tell what is usual."""
    if features.test is None:
        return np.empty(0, np.int64)
    known = np.flatnonzero(usable(features.test))
    return known if unseen is None else known[np.isin(known, unseen)]


def means(rows: pd.DataFrame) -> dict[str, Any]:
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


def neighbour_figures(
    rows: pd.DataFrame, features: Features, real: tuple[Manifest, Manifest | None]
) -> dict[str, Any]:
    """The columns of Table 18, size-matched ones and the permutation test."""
    figures = means(rows)
    if features.test is None or real[1] is None:
        return figures
    queries = features.generated[rows.index]
    known = usable(queries)
    if not known.any():
        return figures
    sets = [usable(values) for values in (features.train, features.test)]
    labels = {
        column: np.concatenate(
            [m.rows[column].to_numpy(dtype=str)[k] for m, k in zip(real, sets, strict=True) if m]
        )
        for column in ("label", "patient")
    }
    compared = neighbours.compare(
        queries[known],
        features.train[sets[0]],
        features.test[sets[1]],
        clusters=cases_of(rows[known]),
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


def usable(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which rows hold an embedding."""
    return np.asarray(np.isfinite(values).all(axis=1))
