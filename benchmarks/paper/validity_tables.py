"""Dose-response, AUROC, rankings and set-level distances of planted failures."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from benchmarks.paper.planted_failures import DOSES, FAILURES, FAITHFUL, GRADED
from scipy import stats

from cas_metric.protocol import BOOTSTRAP_SEED, CONFIDENCE, RESAMPLES
from cas_metric.sets.fidelity import frechet_distance
from cas_metric.sets.kernels import kernel_distance
from cas_metric.statistics.intervals import mean_interval
from cas_metric.statistics.uncertainty import (
    Interval,
    percentile_interval,
    resampling_counts,
)

#: Scores of one image, all of them higher for better ones, with their names in tables.
SCORES = {
    "cas": "CAS",
    "vdc": "VDC",
    "ccs": "CCS",
    "dd": "DD",
    "dd_prob": "p(label)",
    "sfs": "SFS",
    "label_cosine": "CLIPScore (label)",
    "ssim": "SSIM",
    "lpips_similarity": "LPIPS",
    "real_similarity": "nearest real",
}


def paired(rows: pd.DataFrame, failure: str, dose: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Faithful and failing images of the cases in which the failure changed the picture.

    A class without a sign has none to miss, and there the picture stays as it was. Both tables
    have one row a case, in one order.
    """
    good = rows[rows["failure"] == FAITHFUL].set_index("case").sort_index()
    chosen = (rows["failure"] == failure) & (rows["dose"] == dose)
    bad = rows[chosen].set_index("case").sort_index()
    changed = bad.index[good.loc[bad.index, "digest"].to_numpy() != bad["digest"].to_numpy()]
    return good.loc[changed], bad.loc[changed]


def dose_response(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean change of each score against the faithful image of the case, with its interval.

    Failures that cannot be graded have one dose: all of the images fail.
    """
    table = []
    for failure in FAILURES:
        for dose in DOSES if failure in GRADED else (1.0,):
            good, bad = paired(rows, failure, dose)
            for score in _present(rows):
                gap = bad[score].to_numpy(float) - good[score].to_numpy(float)
                entry = mean_interval(gap)._asdict()
                table.append(
                    {"failure": failure, "dose": dose, "score": score, "n": len(gap), **entry}
                )
    return pd.DataFrame(table)


def detection(rows: pd.DataFrame) -> pd.DataFrame:
    """AUROC of telling failing images at full dose from faithful ones, cases resampled."""
    table = []
    for failure in FAILURES:
        good, bad = paired(rows, failure, 1.0)
        for score in _present(rows):
            found = auroc(good[score].to_numpy(float), bad[score].to_numpy(float))
            entry = found._asdict()
            table.append({"failure": failure, "score": score, "n": len(good), **entry})
    return pd.DataFrame(table)


def auroc(
    good: np.ndarray, bad: np.ndarray, *, resamples: int = RESAMPLES, seed: int = BOOTSTRAP_SEED
) -> Interval:
    """How often a failing image scores below a faithful one, a tie counting one half.

    Args:
        good: ``(N,)`` scores of faithful images.
        bad: ``(N,)`` of failing ones of the same cases, which are resampled with them.
        resamples: Number of resamples.
        seed: Seed of the resamples.
    """
    below = (bad[None] < good[:, None]) + 0.5 * (bad[None] == good[:, None])
    replicates = [
        ((counts @ below) * counts).sum(axis=1) / counts.sum(axis=1) ** 2
        for counts in resampling_counts(len(good), resamples, seed)
    ]
    return percentile_interval(float(below.mean()), np.concatenate(replicates), CONFIDENCE)


def rankings(by_encoder: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Kendall's and Spearman's correlation of the sets' mean CAS between two encoders."""
    means = {
        name: rows.groupby(["failure", "dose"])["cas"].mean() for name, rows in by_encoder.items()
    }
    return pd.DataFrame(
        [
            {
                "left": left,
                "right": right,
                "sets": len(means[left]),
                "kendall": stats.kendalltau(means[left], means[right]).statistic,
                "spearman": stats.spearmanr(means[left], means[right]).statistic,
            }
            for left, right in combinations(means, 2)
        ]
    )


def set_distances(
    rows: pd.DataFrame, found: dict[str, tuple[list[str], np.ndarray]]
) -> pd.DataFrame:
    """Mean CAS, Fréchet and kernel distance of every set at every dose.

    The dose of a failure that cannot be graded is the share of the images that fail. Distances
    are to the real training images; the row ``real`` holds those of the real test images.
    """
    images, values = found["planted"]
    place = {image: row for row, image in enumerate(images)}
    real = found["train"][1]
    good = rows[rows["failure"] == FAITHFUL].set_index("case").sort_index()
    table = [
        {"failure": "real", "dose": 0.0, "cas": np.nan, **_distances(found["test"][1], real)},
        {"failure": FAITHFUL, "dose": 0.0, **_set(good, place, values, real)},
    ]
    for failure in FAILURES:
        for dose in DOSES:
            drawn = dose if failure in GRADED else 1.0
            chosen = (rows["failure"] == failure) & (rows["dose"] == drawn)
            mixed = rows[chosen].set_index("case").sort_index()
            if failure not in GRADED:
                order = np.random.default_rng(BOOTSTRAP_SEED).permutation(len(mixed))
                kept = mixed.index[order[round(dose * len(mixed)) :]]
                mixed = pd.concat([mixed.drop(kept), good.loc[kept]])
            table.append({"failure": failure, "dose": dose, **_set(mixed, place, values, real)})
    return pd.DataFrame(table)


def _set(
    rows: pd.DataFrame, place: dict[str, int], values: np.ndarray, real: np.ndarray
) -> dict[str, Any]:
    own = values[[place[image] for image in rows["image"]]]
    return {"cas": rows["cas"].mean(), **_distances(own, real)}


def _distances(own: np.ndarray, real: np.ndarray) -> dict[str, float]:
    kernel = kernel_distance(own, real)
    return {
        "frechet": frechet_distance(own, real),
        "kernel": kernel.mean,
        "kernel_std": kernel.std,
    }


def _present(rows: pd.DataFrame) -> list[str]:
    return [score for score in SCORES if score in rows]
