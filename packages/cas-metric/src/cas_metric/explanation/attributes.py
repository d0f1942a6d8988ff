"""Attributes of a checklist, each contrasted with the same attribute of the other classes.

The cosine of an image and "Color: dense white" says little by itself: what counts is by how much it
is above that with the colours of other classes. That contrast is then placed among the real images
of the class, so that attributes of different reach can be ranked against each other. A contrast
tells classes apart; an attribute that all classes share has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from cas_metric.domains import Domain

Floats = NDArray[np.float64]

#: A class with fewer real images has no spread to measure by.
FEWEST_REAL: Final = 5
#: A spread below this is rounding.
_ROUNDING: Final = 1e-9
#: Added to the variance of 1 of each attribute, since few real images tell how they go together.
_RIDGE: Final = 0.05


@dataclass(frozen=True, eq=False)
class Attributes:
    """What is asked of the images of one class.

    Attributes:
        names: ``K`` attributes, in the order of the checklist.
        texts: ``K`` descriptions.
        directions: ``(K, D)`` own text minus the mean of the other classes' texts.
    """

    names: tuple[str, ...]
    texts: tuple[str, ...]
    directions: Floats

    def contrasts(self, embeddings: ArrayLike) -> Floats:
        """``(N, D)`` images to ``(N, K)`` cosines above those with other classes."""
        return np.asarray(embeddings, dtype=np.float64) @ self.directions.T


def item(attribute: str, text: str) -> str:
    """An attribute as the encoder reads it."""
    return f"{attribute}: {text}"


def attribute_texts(domain: Domain) -> list[str]:
    """Every attribute of every class as one text, each once."""
    pairs = (pair for name in domain.class_names for pair in domain.checklist(name).items())
    return sorted({item(*pair) for pair in pairs})


def attributes_of(
    domain: Domain, label: str, vectors: Mapping[str, NDArray[np.float32]]
) -> Attributes:
    """The attributes of a class that some other class describes in other words.

    Args:
        domain: Checklists.
        label: The class.
        vectors: Each of :func:`attribute_texts` to its ``(D,)`` embedding.
    """
    names, texts, directions = [], [], []
    for name, text in domain.checklist(label).items():
        others = [
            other
            for one in domain.class_names
            if one != label and (other := domain.checklist(one).get(name)) not in (None, text)
        ]
        if others:
            mean = np.mean([vectors[item(name, other)] for other in others], axis=0)
            names.append(name)
            texts.append(text)
            directions.append(vectors[item(name, text)] - mean)
    return Attributes(tuple(names), tuple(texts), np.array(directions, dtype=np.float64))


def deviations(values: ArrayLike, real: ArrayLike) -> Floats:
    """Values in standard deviations of the real images from their mean; low where less than real.

    Args:
        values: ``(N, K)``.
        real: ``(M, K)`` of real images of the class.

    Returns:
        ``(N, K)``; NaN where fewer than :data:`FEWEST_REAL` real images have a value, or all the
        same one.
    """
    own, theirs = np.asarray(values, dtype=np.float64), np.asarray(real, dtype=np.float64)
    found = np.full(own.shape, np.nan)
    for k, column in enumerate(theirs.T):
        known = column[np.isfinite(column)]
        spread = known.std(ddof=1) if len(known) >= FEWEST_REAL else 0.0
        if spread > _ROUNDING:
            found[:, k] = (own[:, k] - known.mean()) / spread
    return found


def beyond_the_others(found: Floats, real: Floats) -> Floats:
    """How far each attribute lies from what the others of the image lead to expect.

    What lacks one sign of its class is less of that class altogether, and all its attributes fall
    with it: the one that was taken out is the one that falls by more than goes with the others.

    Args:
        found: ``(N, K)`` deviations; NaN stays NaN, and is not what others are judged by.
        real: ``(M, K)`` the same of real images of the class.

    Returns:
        ``(N, K)`` in standard deviations of the rest: the partial residual of a normal variable.
    """
    told = np.isfinite(real).all(axis=0)
    result = np.where(told, found, np.nan)
    if told.sum() > 1:
        together = np.cov(real[:, told].T) + _RIDGE * np.eye(int(told.sum()))
        precision = np.linalg.inv(together)
        result[:, told] = found[:, told] @ precision / np.sqrt(np.diag(precision))
    return result


def ranks(values: ArrayLike, real: ArrayLike) -> Floats:
    """``(N, K)`` conformal ranks among the real images of the class, in (0, 1], low where less.

    Args:
        values: ``(N, K)``.
        real: ``(M, K)``; NaN is left out.
    """
    own, theirs = np.asarray(values, dtype=np.float64), np.asarray(real, dtype=np.float64)
    known = np.isfinite(theirs)
    below = (own[:, None, :] >= np.where(known, theirs, np.inf)[None]).sum(axis=1)
    return np.where(np.isfinite(own), (below + 1) / (known.sum(axis=0) + 1), np.nan)


def order(found: Sequence[float] | Floats) -> list[int]:
    """Positions from the lowest to the highest; NaN is last."""
    return [int(k) for k in np.argsort(np.asarray(found, dtype=np.float64), kind="stable")]
