"""Does recall notice in this space when a generator leaves out whole modes?

Recall by neighbours can stay, or rise, as modes are dropped: the balls around what is left grow.
Before it is printed it is therefore tried on the real images themselves.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from cas_metric.protocol import BOOTSTRAP_SEED
from cas_metric.sets.fidelity import Floats, manifolds
from cas_metric.statistics.uncertainty import cluster_codes

#: Modes that the real images are divided into, and trials.
MODES: Final = 8
TRIALS: Final = 5
#: Recall that dropping half of the images' modes must at least cost.
LEAST_LOSS: Final = 0.05


class ModeTrial(NamedTuple):
    """Recall of real images by other real images, all modes or about half of them present.

    Attributes:
        whole: Mean recall with all modes.
        dropped: Mean recall with half of the images' modes missing, at the same number of images.
        seen: Whether the loss is at least :data:`LEAST_LOSS` and beyond its error.
    """

    whole: float
    dropped: float
    seen: bool


def mode_trial(
    real: Floats, k: int, *, clusters: np.ndarray | None = None, seed: int = BOOTSTRAP_SEED
) -> ModeTrial | None:
    """Drop modes from one half of the real images and look at the recall of the other half.

    Args:
        real: ``(M, D)`` finite features.
        k: Neighbours of the recall.
        clusters: ``(M,)`` patients, none of whom is in both halves.
        seed: Seed of modes and halves.

    Returns:
        None where half of a half has no more than k images.
    """
    from scipy.cluster.vq import kmeans2

    codes, count = cluster_codes(clusters, len(real))
    if len(real) < 4 * (k + 2) or count < 4:
        return None
    rng = np.random.default_rng(seed)
    modes = kmeans2(real, min(MODES, len(real) // (k + 2)), minit="++", seed=seed)[1]
    losses, values = [], []
    for _ in range(TRIALS):
        side = (rng.permutation(count) % 2)[codes]
        ours, theirs = np.flatnonzero(side == 0), np.flatnonzero(side == 1)
        kept = ours[np.isin(modes[ours], _half_of_modes(modes[ours], rng))]
        if min(len(kept), len(theirs)) <= k:
            continue
        whole = rng.choice(ours, len(kept), replace=False)
        pair = [manifolds(real[rows], real[theirs], k=k).recall for rows in (whole, kept)]
        values.append(pair)
        losses.append(pair[0] - pair[1])
    if len(losses) < 2:
        return None
    loss, error = float(np.mean(losses)), float(np.std(losses, ddof=1) / np.sqrt(len(losses)))
    whole, dropped = np.mean(values, axis=0).tolist()
    return ModeTrial(whole, dropped, loss >= max(LEAST_LOSS, 2 * error))


def _half_of_modes(modes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Modes, chosen at random, that hold at most half of the images, at least one of them."""
    names, sizes = np.unique(modes, return_counts=True)
    order = rng.permutation(len(names))
    held = np.cumsum(sizes[order])
    return names[order[: max(1, int((held <= len(modes) / 2).sum()))]]
