"""Class-balanced means and rates: every class weighs alike, however many images it has.

A class of one cluster tells nothing of how another patient of it would do, so with one there are no
limits; a rate whose images are all independent is the exception, since its spread follows from the
share itself.

Source: Satterthwaite (1946) for the degrees of freedom; Wilson (1927) at the effective size.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cas_metric.protocol import CONFIDENCE
from cas_metric.statistics.intervals import (
    MOST,
    NO_SPREAD,
    ROUNDING,
    TOO_FEW,
    Part,
    degrees,
    effective_clusters,
    influence,
    t_quantile,
    wilson_limits,
    without_limits,
)
from cas_metric.statistics.uncertainty import Codes, Floats

#: Images by which the share of a class is drawn towards the mean of all classes.
_PRIOR = 4.0


def balanced_mean_part(
    values: Floats, labels: NDArray[Any], codes: Codes, count: int, level: float = CONFIDENCE
) -> Part:
    """Mean of the class means, Student's limits with Satterthwaite's degrees of freedom.

    Args:
        values: ``(N,)`` finite, at least one.
        labels: ``(N,)`` class of each.
        codes: ``(N,)`` cluster of each, from 0.
        count: Clusters of the whole comparison.
        level: Nominal coverage.
    """
    classes = np.unique(labels)
    parts, degrees = [], []
    for label in classes:
        own = labels == label
        parts.append(influence(values[own], codes[own], count))
        degrees.append(len(np.unique(codes[own])) - 1)
    mean = float(np.mean([values[labels == label].mean() for label in classes]))
    plain: Floats = np.sum(parts, axis=0) / len(classes)
    if min(degrees) < 1:
        return without_limits(mean, plain, TOO_FEW)
    scale = [math.sqrt((d + 1) / d) for d in degrees]
    errors = np.sum([s * e for s, e in zip(scale, parts, strict=True)], axis=0) / len(classes)
    spread = float(errors @ errors)
    if not spread > (ROUNDING * max(1.0, abs(mean))) ** 2:
        return without_limits(mean, plain, NO_SPREAD)
    shares = np.array([s * s * float(e @ e) for s, e in zip(scale, parts, strict=True)])
    freedom = float(shares.sum() ** 2 / (shares**2 / np.array(degrees)).sum())
    reach = t_quantile(level, freedom) * math.sqrt(spread)
    return Part(mean, mean - reach, mean + reach, plain)


def balanced_rate_part(
    values: Floats, labels: NDArray[Any], codes: Codes, count: int, level: float = CONFIDENCE
) -> Part:
    """Mean of the class shares with Wilson's limits at the effective size of such a mean.

    Its variance takes the share of each class drawn towards the mean of all as by a few further
    images: a class of three that are right is not known to be right always.

    Args:
        values: ``(N,)`` zeros and ones, at least one.
        labels: ``(N,)`` class of each.
        codes: ``(N,)`` cluster of each, from 0.
        count: Clusters of the whole comparison.
        level: Nominal coverage.
    """
    classes, place, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    shares = np.bincount(place, weights=values) / sizes
    share, n, total = float(np.clip(shares.mean(), 0.0, 1.0)), len(values), len(classes)
    own = (values - shares[place]) / sizes[place] / total
    errors: Floats = np.bincount(codes, weights=own, minlength=count).astype(np.float64)
    clusters = len(np.unique(codes))
    if clusters < 2 or _has_class_of_one_cluster(place, sizes, codes):
        return without_limits(share, errors, TOO_FEW)
    drawn = (shares * sizes + _PRIOR * share) / (sizes + _PRIOR)
    simple = float((drawn * (1 - drawn) / sizes).sum()) / total**2
    effective = share * (1 - share) / simple if simple > 0 else total**2 / float((1 / sizes).sum())
    if clusters < n:
        plain = float((shares * (1 - shares) / sizes).sum()) / total**2
        found = float(errors @ errors) * clusters / (clusters - 1)
        design = found / plain if plain > 0 else math.sqrt(n / clusters)
        largest = n / effective_clusters(codes)
        effective /= min(max(design, 1 / MOST), largest)
    z = t_quantile(level, math.inf if clusters == n else degrees(np.bincount(codes)))
    return Part(share, *wilson_limits(share, min(effective, MOST * n), z), errors)


def _has_class_of_one_cluster(place: Codes, sizes: Codes, codes: Codes) -> bool:
    """Whether all the images of a class, several of them, are of one cluster."""
    units = np.unique(np.column_stack([place, codes]), axis=0)[:, 0]
    return bool(((np.bincount(units) == 1) & (sizes > 1)).any())
