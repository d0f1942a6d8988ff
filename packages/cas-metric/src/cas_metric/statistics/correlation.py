"""Correlation of method-level scores with another quantity, where n is the number of methods.

With five methods a rank correlation has at most 120 arrangements: the usual t approximation gives
p = 0.037 for Spearman's 0.9, the exact permutation test 0.083. Both are reported, side by side.

Source: Appendix G, Table 13 of the paper; intervals: Fisher (1915) for Pearson, Bonett and Wright
(2000, Psychometrika 65:23) for Spearman, Fieller, Hartley and Pearson (1957) for Kendall.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import permutations
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cas_metric.errors import InputError
from cas_metric.protocol import BOOTSTRAP_SEED, CONFIDENCE
from cas_metric.statistics.uncertainty import Floats, Interval

#: Up to this n every order is enumerated (8! = 40,320).
EXACT_N = 8
RANDOM_ORDERS = 20_000
_BLOCK_ELEMENTS = 2_000_000


class Correlation(NamedTuple):
    """One coefficient with both p-values and its fragility.

    Attributes:
        statistic: ``pearson``, ``spearman`` or ``kendall`` (tau-b).
        n: Number of pairs.
        value: The coefficient with an interval by its normalising transform; the ends are NaN
            where n is too small for one.
        p_asymptotic: Two-sided p-value as usually reported (t, or normal for Kendall).
        p_permutation: Two-sided permutation p-value.
        exact: Whether all orders were enumerated for it.
        ties: Whether either quantity holds equal values.
        leave_one_out: ``(n,)`` the coefficient without each pair in turn; NaN where
            undefined, and below four pairs: that of two pairs is always 1 or -1.
    """

    statistic: str
    n: int
    value: Interval
    p_asymptotic: float
    p_permutation: float
    exact: bool
    ties: bool
    leave_one_out: tuple[float, ...]

    @property
    def influence(self) -> tuple[float, ...]:
        """How much each pair pulls the coefficient: with all pairs minus without this one."""
        return tuple(self.value.estimate - without for without in self.leave_one_out)


def correlate(
    x: ArrayLike,
    y: ArrayLike,
    *,
    level: float = CONFIDENCE,
    seed: int = BOOTSTRAP_SEED,
) -> list[Correlation]:
    """Pearson, Spearman and Kendall of two quantities.

    Args:
        x: ``(n,)`` finite, n at least 3.
        y: ``(n,)`` finite.
        level: Nominal coverage.
        seed: Seed of the random orders used beyond n = 8.

    Raises:
        InputError: If lengths differ, n < 3, a value is not finite, or a quantity is constant.

    Examples:
        >>> pearson, spearman, kendall = correlate([1, 2, 3, 4], [1, 4, 9, 16])
        >>> spearman.value.estimate, round(spearman.p_permutation, 4), spearman.exact
        (1.0, 0.0833, True)
    """
    from scipy import stats

    left, right = _checked(x, y)
    usual: dict[str, Callable[[Floats, Floats], tuple[float, float]]] = {
        "pearson": stats.pearsonr,
        "spearman": stats.spearmanr,
        "kendall": partial(stats.kendalltau, method="asymptotic"),
    }
    ties = len(set(left)) < len(left) or len(set(right)) < len(right)
    results = []
    for name, function in usual.items():
        value, p_asymptotic = (float(part) for part in function(left, right))
        p_permutation, exact = permutation_p(left, right, name, seed=seed)
        results.append(
            Correlation(
                statistic=name,
                n=len(left),
                value=coefficient_interval(value, len(left), name, level),
                p_asymptotic=p_asymptotic,
                p_permutation=p_permutation,
                exact=exact,
                ties=ties,
                leave_one_out=_leave_one_out(left, right, name),
            )
        )
    return results


def coefficient(x: ArrayLike, y: ArrayLike, statistic: str) -> float:
    """A coefficient by name, with average ranks for ties; NaN when a side is constant."""
    left, right = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    same = np.arange(len(left))[None]
    return float(
        _cosines(_features(left, statistic, same)[0], _features(right, statistic, same))[0]
    )


def permutation_p(
    x: ArrayLike,
    y: ArrayLike,
    statistic: str,
    *,
    seed: int = BOOTSTRAP_SEED,
    orders: int = RANDOM_ORDERS,
) -> tuple[float, bool]:
    """Two-sided permutation p-value of a coefficient, and whether it is exact.

    The p-value is the share of orders of ``y`` whose coefficient is at least as far from zero.

    Args:
        x: ``(n,)``.
        y: ``(n,)``.
        statistic: ``pearson``, ``spearman`` or ``kendall``.
        seed: Seed of the random orders beyond n = 8.
        orders: How many of them.
    """
    left, right = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    n = len(left)
    exact = n <= EXACT_N
    if exact:
        drawn = np.array(list(permutations(range(n))))
    else:
        drawn = np.random.default_rng(seed).permuted(np.tile(np.arange(n), (orders, 1)), axis=1)
    # A hair below the observed value: orders that tie with it must count in spite of rounding.
    bound = abs(coefficient(left, right, statistic)) - 1e-12
    feature = _features(left, statistic, np.arange(n)[None])[0]
    blocks = np.array_split(drawn, max(1, len(drawn) * n * n // _BLOCK_ELEMENTS))
    extreme = sum(
        int((np.abs(_cosines(feature, _features(right, statistic, block))) >= bound).sum())
        for block in blocks
    )
    return (extreme / len(drawn), True) if exact else ((extreme + 1) / (len(drawn) + 1), False)


def _features(values: Floats, statistic: str, orders: NDArray[np.intp]) -> Floats:
    """Vectors whose cosine is the coefficient, one for each order: ``(P, n)`` or ``(P, n*n)``."""
    if statistic == "kendall":
        signs = np.sign(values[:, None] - values[None, :])
        return signs[orders[:, :, None], orders[:, None, :]].reshape(len(orders), -1)
    if statistic == "spearman":
        from scipy.stats import rankdata

        values = rankdata(values)
    return (values - values.mean())[orders]


def _cosines(feature: Floats, features: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        norms = np.linalg.norm(feature) * np.linalg.norm(features, axis=1)
        return np.where(norms > 0, features @ feature / norms, np.nan)


def _checked(x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    left, right = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if left.shape != right.shape or left.ndim != 1:
        raise InputError(f"the two quantities have {left.size} and {right.size} values")
    if len(left) < 3:
        raise InputError(f"a correlation needs at least 3 pairs, not {len(left)}")
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        raise InputError("a value to be correlated is missing or not a number")
    if np.ptp(left) == 0 or np.ptp(right) == 0:
        raise InputError("one of the two quantities is the same for every method")
    return left, right


def coefficient_interval(
    value: float, n: int, statistic: str, level: float = CONFIDENCE
) -> Interval:
    """Interval of a coefficient on the scale of Fisher's z, with the variance of the statistic.

    Args:
        value: The coefficient.
        n: Number of pairs.
        statistic: ``pearson``, ``spearman`` or ``kendall``.
        level: Nominal coverage.
    """
    from scipy.stats import norm

    spare = n - (4 if statistic == "kendall" else 3)
    if spare <= 0 or abs(value) >= 1:
        return Interval(value, math.nan, math.nan, level)
    variance = {
        "pearson": 1.0 / spare,
        "spearman": (1 + value * value / 2) / spare,
        "kendall": 0.437 / spare,
    }[statistic]
    centre = math.atanh(value)
    reach = float(norm.ppf((1 + level) / 2)) * math.sqrt(variance)
    return Interval(value, math.tanh(centre - reach), math.tanh(centre + reach), level)


def _leave_one_out(x: Floats, y: Floats, statistic: str) -> tuple[float, ...]:
    if len(x) < 4:
        return (math.nan,) * len(x)
    return tuple(coefficient(np.delete(x, k), np.delete(y, k), statistic) for k in range(len(x)))
