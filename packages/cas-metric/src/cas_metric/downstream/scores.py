"""Accuracy and macro-F1 of predictions, and of many resamples of the test images at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cas_metric.statistics.uncertainty import (
    Floats,
    cluster_codes,
    cluster_sums,
    resampling_counts,
)

Indices = NDArray[np.int64]


def accuracy(truth: Indices, predicted: Indices) -> float:
    """Share of ``(T,)`` predictions that are right."""
    return float(np.mean(truth == predicted))


def macro_f1(truth: Indices, predicted: Indices, classes: int) -> float:
    """Unweighted mean over the classes of F1; a class without any picture or prediction counts 0.

    Args:
        truth: ``(T,)`` class index.
        predicted: ``(T,)`` class index.
        classes: Number of classes.
    """
    counts = _indicators(truth, predicted, classes).sum(axis=0, keepdims=True)
    return float(_macro_f1_of(counts, classes)[0])


def macro_f1_replicates(
    truth: Indices,
    predictions: list[Indices],
    classes: int,
    *,
    clusters: NDArray[np.str_],
    resamples: int,
    seed: int,
) -> Floats:
    """Macro-F1, averaged over ``predictions``, of resampled test images: ``(R,)``.

    Args:
        truth: ``(T,)`` class index.
        predictions: One ``(T,)`` a training seed.
        classes: Number of classes.
        clusters: ``(T,)`` what is drawn together.
        resamples: Number of resamples.
        seed: The same seed gives the same resamples, so that methods are compared on each.
    """
    codes, count = cluster_codes(clusters, len(truth))
    sums = [cluster_sums(_indicators(truth, p, classes), codes, count) for p in predictions]
    return np.concatenate(
        [
            np.mean([_macro_f1_of(counts @ one, classes) for one in sums], axis=0)
            for counts in resampling_counts(count, resamples, seed)
        ]
    )


def _indicators(truth: Indices, predicted: Indices, classes: int) -> Floats:
    """Of each picture: hit, predicted and true class, ``(T, 3C)`` of 0 and 1."""
    is_true, is_predicted = np.eye(classes)[truth], np.eye(classes)[predicted]
    return np.concatenate([is_true * is_predicted, is_predicted, is_true], axis=1)


def _macro_f1_of(counts: Floats, classes: int) -> Floats:
    """``(R, 3C)`` sums of :func:`_indicators` to ``(R,)``."""
    hits, predicted, true = np.split(counts, 3, axis=1)
    either = predicted + true
    return np.asarray((2 * hits / np.where(either > 0, either, 1)).sum(axis=1) / classes)
