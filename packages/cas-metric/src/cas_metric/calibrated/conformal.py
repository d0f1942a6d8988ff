"""Conformal ranks: the place of an image among others of which it could be one.

If an image is exchangeable with the calibration images, its rank among them is uniform on (0, 1],
whatever is measured and however good the measure is. Ties are broken at random (smoothed p-values),
so that this is exact also where a measure is coarse or constant; the random number of an image
comes from its content, so that it is always the same.

Source: Vovk, Gammerman and Shafer, *Algorithmic Learning in a Random World* (2005), §2.2 and 2.5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def conformal_rank(value: float, calibration: ArrayLike, tie: float) -> float:
    """Rank of a value among the calibration values, small where it is lower than they are.

    Args:
        value: NaN gives NaN.
        calibration: ``(M,)``; NaN is left out, and none at all gives NaN.
        tie: Uniform in (0, 1]: where among its equals the value stands.

    Returns:
        In (0, 1]: ``P(rank <= a) = a`` for a value that is exchangeable with them, for every a.

    Examples:
        >>> conformal_rank(0.0, [1.0, 2.0, 3.0], 1.0)
        0.25
    """
    known = np.asarray(calibration, dtype=np.float64)
    known = known[np.isfinite(known)]
    if not np.isfinite(value) or not len(known):
        return float("nan")
    below, equal = int((known < value).sum()), int((known == value).sum())
    return float((below + tie * (equal + 1)) / (len(known) + 1))


def tie_breakers(names: Sequence[str], salt: str) -> Floats:
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
