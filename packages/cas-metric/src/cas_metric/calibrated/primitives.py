"""The four primitives in the form in which images can be ranked by them.

=====  ==========================================================================================
vdc    cosine with the own prompt
ccs    cosine with the checklist of the class
dd     log-odds of the class by the probe, in place of its argmax
sfs    minus the distance to what real images of such a prompt and class look like
=====  ==========================================================================================

Scales, and what a class or an encoder gives to all images, are gone once an image is ranked among
real ones of its class. The last is two-sided by nature: an image that shows more of a finding than
real ones do is as far away as one that shows less. Contrasts with the texts of other classes, and
two-sided ranks of the first three, were tried and find less: ``docs/results/validity-v2.md``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cas_metric.primitives import unit
from cas_metric.protocol import EXPECTATION_SHRINKAGE

Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]
Ints = NDArray[np.int64]

#: Ridge penalties to choose from, on prompts of norm 1.
_PENALTIES = 10.0 ** np.arange(-3, 3.5, 0.5)
#: Images that an expectation is fitted on, at most.
_MOST = 10_000


def log_odds(logits: NDArray[np.floating], classes: Ints) -> Floats:
    """``dd``: the logit of the class less the log-sum of those of the others.

    Args:
        logits: ``(N, C)`` of the probe.
        classes: ``(N,)`` from 0; -1 where the label is no class, which gives NaN.

    Examples:
        >>> log_odds(np.log([[0.75, 0.25]]), np.array([0])).round(4).tolist()
        [1.0986]
    """
    scores = np.array(logits, dtype=np.float64)
    place = np.arange(len(scores)), classes.clip(min=0)
    own = scores[place]
    scores[place] = -np.inf
    return np.where(classes >= 0, own - np.logaddexp.reduce(scores, axis=1), np.nan)


@dataclass(frozen=True, eq=False)
class Expectation:
    """What the embedding of a real image is, given its prompt and class, and how it varies.

    A ridge regression of image embeddings on prompt embeddings and class, and the covariance of
    what it leaves unexplained. Without prompts it is the mean of each class.

    Attributes:
        picture: ``(D,)`` mean of the images.
        text: ``(D,)`` mean of the prompts.
        weights: ``(D + C, D)`` of the regression.
        whiten: ``(D, D)`` under which the unexplained has equal spread in all directions.
    """

    picture: Floats
    text: Floats
    weights: Floats
    whiten: Floats

    @classmethod
    def fit(cls, images: Vectors, prompts: Vectors, classes: Ints, count: int) -> Expectation:
        """Fit on real images.

        The penalty and the covariance come from leave-one-out residuals, so that neither flatters
        the images that it is fitted on. The covariance is drawn towards a multiple of the identity
        by the fixed share :data:`~cas_metric.protocol.EXPECTATION_SHRINKAGE`.

        Args:
            images: ``(N, D)`` finite, of any norm.
            prompts: ``(N, D)``; NaN where there is none.
            classes: ``(N,)`` from 0 to ``count`` - 1; -1 where the label is no class.
            count: Classes.

        Source: Hastie, Tibshirani and Friedman (2009), §3.4.1 and Eq. 7.64; Lee et al. (NeurIPS
        2018) for the Mahalanobis distance to a class with one common covariance.
        """
        if len(images) > _MOST:
            kept = np.linspace(0, len(images) - 1, _MOST).astype(np.int64)
            images, prompts, classes = images[kept], prompts[kept], classes[kept]
        pictures, texts = unit(images).astype(np.float64), unit(prompts).astype(np.float64)
        known = np.isfinite(texts).all(axis=1)
        text = texts[known].mean(axis=0) if known.any() else np.zeros(texts.shape[1])
        inputs = _features(texts, text, classes, count)
        picture = pictures.mean(axis=0)
        targets = pictures - picture
        values, vectors = np.linalg.eigh(inputs.T @ inputs)
        turned = inputs @ vectors
        slopes = turned.T @ targets
        residuals = np.empty(0)
        best, chosen = np.inf, _PENALTIES[-1]
        for penalty in _PENALTIES:
            scale = values.clip(min=0) + penalty
            leverage = (turned**2 / scale).sum(axis=1)
            left = (targets - turned @ (slopes / scale[:, None])) / (1 - leverage)[:, None]
            if (error := float((left**2).sum())) < best:
                best, chosen, residuals = error, penalty, left
        weights = vectors @ (slopes / (values.clip(min=0) + chosen)[:, None])
        return cls(picture, text, weights, _whitening(residuals.reshape(-1, pictures.shape[1])))

    def closeness(self, images: Vectors, prompts: Vectors, classes: Ints) -> Floats:
        """``sfs``: minus the Mahalanobis distance of each image to what is expected of it.

        Args:
            images: ``(N, D)``; NaN gives NaN.
            prompts: ``(N, D)``; NaN where there is none: then the class alone says what to expect.
            classes: ``(N,)``; -1 gives NaN.

        Returns:
            ``(N,)``, at most 0.
        """
        count = len(self.weights) - len(self.text)
        inputs = _features(unit(prompts).astype(np.float64), self.text, classes, count)
        gap = unit(images).astype(np.float64) - self.picture - inputs @ self.weights
        return np.where(classes >= 0, -np.linalg.norm(gap @ self.whiten, axis=1), np.nan)


def _features(texts: Floats, mean: Floats, classes: Ints, count: int) -> Floats:
    """``(N, D + C)`` centred prompts, zero where there is none, beside the class."""
    indicator = (classes[:, None] == np.arange(count)) - 1 / count
    return np.hstack([np.nan_to_num(texts - mean), indicator])


def _whitening(residuals: Floats) -> Floats:
    size = residuals.shape[1]
    covariance = residuals.T @ residuals / max(len(residuals), 1)
    mean = max(float(np.trace(covariance)) / size, np.finfo(np.float64).tiny)
    shrunk = (1 - EXPECTATION_SHRINKAGE) * covariance / mean
    values, vectors = np.linalg.eigh(shrunk + EXPECTATION_SHRINKAGE * np.eye(size))
    return vectors / np.sqrt(values)
