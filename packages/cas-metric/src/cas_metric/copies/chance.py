"""What chance gives: hits of real test images, and p-values corrected over methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cas_metric.copies import neighbours
from cas_metric.copies.suspects import PHASH, SSIM, Features
from cas_metric.statistics.comparison import holm

if TYPE_CHECKING:
    from cas_metric.manifest import Manifest


def beside_usual(
    rows: pd.DataFrame, usual: dict[str, NDArray[np.bool_]]
) -> dict[str, dict[str, Any]]:
    """Hits of each pixel detector beside those of real test images, one image a case."""
    first = ~pd.Series(cases_of(rows), index=rows.index).duplicated()
    columns = {PHASH: "phash_near", SSIM: "ssim_above"}
    return {
        name: {
            "hits": int((rows[columns[name]] > 0).sum()),
            "real_hits": int(hits.sum()),
            "real_images": len(hits),
            "expected": float(hits.mean() * len(rows)),
            "p": neighbours.excess_p((rows[columns[name]][first] > 0).to_numpy(), hits),
        }
        for name, hits in usual.items()
    }


def nearer_figures(
    rows: pd.DataFrame, features: Features, test: Manifest, reference: NDArray[np.float64]
) -> dict[str, Any]:
    """Images nearer than every real test image: how many, how many by chance, and how unlikely."""
    known, unseen = rows["train_distance"].notna(), features.test
    usable = np.isfinite(unseen).all(axis=1) if unseen is not None else slice(None)
    distance = rows.loc[known, "train_distance"].to_numpy(dtype=float)
    patients = test.rows["patient"].to_numpy(dtype=str)[usable]
    return {
        "nearer_expected": len(distance) / (len(reference) + 1),
        "p_nearer_than_real": neighbours.nearer_p(
            distance, reference, clusters=cases_of(rows[known]), units=units_of(patients)
        ),
    }


def correct(found: list[dict[str, Any]]) -> None:
    """Holm's correction over the methods, of every kind of p-value."""
    blocks: list[tuple[str, list[dict[str, Any]]]] = [
        (key, [one["neighbours"] for one in found if key in one.get("neighbours", {})])
        for key in ("p_nearer_to_train", "p_nearer_than_real")
    ]
    blocks += [
        ("p", [one["usual"][name] for one in found if name in one.get("usual", {})])
        for name in (PHASH, SSIM)
    ]
    for key, entries in blocks:
        known = [entry for entry in entries if np.isfinite(entry[key])]
        for entry in entries:
            entry[f"{key}_adjusted"] = float("nan")
        for entry, p in zip(known, holm([entry[key] for entry in known]), strict=True):
            entry[f"{key}_adjusted"] = float(p)


def cases_of(rows: pd.DataFrame) -> list[str]:
    """What is resampled together: images made for one reference."""
    names = zip(rows["reference"], rows.index, strict=True)
    return [str(reference) or f"row {index}" for reference, index in names]


def units_of(patients: Sequence[str] | NDArray[Any]) -> list[str]:
    """Patients where they are known, else the images themselves."""
    return [patient or f"image {number}" for number, patient in enumerate(patients)]
