"""Ranks of each primitive, and of all of them together, among other real images of the class.

The combination is a weighted mean of the primitives in units of their spread. It is itself ranked:
the image and the real images that it is compared with form one bag, the spread is that of the bag,
and every member is treated alike, so that the rank of the combination is exactly uniform too.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cas_metric.calibrated.conformal import Floats, conformal_rank, tie_breakers
from cas_metric.calibrated.measures import Measured
from cas_metric.protocol import ALIGNMENT_WEIGHTS, PRIMITIVES, SMALL_CLASS

RANKS: Final = tuple(f"rank_{name}" for name in PRIMITIVES)
#: A spread below this share of the values' size is rounding.
_ROUNDING: Final = 1e-9


def calibrate(
    images: Measured, real: Measured, peers: NDArray[np.int64] | None = None
) -> pd.DataFrame:
    """Place each image among the real images of its class that are not of its own origin.

    A class of fewer than :data:`~cas_metric.protocol.SMALL_CLASS` real images is too small to be
    ranked in: such classes are ranked in together.

    Args:
        images: Generated images, or the real ones themselves.
        real: The calibration images.
        peers: ``(M,)`` whom each of these is compared with, of :func:`small_together`; None takes
            their own classes, which of a part of the real images may be small though not of all.

    Returns:
        ``rank_vdc … rank_sfs`` and ``alignment`` in (0, 1], small where an image is less aligned
        than real ones, and ``deviation``: the combination in standard deviations of the real
        images from their mean, which orders images also where all are below every real one. NaN
        where nothing can be compared.
    """
    ties = np.stack([tie_breakers(images.names, salt) for salt in (*RANKS, "alignment")], axis=1)
    peers = small_together(real.classes) if peers is None else peers
    place = dict(zip(real.classes.tolist(), peers.tolist(), strict=True))
    own = np.array([place.get(label, -1) for label in images.classes.tolist()], dtype=np.int64)
    found = np.full((len(images.classes), len(RANKS) + 2), np.nan)
    for label in np.unique(own[own >= 0]):
        members = np.flatnonzero(peers == label)
        numbers, groups = real.primitives[members], real.groups[members]
        for row in np.flatnonzero(own == label):
            group = images.groups[row]
            others = numbers[groups != group] if group >= 0 else numbers
            found[row] = _place(images.primitives[row], others, ties[row])
    return pd.DataFrame(found, columns=[*RANKS, "alignment", "deviation"])


def small_together(classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """``(N,)`` whom each real image is compared with: its class, or all small classes together."""
    labels, place, sizes = np.unique(classes, return_inverse=True, return_counts=True)
    small = (sizes < SMALL_CLASS) & (labels >= 0)
    joint = int(labels.max(initial=0)) + 1
    return np.where(small, joint, labels)[place]


def _place(image: Floats, others: Floats, ties: Floats) -> list[float]:
    """Ranks of one image's primitives, of the combination, and the deviation."""
    ranks = [conformal_rank(*one) for one in zip(image, others.T, ties[:-1], strict=True)]
    asked = np.isfinite(ranks)
    others = others[np.isfinite(others[:, asked]).all(axis=1)]
    if not asked.any() or not len(others):
        return [*ranks, float("nan"), float("nan")]
    bag = combine(np.vstack([image, others])[:, asked], np.array(ALIGNMENT_WEIGHTS)[asked])
    spread = bag[1:].std(ddof=1) if len(others) > 1 else 0.0
    deviation = (bag[0] - bag[1:].mean()) / spread if spread > _ROUNDING else float("nan")
    return [*ranks, conformal_rank(bag[0], bag[1:], ties[-1]), float(deviation)]


def combine(bag: Floats, weights: Floats) -> Floats:
    """Weighted mean of the primitives, each in units of its spread over the bag.

    Args:
        bag: ``(M, K)`` finite.
        weights: ``(K,)``.

    Returns:
        ``(M,)``; a primitive that does not vary adds nothing.
    """
    spread, size = bag.std(axis=0), np.abs(bag).max(axis=0)
    scale = np.where(spread > _ROUNDING * size, spread, np.inf)
    # Rounded, so that what is equal stays a tie whatever the order of summation.
    together: Floats = np.round(((bag - bag.mean(axis=0)) / scale) @ (weights / weights.sum()), 12)
    return together
