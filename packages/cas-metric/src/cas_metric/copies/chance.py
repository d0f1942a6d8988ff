"""What chance gives: hits of real images, and p-values corrected over detectors and methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cas_metric.copies import aligned, neighbours
from cas_metric.copies.suspects import ALIGNED, FEATURES, PHASH, POINTS, SSIM, VARIANT
from cas_metric.protocol import PHASH_THRESHOLD, SSIM_THRESHOLD
from cas_metric.statistics.comparison import holm

#: A copy passes real images by so many times the way from their median to their 95th percentile,
#: on the scale of Fisher's z.
MARGIN: Final = 2.5
PHASH_BITS: Final = 64
_ONE: Final = 1 - 1e-9


class Usual(NamedTuple):
    """What a pixel detector says of real test images, one a patient.

    Attributes:
        hits: ``(L,)`` whether a training image is beyond the paper's threshold.
        nearest: ``(L,)`` SSIM or Hamming distance of the nearest training image.
    """

    hits: NDArray[np.bool_]
    nearest: NDArray[np.float64]


def thresholds(usual: Mapping[str, Usual] | None) -> dict[str, float]:
    """What a copy goes beyond by SSIM and by pHash: what real images do, and the paper's limit.

    The paper's alone where there are no real test images, or too few.
    """
    found = {SSIM: SSIM_THRESHOLD, **dict.fromkeys((PHASH, VARIANT), float(PHASH_THRESHOLD))}
    for name, one in (usual or {}).items():
        known = one.nearest[np.isfinite(one.nearest)]
        if len(known) < aligned.FEWEST:
            continue
        if name == SSIM:
            found[SSIM] = max(found[SSIM], _beyond(known))
        else:
            limit = PHASH_BITS / 2 * (1 - _beyond(1 - 2 * known / PHASH_BITS))
            found[name] = min(found[name], limit)
    return found


def _beyond(similarity: NDArray[np.float64]) -> float:
    """A similarity beyond that of real images, on Fisher's z, where 1 is out of reach.

    Bits of a hash that agree are a similarity, too: the correlation 1 - 2 d / bits.
    """
    z = np.arctanh(np.clip(similarity, -_ONE, _ONE))
    middle, high = np.quantile(z, [0.5, 0.95])
    return float(np.tanh(middle + MARGIN * (high - middle)))


def beside_usual(rows: pd.DataFrame, usual: Mapping[str, Usual]) -> dict[str, dict[str, Any]]:
    """Hits of each pixel detector beside those of real test images, one image a case."""
    first = ~pd.Series(cases_of(rows), index=rows.index).duplicated()
    columns = {PHASH: "phash_near", SSIM: "ssim_above", VARIANT: "phash_variant_near"}
    limits = thresholds(usual)
    return {
        name: {
            "hits": int((rows[columns[name]] > 0).sum()),
            "real_hits": int(one.hits.sum()),
            "real_images": len(one.hits),
            "expected": float(one.hits.mean() * len(rows)),
            "threshold": limits[name],
            "p": neighbours.excess_p((rows[columns[name]][first] > 0).to_numpy(), one.hits),
        }
        for name, one in usual.items()
    }


def nearer_figures(
    rows: pd.DataFrame, reference: NDArray[np.float64] | None, patients: NDArray[np.str_]
) -> dict[str, Any]:
    """Images nearer than every real test image: how many by chance, and how unlikely.

    NaN without a ``reference`` of test images, of the ``patients``.
    """
    if reference is None:
        return dict.fromkeys(("nearer_expected", "p_nearer_than_real"), float("nan"))
    known = rows["train_distance"].notna() & (rows["blank"] != True)  # noqa: E712
    distance = rows.loc[known, "train_distance"].to_numpy(dtype=float)
    return {
        "nearer_expected": len(distance) / (len(reference) + 1),
        "p_nearer_than_real": neighbours.nearer_p(
            distance, reference, clusters=cases_of(rows[known]), units=units_of(patients)
        ),
    }


def correct(found: list[dict[str, Any]]) -> None:
    """Holm's correction: of the set's distances over methods, of copies over detectors too."""
    near = [one["neighbours"] for one in found if "neighbours" in one]
    _holm([(entry, "p_nearer_to_train") for entry in near if "p_nearer_to_train" in entry])
    _holm([(entry, key) for one in found for entry, key in detectors_of(one).values()])


def detectors_of(one: Mapping[str, Any]) -> dict[str, tuple[dict[str, Any], str]]:
    """Figures of each detector that real images calibrate, and the key of its p-value there."""
    found = {name: (entry, "p") for name, entry in one.get("usual", {}).items()}
    if "p_nearer_than_real" in one.get("neighbours", {}):
        found[FEATURES] = (one["neighbours"], "p_nearer_than_real")
    if "aligned" in one:
        found[ALIGNED] = (one["aligned"], "p")
    if "points" in one:
        found[POINTS] = (one["points"], "p")
    return found


def _holm(family: list[tuple[dict[str, Any], str]]) -> None:
    known = [(entry, key) for entry, key in family if np.isfinite(entry[key])]
    for entry, key in family:
        entry[f"{key}_adjusted"] = float("nan")
    for (entry, key), p in zip(known, holm([entry[key] for entry, key in known]), strict=True):
        entry[f"{key}_adjusted"] = float(p)


def cases_of(rows: pd.DataFrame) -> list[str]:
    """What is resampled together: images made for one reference."""
    names = zip(rows["reference"], rows.index, strict=True)
    return [str(reference) or f"row {index}" for reference, index in names]


def one_each(rows: NDArray[np.int64], patients: NDArray[np.str_]) -> NDArray[np.int64]:
    """The first of ``rows`` of each patient, in their order; ``patients`` are those of all rows."""
    _, first = np.unique(units_of(patients[rows]), return_index=True)
    return rows[np.sort(first)]


def units_of(patients: Sequence[str] | NDArray[Any]) -> list[str]:
    """Patients where they are known, else the images themselves."""
    return [patient or f"image {number}" for number, patient in enumerate(patients)]
