"""The low tail with a guarantee: how many images lie below all but a share of real ones.

At level alpha an image is *low* when its ``alignment`` is at most alpha. Of real images that the
calibration has not seen a share of alpha is low, in expectation exactly, whatever the encoder; what
a generated set has above that is its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cas_metric.protocol import CONFIDENCE
from cas_metric.statistics.aggregate import case_clusters, real_clusters
from cas_metric.statistics.intervals import rate_interval
from cas_metric.statistics.tail import tail_statistics

#: What a row has no value of where nothing can be compared.
_FIGURES = ("share_low", "low", "high", "real_n", "real_share_low", "real_low", "real_high")
#: Levels of the curve.
LEVELS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)


def tail_table(
    rows: pd.DataFrame,
    real: pd.DataFrame,
    held_out: NDArray[np.float64],
    levels: Sequence[float] = LEVELS,
) -> pd.DataFrame:
    """The low share of each method and class, as a curve over alpha.

    Args:
        rows: ``method, label, alignment``, and what images belong together by.
        real: The same of the calibration images, each ranked among the others.
        held_out: ``(M,)`` alignment of the same images, each ranked among ones of another half.
        levels: Values of alpha.

    Returns:
        One row a method, class (empty: all) and level: ``method, label, alpha``, ``n`` images,
        ``n_low``, ``share_low`` with ``low`` and ``high``, which carry the error of the
        calibration set too; and ``real_n``, ``real_share_low``, ``real_low``, ``real_high``: the
        held-out real images with Clopper and Pearson's interval, or where several are of one
        patient with Wilson's at the effective size.
    """
    real = real.assign(held_out=held_out)
    table = []
    for method, own in rows.groupby("method", sort=True):
        groups = [("", own), *((str(name), part) for name, part in own.groupby("label", sort=True))]
        for label, part in groups:
            theirs = real if not label else real[real["label"] == label]
            table += [
                {"method": method, "label": label, **_row(part, theirs, level)} for level in levels
            ]
    return pd.DataFrame(table)


def _row(own: pd.DataFrame, real: pd.DataFrame, level: float) -> dict[str, Any]:
    values, known = (one["alignment"].dropna().to_numpy() for one in (own, real))
    if not len(values) or not len(known):
        return {**dict.fromkeys(_FIGURES, np.nan), "alpha": level, "n": len(values), "n_low": 0}
    rate = tail_statistics(
        own["alignment"],
        real["alignment"],
        clusters=case_clusters(own),
        real_clusters=real_clusters(real),
        quantile=level,
    ).rate
    held = real.dropna(subset="held_out")
    share, low, high = _share_of_real(held["held_out"].to_numpy() <= level, real_clusters(held))
    return {
        "alpha": level,
        "n": len(values),
        "n_low": int((values <= level).sum()),
        "share_low": float((values <= level).mean()),
        "low": rate.low,
        "high": rate.high,
        "real_n": len(held),
        "real_share_low": share,
        "real_low": low,
        "real_high": high,
    }


def _share_of_real(
    flagged: NDArray[np.bool_], clusters: NDArray[Any] | None
) -> tuple[float, float, float]:
    """The share that is flagged, with its interval: exact where no images belong together."""
    if not len(flagged):
        return (np.nan,) * 3
    if clusters is not None and len(set(clusters)) < len(clusters):
        found = rate_interval(flagged.astype(np.float64), clusters=clusters)
        return found.estimate, found.low, found.high
    return (float(flagged.mean()), *exact_interval(int(flagged.sum()), len(flagged)))


def exact_interval(hits: int, size: int, level: float = CONFIDENCE) -> tuple[float, float]:
    """Clopper and Pearson's interval of a share.

    Examples:
        >>> [round(end, 4) for end in exact_interval(0, 10)]
        [0.0, 0.3085]
    """
    from scipy.stats import binomtest

    found = binomtest(hits, size).proportion_ci(level, method="exact")
    return float(found.low), float(found.high)
