"""Conformal ranks: the place of an image among others of which it could be one.

If an image is as real as the calibration images, its rank among them is uniform on (0, 1], whatever
is measured and however good the measure is: the guarantee needs exchangeability and nothing else.
Ties are broken at random (smoothed p-values), so that it is exact also where a measure is coarse or
constant; the random number of an image comes from its content, so that it is always the same.

Source: Vovk, Gammerman and Shafer, *Algorithmic Learning in a Random World* (2005), §2.2 and 4.2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def conformal_rank(values: ArrayLike, calibration: ArrayLike, ties: ArrayLike) -> Floats:
    """Rank of each value among the calibration values, small where it is lower than they are.

    Args:
        values: ``(N,)``; NaN gets NaN.
        calibration: ``(M,)``; NaN is left out.
        ties: ``(N,)`` uniform in (0, 1], one an image: where among its equals it stands.

    Returns:
        ``(N,)`` in (0, 1]: the share of the M + 1 that lie below, with a random part of the ties.
        ``P(rank <= a) = a`` for an image that is exchangeable with them, for every a.

    Example:
        >>> conformal_rank([0.0, 9.0], [1.0, 2.0, 3.0], [1.0, 1.0]).tolist()
        [0.25, 1.0]
    """
    found = np.asarray(values, dtype=np.float64)
    known = np.asarray(calibration, dtype=np.float64)
    known = np.sort(known[np.isfinite(known)])
    below = np.searchsorted(known, found, "left")
    equal = np.searchsorted(known, found, "right") - below
    rank = (below + np.asarray(ties) * (equal + 1)) / (len(known) + 1)
    return np.where(np.isfinite(found), rank, np.nan)


def tie_breakers(names: Sequence[str], salt: str = "") -> Floats:
    """A number in (0, 1] for each name, uniform over names and always the same.

    Args:
        names: ``N`` names, such as the digest of a file and the image's id.
        salt: Another one gives independent numbers.
    """
    words = (
        int.from_bytes(hashlib.blake2b(f"{salt}|{name}".encode(), digest_size=6).digest())
        for name in names
    )
    return np.array([(word + 1) / 2**48 for word in words], dtype=np.float64)
