"""Is the real reference one population?

A distance to a reference out of two sites mixes what separates the sites with what separates
generated from real images. Two things are looked at: groups that the data declare, such as a
``site`` column, and groups that only show, as two humps along a leading principal axis.

Source: Silverman (1981), the test of the number of modes by a critical bandwidth.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cas_metric.protocol import BOOTSTRAP_SEED
from cas_metric.sets.fidelity import Floats
from cas_metric.statistics.uncertainty import cluster_codes

#: Leading axes that are looked at, and the level of a flag over all of them.
AXES: Final = 5
LEVEL: Final = 0.01
#: Smallest share in a hump that counts, and patients (or images) that the test needs.
SMALLEST_SHARE: Final = 0.1
FEWEST: Final = 50
#: Spread along an axis, over that along the first, that is nothing.
_ROUNDING: Final = 1e-9
_RESAMPLES: Final = 999
_GRID: Final = 512
_STEPS: Final = 25
#: Resamples at once.
_BLOCK: Final = 100


class TwoGroups(NamedTuple):
    """Two humps along a principal axis of the real images.

    Attributes:
        axis: Number of the axis, from 1.
        p: Probability of two such humps in a sample from one, corrected for the number of axes.
        share: Share of patients in the smaller hump, or of images where none are known.
        members: ``(M,)`` whether each image lies in the smaller one.
    """

    axis: int
    p: float
    share: float
    members: NDArray[np.bool_]


def two_groups(
    real: Floats,
    labels: NDArray[np.str_] | None = None,
    clusters: NDArray[Any] | None = None,
    *,
    seed: int = BOOTSTRAP_SEED,
) -> TwoGroups | None:
    """The clearest two groups within the classes of a real set; None where there is one group.

    A patient enters once, by the mean of the images: a patient with many is a hump of one.

    Args:
        real: ``(M, D)`` finite features.
        labels: ``(M,)`` classes, whose means are taken out first: classes are no sites.
        clusters: ``(M,)`` patients; None takes every image for itself.
        seed: Seed of the resamples.
    """
    codes, count = cluster_codes(clusters, len(real))
    if count < FEWEST:
        return None
    rows = np.asarray(real, dtype=np.float64).copy()
    classes = np.zeros(len(rows), dtype=int) if labels is None else labels
    for label in np.unique(classes):
        rows[classes == label] -= rows[classes == label].mean(axis=0)
    means = np.zeros((count, rows.shape[1]))
    np.add.at(means, codes, rows)
    rows = means / np.bincount(codes)[:, None]
    rows -= rows.mean(axis=0)
    _, spread, axes = np.linalg.svd(rows, full_matrices=False)
    axes = axes[:AXES][spread[:AXES] > _ROUNDING * spread[0]]  # none along which nothing varies
    rng = np.random.default_rng(seed)
    best: TwoGroups | None = None
    for number, axis in enumerate(axes, start=1):
        scores = rows @ axis
        split = _valley(scores)
        if split is None:
            continue
        p = min(1.0, len(axes) * one_mode_p(scores, rng, level=LEVEL / len(axes)))
        below = scores < split
        members = below if below.mean() <= 0.5 else ~below
        if p <= LEVEL and (best is None or p < best.p):
            best = TwoGroups(number, p, float(members.mean()), members[codes])
    return best


def one_mode_p(
    values: Floats, rng: np.random.Generator, resamples: int = _RESAMPLES, *, level: float = 1.0
) -> float:
    """Silverman's p-value for "one mode": how often samples of one hump need as much smoothing.

    Args:
        values: ``(M,)``.
        rng: Of the resamples.
        resamples: Their number.
        level: No more are drawn once p can only lie above it; p is then that of those drawn.
    """
    width = _critical_width(values)
    spread, mean = float(values.std()), float(values.mean())
    shrink = 1 / np.sqrt(1 + (width / spread) ** 2)  # the smoothed bootstrap keeps the variance
    beyond = done = 0
    while done < resamples and 1 + beyond <= level * (resamples + 1):
        size = min(_BLOCK, resamples - done), len(values)
        drawn = rng.choice(values, size) + width * rng.normal(size=size)
        smooth, _ = _density(mean + shrink * (drawn - mean), width)
        beyond += int((_modes(smooth) > 1).sum())
        done += size[0]
    return (1 + beyond) / (done + 1)


def _critical_width(values: Floats) -> float:
    """Smallest bandwidth whose kernel density has one mode."""
    low, high = 0.0, 2 * float(np.ptp(values))
    for _ in range(_STEPS):
        middle = (low + high) / 2
        several = _modes(_density(values[None], middle)[0])[0] > 1
        low, high = (middle, high) if several else (low, middle)
    return high


def _density(rows: Floats, width: float) -> tuple[Floats, Floats]:
    """Gaussian kernel density of each row of ``(R, M)`` on one grid: ``(R, G)`` and ``(G,)``."""
    from scipy.ndimage import gaussian_filter1d

    reach = 3 * width
    edges = np.linspace(rows.min() - reach, rows.max() + reach, _GRID + 1)
    step = edges[1] - edges[0]
    places = np.minimum((rows - edges[0]) // step, _GRID - 1).astype(int)
    places += _GRID * np.arange(len(rows))[:, None]
    counts = np.bincount(places.ravel(), minlength=_GRID * len(rows)).reshape(-1, _GRID)
    smooth = gaussian_filter1d(counts.astype(float), width / step, mode="constant", truncate=6)
    return smooth, (edges[:-1] + edges[1:]) / 2


def _modes(smooth: Floats) -> NDArray[np.intp]:
    """``(R,)`` humps of each row; level stretches belong to what comes before them."""
    slope = np.sign(np.diff(np.round(smooth, 9), axis=1))
    place = np.where(slope != 0, np.arange(slope.shape[1]), 0)
    slope = np.take_along_axis(slope, np.maximum.accumulate(place, axis=1), axis=1)
    return ((slope[:, :-1] > 0) & (slope[:, 1:] < 0)).sum(axis=1)


def _valley(values: Floats) -> float | None:
    """The lowest point between two humps, each with enough images; None without."""
    rows, grid = _density(values[None], 0.999 * _critical_width(values))
    smooth = rows[0]
    inner = np.flatnonzero((smooth[1:-1] < smooth[:-2]) & (smooth[1:-1] <= smooth[2:])) + 1
    for point in inner[np.argsort(smooth[inner])]:
        below = float((values < grid[point]).mean())
        if SMALLEST_SHARE <= below <= 1 - SMALLEST_SHARE:
            return float(grid[point])
    return None
