"""Gaps between groups of patients, corrected for all of them together.

The largest studentised gap is held against its distribution when patients are dealt out to the
groups anew, the attributes of a patient kept together.

Source: Westfall and Young (1993), single-step max-T by permutation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cas_metric.statistics.aggregate import BOUNDS, bounds_of_difference
from cas_metric.statistics.uncertainty import Codes, Floats

if TYPE_CHECKING:
    import pandas as pd

#: Patients with a value that a group needs for its gaps in a quantity to be tested.
FEWEST_CLUSTERS: Final = 10


def clusters_with(values: Floats, inside: NDArray[np.bool_], codes: Codes) -> int:
    """Clusters of a group of which some image has a value."""
    return len(np.unique(codes[inside & np.isfinite(values)]))


def gaps_between(
    values: Mapping[str, Floats],
    members: Mapping[tuple[str, str], NDArray[np.bool_]],
    codes: Codes,
    level: float,
    permutations: int,
    seed: int,
) -> pd.DataFrame:
    """Gaps of all pairs of groups of one attribute, where both have enough clusters with a value.

    Args:
        values: Quantity to ``(N,)``; NaN where an image has none.
        members: ``(attribute, group)`` to ``(N,)`` which images are of it.
        codes: ``(N,)`` cluster of each image.
        level: Simultaneous coverage.
        permutations: Of the patients over the groups.
        seed: Of the permutations.

    Returns:
        ``attribute, quantity, group, other, gap, low, high, p``; no row without such a pair.
    """
    import pandas as pd

    columns = ["attribute", "quantity", "group", "other", "gap", "low", "high", "p"]
    enough = {
        key: np.array([clusters_with(v, inside, codes) for v in values.values()]) >= FEWEST_CLUSTERS
        for key, inside in members.items()
    }
    keys = [key for key, some in enough.items() if some.any()]
    pairs = [(i, j) for i, j in combinations(range(len(keys)), 2) if keys[i][0] == keys[j][0]]
    told = np.array([enough[keys[i]] & enough[keys[j]] for i, j in pairs], dtype=bool)
    if not told.any():
        return pd.DataFrame(columns=columns)
    membership = np.stack([members[key] for key in keys], axis=1)
    units, belongs = _units(codes, membership)
    moments = np.stack(
        [_moments(column, units, len(belongs)) for column in values.values()], axis=1
    )
    gap, error = _studentised(belongs, moments, pairs)
    rng = np.random.default_rng(seed)
    largest = np.empty(permutations)
    for k in range(permutations):
        dealt = _studentised(belongs, moments[rng.permutation(len(moments))], pairs)
        largest[k] = _ratio(*dealt)[told].max()
    critical = float(np.quantile(largest, level, method="higher"))
    found, p = _ratio(gap, error), np.empty_like(gap)
    for at in np.ndindex(*gap.shape):
        p[at] = (1 + int((largest >= found[at] - 1e-12).sum())) / (permutations + 1)
    reach = np.where(error > 0, critical * error, np.nan)
    most = [bounds_of_difference(name if name in BOUNDS else "dd") for name in values]  # rates
    low, high = (np.clip(ends, *np.transpose(most)) for ends in (gap - reach, gap + reach))
    return pd.DataFrame(
        [
            (
                *(keys[i][0], name, keys[i][1], keys[j][1]),
                *(float(gap[k, q]), float(low[k, q]), float(high[k, q])),
                float(p[k, q]),
            )
            for k, (i, j) in enumerate(pairs)
            for q, name in enumerate(values)
            if told[k, q]
        ],
        columns=columns,
    )


def _units(codes: Codes, membership: NDArray[np.bool_]) -> tuple[Codes, Floats]:
    """What is dealt out: a patient, or the part of one within the same groups; and its groups."""
    joint = np.column_stack([codes, membership])
    rows, units = np.unique(joint, axis=0, return_inverse=True)
    return units.reshape(-1), rows[:, 1:].astype(np.float64)


def _moments(values: Floats, units: Codes, count: int) -> Floats:
    """``(U, 6)``: sum s, number m, s^2, s m, m^2 of each unit's finite values, and any(m)."""
    present = np.isfinite(values)
    s = np.bincount(units, weights=np.where(present, values, 0.0), minlength=count)
    m = np.bincount(units, weights=present, minlength=count)
    return np.stack([s, m, s * s, s * m, m * m, m > 0], axis=1)


def _studentised(
    belongs: Floats, moments: Floats, pairs: Sequence[tuple[int, int]]
) -> tuple[Floats, Floats]:
    """Gaps ``(pairs, quantities)`` of group means, and their cluster-robust standard errors."""
    s, m, ss, sm, mm, clusters = np.moveaxis(np.tensordot(belongs.T, moments, axes=1), 2, 0)
    size = np.maximum(m, 1)
    mean = s / size
    spread = np.maximum(ss - 2 * mean * sm + mean * mean * mm, 0.0)
    error = spread / size**2 * clusters / np.maximum(clusters - 1, 1)
    left, right = np.array(pairs).T
    gap = np.where((m[left] > 0) & (m[right] > 0), mean[left] - mean[right], 0.0)
    return gap, np.sqrt(error[left] + error[right])


def _ratio(gap: ArrayLike, error: ArrayLike) -> Floats:
    """Absolute gap in standard errors; without any spread beyond every number, or 0 for no gap."""
    size, spread = np.abs(np.asarray(gap)), np.asarray(error)
    bare = np.where(size > 1e-12, 1e9, 0.0)
    return np.where(spread > 1e-12, size / np.where(spread > 1e-12, spread, 1.0), bare)
