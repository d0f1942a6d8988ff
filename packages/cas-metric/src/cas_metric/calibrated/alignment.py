"""Ranks of each primitive and of their combination among other real images of the class."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cas_metric import protocol
from cas_metric.calibrated.conformal import Floats, conformal_rank, tie_breakers
from cas_metric.calibrated.measures import Measured

#: Columns of a calibrated table, after ``id, method, seed, label, image``.
RANKS = tuple(f"rank_{name}" for name in protocol.PRIMITIVES)


def calibrate(images: Measured, real: Measured) -> pd.DataFrame:
    """Columns ``rank_vdc … rank_sfs`` and ``alignment``, one row an image.

    Each image stands among the real images of its class that are not of its own origin.
    """
    ties = [tie_breakers(images.names, salt) for salt in (*RANKS, "alignment")]
    found = np.full((len(images.classes), len(RANKS) + 1), np.nan)
    for row, (label, group) in enumerate(zip(images.classes, images.groups, strict=True)):
        others = (real.classes == label) & (real.groups != group)
        if label < 0 or not others.any():
            continue
        bag = np.vstack([images.primitives[row : row + 1], real.primitives[others]])
        for k in range(len(RANKS)):
            found[row, k] = conformal_rank(bag[:1, k], bag[1:, k], ties[k][row : row + 1])[0]
        combined = combine(bag)
        found[row, -1] = conformal_rank(combined[:1], combined[1:], ties[-1][row : row + 1])[0]
    return pd.DataFrame(found, columns=[*RANKS, "alignment"])


def combine(bag: Floats) -> Floats:
    """One number an image out of the four, of a bag in which all are treated alike."""
    present = np.isfinite(bag).all(axis=0)
    if not present.any():
        return np.full(len(bag), np.nan)
    below = (bag[:, None, present] > bag[None, :, present]).sum(axis=1)
    equal = (bag[:, None, present] == bag[None, :, present]).sum(axis=1)
    return ((below + equal / 2) / len(bag)).mean(axis=1)
