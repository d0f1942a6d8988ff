"""The four primitives as contrasts: what an image shows of its class, less what of the others.

A raw cosine holds mostly what all images of a domain have in common, so that it moves by hundredths
where an image is wrong, and differs between texts and encoders. Each primitive here is compared
with what the same image gives for other classes, and ranked afterwards, so that its scale is gone.

=====  ==========================================================================================
vdc    cosine with the own prompt, less the mean over prompts of the other classes
ccs    cosine with the checklist of the class, less the highest over the other classes
dd     log-odds of the class by the probe, in place of its argmax
sfs    minus the squared Mahalanobis distance to the real images of the class
=====  ==========================================================================================

Two-sided is the last: an image that shows more than real ones do is as far away as one that shows
less.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cas_metric.primitives import unit

Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]
Ints = NDArray[np.int64]


def prompt_contrast(
    images: Vectors, own: Vectors, others: Vectors, classes: Ints, of: Ints
) -> Floats:
    """``vdc``.

    Args:
        images: ``(N, D)``.
        own: ``(N, D)`` embedding of each image's prompt; NaN without one.
        others: ``(P, D)`` prompts to compare with.
        classes: ``(N,)`` class of each image.
        of: ``(P,)`` class of each of ``others``.

    Returns:
        ``(N,)`` in [-2, 2].
    """
    pictures = unit(images)
    found = (pictures * unit(own)).sum(axis=1).astype(np.float64)
    for label in np.unique(classes):
        rows, rest = classes == label, of != label
        if rest.any():
            found[rows] -= pictures[rows] @ unit(others[rest]).mean(axis=0)
    return found


def checklist_contrast(images: Vectors, checklists: Vectors, classes: Ints) -> Floats:
    """``ccs``.

    Args:
        images: ``(N, D)``.
        checklists: ``(C, D)``; NaN for a class without one.
        classes: ``(N,)`` from 0; -1 where the label is no class.

    Returns:
        ``(N,)`` in [-2, 2]; NaN without a class or a checklist of it.
    """
    cosines = (unit(images) @ unit(checklists).T).astype(np.float64)
    return _margin(cosines, classes, np.fmax.reduce)


def log_odds(logits: NDArray[np.floating], classes: Ints) -> Floats:
    """``dd``: the logit of the class less the log-sum of those of the others, ``(N,)``."""
    return _margin(np.asarray(logits, dtype=np.float64), classes, np.logaddexp.reduce)


def _margin(scores: Floats, classes: Ints, rest: Callable[..., Floats]) -> Floats:
    """Score of the class less what ``rest`` makes of the others."""
    place = np.arange(len(scores))
    own = scores[place, classes.clip(min=0)]
    others = scores.copy()
    others[place, classes.clip(min=0)] = -np.inf
    highest = rest(others, axis=1)
    return np.where(classes >= 0, own - np.where(np.isfinite(highest), highest, 0.0), np.nan)


@dataclass(frozen=True, eq=False)
class Cloud:
    """Real images of each class as normal clouds with one common, shrunk covariance.

    Attributes:
        means: ``(C, D)``; NaN for a class without images.
        whiten: ``(D, D)`` so that whitened differences have unit covariance.
    """

    means: Floats
    whiten: Floats

    @classmethod
    def fit(cls, images: Vectors, classes: Ints, count: int) -> Cloud:
        """From ``(N, D)`` finite embeddings of ``count`` classes.

        Source: Lee et al. (NeurIPS 2018) for the common covariance; Chen et al. (2010) for its
        shrinkage (OAS).
        """
        pictures = unit(images).astype(np.float64)
        means = np.full((count, pictures.shape[1]), np.nan)
        for label in np.unique(classes[classes >= 0]):
            means[label] = pictures[classes == label].mean(axis=0)
        kept = classes >= 0
        rest = pictures[kept] - means[classes[kept]]
        freedom = max(len(rest) - len(np.unique(classes[kept])), 1)
        covariance = _shrunk(rest.T @ rest / freedom, freedom)
        values, vectors = np.linalg.eigh(covariance)
        return cls(means, vectors / np.sqrt(np.maximum(values, 1e-12)))

    def closeness(self, images: Vectors, classes: Ints) -> Floats:
        """``sfs``: minus the squared distance of each image to its class, ``(N,)``."""
        gap = unit(images).astype(np.float64) - self.means[classes.clip(min=0)]
        distance = np.square(gap @ self.whiten).sum(axis=1)
        return np.where(classes >= 0, -distance, np.nan)


def _shrunk(covariance: Floats, count: int) -> Floats:
    """A covariance drawn towards a multiple of the identity."""
    size = len(covariance)
    mean, square = np.trace(covariance) / size, float((covariance**2).sum())
    above = (1 - 2 / size) * square + (mean * size) ** 2
    below = (count + 1 - 2 / size) * (square - mean**2 * size)
    share = 1.0 if below <= 0 else min(1.0, above / below)
    return (1 - share) * covariance + share * mean * np.eye(size)
