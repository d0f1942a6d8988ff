"""Another image of the same class for each image: who stands in for whom in the floor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def other_of_class(
    classes: NDArray[np.int64], groups: Sequence[str], usable: NDArray[np.bool_], seed: int
) -> NDArray[np.int64]:
    """Choose for each image another of its class and of another group.

    Within a class the choice is a derangement (every image is chosen exactly once) wherever one
    exists: no group may hold more than half of the class.

    Args:
        classes: ``(N,)`` class indices; an image of class -1 gets no other.
        groups: ``(N,)`` the patient, or the digest of the file: copies are not another image.
        usable: ``(N,)`` whether the image can be chosen, and have another chosen for it.
        seed: Of the choice.

    Returns:
        ``(N,)`` positions; -1 where the class has no image of another group.
    """
    rng = np.random.default_rng(seed)
    chosen = np.full(len(classes), -1, dtype=np.int64)
    _, codes = np.unique(np.asarray(groups), return_inverse=True)
    for label in np.unique(classes[(classes >= 0) & usable]):
        members = rng.permutation(np.flatnonzero((classes == label) & usable))
        members = members[np.argsort(codes[members], kind="stable")]
        chosen[members] = _shifted(members, codes[members], rng)
    return chosen


def _shifted(
    members: NDArray[np.int64], codes: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Partners of ``members``, which are sorted by group.

    Going round by the size of the largest group leads out of every group, if it holds at most
    half of them. Those that a larger one leaves with one of their own draw from the rest.
    """
    step = int(np.bincount(codes).max())
    partners, theirs = np.roll(members, -step), np.roll(codes, -step)
    for position in np.flatnonzero(theirs == codes):
        rest = members[codes != codes[position]]
        partners[position] = rng.choice(rest) if len(rest) else -1
    return partners
