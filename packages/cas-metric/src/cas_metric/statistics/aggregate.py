"""From the rows of one method to the aggregates of ``summary.json``.

The headline number is the micro average: the unweighted mean over images (§4.1.4). Beside it stands
the class-balanced one, the mean of the class means, which a method cannot raise by doing well on
the frequent classes alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cas_metric.protocol import BOOTSTRAP_SEED, CONFIDENCE, PRIMITIVES, RESAMPLES
from cas_metric.statistics.uncertainty import Floats, bootstrap_means, percentile_interval

if TYPE_CHECKING:
    import pandas as pd

#: Quantities of a row that are averaged, in table order.
QUANTITIES = (*PRIMITIVES, "dd_prob", "cas")


def case_clusters(rows: pd.DataFrame) -> np.ndarray:
    """What is resampled together: the patient, else the reference image, else the row.

    A column is taken only when it is filled in every row, so that the unit is one throughout.

    Returns:
        ``(N,)`` labels.
    """
    for column in ("patient", "reference", "id"):
        if column in rows and len(rows):
            labels = rows[column].fillna("").astype(str)
            if (labels != "").all():
                return labels.to_numpy()
    return np.arange(len(rows)).astype(str)


def real_clusters(rows: pd.DataFrame) -> np.ndarray:
    """The same labels for real images: the patient, else the image itself.

    A generated image names its case by the real image it refers to, so the two tables share labels
    and a resampled case brings both along.
    """
    return case_clusters(rows.assign(reference=rows["image"]) if "image" in rows else rows)


def graded_cas(rows: pd.DataFrame) -> np.ndarray:
    """CAS with the probability of the label in place of its 0/1 diagnosis, ``(N,)``."""
    return rows[["vdc", "ccs", "dd_prob", "sfs"]].to_numpy(dtype=np.float64).mean(axis=1)


def scored(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows whose image was scored, wholly or in part."""
    return rows[rows["status"] != "failed"] if "status" in rows else rows


def summarise(
    rows: pd.DataFrame,
    *,
    resamples: int = RESAMPLES,
    level: float = CONFIDENCE,
    seed: int = BOOTSTRAP_SEED,
) -> dict[str, Any]:
    """Means, class-balanced means, intervals and per-class means of one method's rows.

    Args:
        rows: Rows of one method: ``label``, ``status``, the primitives, ``dd_prob`` and ``cas``.
            Failed rows are counted and left out; a NaN is left out of its own column.
        resamples: Number of bootstrap resamples, of patients, references or rows, in that order of
            preference.
        level: Nominal coverage of the intervals.
        seed: Seed of the draw.

    Returns:
        ``n`` (images scored), ``n_failed``, and ``mean``, ``interval``, ``class_balanced``,
        ``class_balanced_interval`` (quantity to number or ``[low, high]``), ``per_class`` (label to
        ``n`` and means). A quantity without any value is NaN.
    """
    kept = scored(rows)
    names = [name for name in QUANTITIES if name in kept]
    values = kept[names].to_numpy(dtype=np.float64).reshape(len(kept), len(names))
    labels = kept["label"].astype(str).to_numpy()
    micro = _column_means(values)
    balanced, per_class = _class_means(values, labels)
    options: dict[str, Any] = {
        "clusters": case_clusters(kept),
        "resamples": resamples if len(kept) else 0,
        "seed": seed,
    }
    replicates = bootstrap_means(values, **options)
    balanced_replicates = _balanced_replicates(values, labels, options)
    return {
        "n": len(kept),
        "n_failed": len(rows) - len(kept),
        "mean": dict(zip(names, micro.tolist(), strict=True)),
        "interval": _intervals(names, micro, replicates, level),
        "class_balanced": dict(zip(names, balanced.tolist(), strict=True)),
        "class_balanced_interval": _intervals(names, balanced, balanced_replicates, level),
        "per_class": {
            label: {"n": n, **dict(zip(names, means.tolist(), strict=True))}
            for label, (n, means) in per_class.items()
        },
    }


def _column_means(values: Floats) -> Floats:
    present = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(present, values, 0.0).sum(axis=0) / present.sum(axis=0)


def _class_means(
    values: Floats, labels: np.ndarray
) -> tuple[Floats, dict[str, tuple[int, Floats]]]:
    per_class = {
        str(label): (int((labels == label).sum()), _column_means(values[labels == label]))
        for label in np.unique(labels)
    }
    if not per_class:
        return np.full(values.shape[1], np.nan), {}
    return _column_means(np.stack([means for _, means in per_class.values()])), per_class


def _balanced_replicates(values: Floats, labels: np.ndarray, options: dict[str, Any]) -> Floats:
    """Replicates of the mean of class means: every class a column block under one resampling."""
    classes = np.unique(labels)
    if not len(classes):
        return np.empty((0, values.shape[1]))
    split = np.where((labels[:, None] == classes)[:, :, None], values[:, None, :], np.nan)
    replicates = bootstrap_means(split.reshape(len(values), -1), **options)
    by_class = replicates.reshape(len(replicates), len(classes), values.shape[1])
    present = np.isfinite(by_class)
    with np.errstate(invalid="ignore"):
        return np.where(present, by_class, 0.0).sum(axis=1) / present.sum(axis=1)


def _intervals(
    names: list[str], estimates: Floats, replicates: Floats, level: float
) -> dict[str, list[float]]:
    intervals = {}
    for column, name in enumerate(names):
        interval = percentile_interval(float(estimates[column]), replicates[:, column], level)
        intervals[name] = [interval.low, interval.high]
    return intervals
