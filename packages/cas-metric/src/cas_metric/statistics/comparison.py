"""Methods against each other on the cases they share.

Two kinds of spread are kept apart. The standard deviation over *generation seeds* says how much the
sampler's noise moves a mean (Table 5 of the paper); the *case-level* interval says how far the mean
would move with other test cases. Neither contains the other, and neither holds the variance of
training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cas_metric.errors import InputError
from cas_metric.protocol import BOOTSTRAP_SEED, CONFIDENCE
from cas_metric.statistics.aggregate import (
    DD_WEIGHT,
    as_text,
    bounds_of_difference,
    case_clusters,
)
from cas_metric.statistics.intervals import (
    Part,
    combine,
    effective_clusters,
    mean_part,
    rate_part,
)
from cas_metric.statistics.uncertainty import (
    Codes,
    Floats,
    Interval,
    cluster_codes,
    cluster_sums,
)

if TYPE_CHECKING:
    import pandas as pd

#: Up to this many clusters every pattern of signs is enumerated (2^14 of them).
EXACT_CLUSTERS = 14
#: Random sign patterns beyond that; the smallest p-value is 1 / (PERMUTATIONS + 1).
PERMUTATIONS = 20_000
_BLOCK_SIGNS = 4_000_000


class PValue(NamedTuple):
    """A p-value and whether every arrangement was enumerated for it."""

    value: float
    exact: bool


class SeedSpread(NamedTuple):
    """Mean over generation seeds.

    Attributes:
        seeds: Number of seeds.
        mean: Mean of the per-seed means.
        std: Sample standard deviation of the per-seed means; NaN with one seed.
    """

    seeds: int
    mean: float
    std: float


class PairedDifference(NamedTuple):
    """One method minus another on their common cases.

    Attributes:
        left: Name of the method subtracted from.
        right: Name of the method subtracted.
        n_cases: Number of common cases.
        n_clusters: Independent units among them (patients, where these are known).
        difference: Mean paired difference with its case-level interval.
        p: Two-sided sign-flip permutation p-value.
        p_adjusted: The same after Holm's correction over all pairs.
        win_rate: Share of cases in which ``left`` is higher, a tie counting one half.
        wins: Cases in which ``left`` is higher.
        losses: Cases in which ``right`` is higher.

    Examples:
        >>> (found,) = paired_differences({"a": [0.5, 0.6, 0.7], "b": [0.4, 0.5, 0.6]})
        >>> found.left, found.right, round(found.difference.estimate, 3), found.win_rate.estimate
        ('a', 'b', 0.1, 1.0)
    """

    left: str
    right: str
    n_cases: int
    n_clusters: int
    difference: Interval
    p: PValue
    p_adjusted: float
    win_rate: Interval
    wins: int
    losses: int


def case_keys(rows: pd.DataFrame) -> NDArray[Any]:
    """What identifies a case across methods: the reference image, else the id, ``(N,)``."""
    if "reference" in rows and len(rows):
        references = as_text(rows["reference"])
        if (references != "").all():
            return references.to_numpy()
    return rows["id"].astype(str).to_numpy()


def case_table(
    rows: pd.DataFrame, quantity: str = "cas", *, counted: bool = False
) -> tuple[pd.DataFrame, NDArray[Any]]:
    """One row a case, one column a method; seeds and samples of a case are averaged first.

    Args:
        rows: Rows of all methods.
        quantity: Column of the value.
        counted: How many values there are, in place of their mean.

    Returns:
        The table (NaN where a method lacks the case), and the cluster label of every case.

    Examples:
        >>> import pandas as pd
        >>> table, clusters = case_table(pd.read_csv("demo/run/per_image.csv"))
        >>> table.columns.tolist(), len(table) == len(clusters)
        (['degraded', 'faithful', 'wrong'], True)
    """
    long = rows.assign(_case=case_keys(rows), _cluster=case_clusters(rows))
    table = long.pivot_table(
        index="_case",
        columns="method",
        values=quantity,
        aggfunc="count" if counted else "mean",
        observed=True,
    )
    table = table.reindex(columns=list(dict.fromkeys(rows["method"])))
    clusters = long.groupby("_case")["_cluster"].first().reindex(table.index)
    return table, clusters.to_numpy()


def seed_spread(values: ArrayLike, seeds: ArrayLike) -> SeedSpread:
    """Mean and standard deviation of the per-seed means.

    Args:
        values: ``(N,)``; NaN is left out.
        seeds: ``(N,)`` generation seed of each value.

    Examples:
        >>> found = seed_spread([0.4, 0.5, 0.5, 0.6], seeds=[0, 0, 1, 1])
        >>> found.seeds, round(found.mean, 3), round(found.std, 3)
        (2, 0.5, 0.071)
    """
    numbers, labels = np.asarray(values, dtype=np.float64), np.asarray(seeds)
    kept = np.isfinite(numbers)
    groups = np.unique(labels[kept])
    means = np.array([numbers[kept & (labels == group)].mean() for group in groups])
    if not len(means):
        return SeedSpread(0, float("nan"), float("nan"))
    std = float(means.std(ddof=1)) if len(means) > 1 else float("nan")
    return SeedSpread(len(means), float(means.mean()), std)


def sign_flip_test(
    differences: ArrayLike,
    *,
    clusters: Sequence[Any] | NDArray[Any] | None = None,
    permutations: int = PERMUTATIONS,
    seed: int = BOOTSTRAP_SEED,
    one_sided: bool = False,
) -> PValue:
    """Permutation test that paired differences are symmetric about zero.

    Under the hypothesis the two methods of a case are exchangeable, so the sign of each cluster's
    summed difference is a coin toss. All patterns are enumerated for few clusters; otherwise random
    ones are drawn and the observed pattern counts among them (Phipson and Smyth 2010).

    Args:
        differences: ``(N,)`` finite.
        clusters: ``(N,)`` labels of what flips together; None flips cases.
        permutations: Number of random patterns.
        seed: Seed of the patterns.
        one_sided: Test for a positive mean alone; two-sided by default.

    Examples:
        >>> sign_flip_test([0.1, 0.2, 0.1, 0.3, 0.2])  # 2 of 32 patterns are as far from zero
        PValue(value=0.0625, exact=True)
    """
    values = np.asarray(differences, dtype=np.float64)
    codes, count = cluster_codes(clusters, len(values))
    sums = cluster_sums(values[:, None], codes, count)[:, 0]
    sums = sums[sums != 0]
    if not len(sums):
        return PValue(1.0, exact=True)
    (value,) = sign_flip_values(
        sums[:, None], permutations=permutations, seed=seed, one_sided=one_sided
    )
    return PValue(float(value), exact=len(sums) <= EXACT_CLUSTERS)


def sign_flip_values(
    sums: Floats,
    *,
    permutations: int = PERMUTATIONS,
    seed: int = BOOTSTRAP_SEED,
    one_sided: bool = False,
) -> Floats:
    """``(k,)`` p-values of :func:`sign_flip_test` of each column, from the same patterns of signs.

    Args:
        sums: ``(n, k)`` summed differences of ``n`` clusters.
        permutations: Number of random patterns, where there are too many to enumerate.
        seed: Seed of the patterns.
        one_sided: Test for a positive sum alone.
    """
    n, k = sums.shape
    # A hair below the observed value: patterns that tie with it must count in spite of rounding.
    size = (lambda totals: totals) if one_sided else np.abs
    bounds = size(sums.sum(axis=0)) - 1e-12 * np.abs(sums).sum(axis=0)
    exact = n <= EXACT_CLUSTERS
    total = 2**n if exact else permutations
    rng, extreme = np.random.default_rng(seed), np.zeros(k)
    block = max(1, _BLOCK_SIGNS // max(n, k))
    for start in range(0, total, block):
        rows = min(block, total - start)
        if exact:
            tossed = np.arange(start, start + rows)[:, None] >> np.arange(n) & 1
        else:
            tossed = rng.integers(0, 2, size=(rows, n), dtype=np.int8)
        extreme += (size((tossed * 2.0 - 1.0) @ sums) >= bounds).sum(axis=0)
    return extreme / total if exact else (extreme + 1) / (total + 1)


def holm(p_values: ArrayLike) -> Floats:
    """Holm's step-down correction (Holm 1979): adjusted p-values, in the order given.

    A NaN is no test: it stays what it is and is not counted in the family.

    Examples:
        >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
        [0.03, 0.06, 0.06]
    """
    values = np.asarray(p_values, dtype=np.float64)
    known = int(np.isfinite(values).sum())
    order = np.argsort(values, kind="stable")[:known]  # NaN comes last
    stepped = values[order] * np.arange(known, 0, -1)
    adjusted = np.full_like(values, np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return adjusted


def paired_differences(
    table: Mapping[str, ArrayLike] | pd.DataFrame,
    *,
    clusters: Sequence[Any] | NDArray[Any] | None = None,
    diagnoses: Mapping[str, ArrayLike] | pd.DataFrame | None = None,
    images: Mapping[str, ArrayLike] | pd.DataFrame | None = None,
    permutations: int = PERMUTATIONS,
    level: float = CONFIDENCE,
    seed: int = BOOTSTRAP_SEED,
) -> list[PairedDifference]:
    """Every pair of methods, each on the cases that both have.

    Args:
        table: Method to ``(cases,)`` values, NaN where it lacks the case.
        clusters: ``(cases,)`` labels of what varies and flips together.
        diagnoses: The share of right diagnoses of the same methods and cases, where the values are
            CAS, which holds a quarter of it: a difference of rates needs limits of its own.
        images: How many images each of the diagnoses is a share of; one without.
        permutations: Number of random sign patterns.
        level: Nominal coverage.
        seed: Seed of the sign patterns.

    Raises:
        InputError: If two methods have no case in common.

    Examples:
        >>> table = {"craft": [0.5, 0.6, 0.7], "lora": [0.4, 0.5, 0.5], "base": [0.2, 0.3, 0.3]}
        >>> [(one.left, one.right) for one in paired_differences(table)]
        [('craft', 'lora'), ('craft', 'base'), ('lora', 'base')]
        >>> paired_differences(table)[0].p  # of 8 sign patterns
        PValue(value=0.25, exact=True)
    """
    columns, rates, sizes = (_columns(one) for one in (table, diagnoses, images))
    pairs = list(combinations(columns, 2))
    found = []
    for a, b in pairs:
        gap = _gap(columns, a, b)
        kept = np.isfinite(gap)
        labels = None if clusters is None else np.asarray(clusters)[kept]
        codes, count = cluster_codes(labels, int(kept.sum()))
        own = (rates[a][kept], rates[b][kept]) if a in rates and b in rates else None
        behind = [int(np.nansum(sizes[k][kept])) if k in sizes else 0 for k in (a, b)]
        wins = 0.5 * (np.sign(gap[kept]) + 1)
        rate = rate_part(wins, codes, count, level, trials=2 * len(wins))
        found.append(
            PairedDifference(
                left=a,
                right=b,
                n_cases=len(codes),
                n_clusters=count,
                difference=difference_part(
                    gap[kept], own, codes, count, level, images=(behind[0], behind[1])
                ).interval(level, bounds_of_difference("cas" if own else "")),
                p=sign_flip_test(gap[kept], clusters=labels, permutations=permutations, seed=seed),
                p_adjusted=float("nan"),
                win_rate=rate.interval(level, (0.0, 1.0)),
                wins=int((gap[kept] > 0).sum()),
                losses=int((gap[kept] < 0).sum()),
            )
        )
    adjusted = holm([one.p.value for one in found])
    return [one._replace(p_adjusted=float(p)) for one, p in zip(found, adjusted, strict=True)]


def difference_part(
    gap: Floats,
    rates: tuple[Floats, Floats] | None,
    codes: Codes,
    count: int,
    level: float = CONFIDENCE,
    *,
    images: tuple[int, int] = (0, 0),
) -> Part:
    """Mean difference; that of the diagnoses apart, where they are known for every case.

    Args:
        gap: ``(N,)`` finite differences in CAS, or in another quantity without ``rates``.
        rates: ``(N,)`` share of right diagnoses of either method.
        codes: ``(N,)`` cluster of each case.
        count: Clusters.
        level: Nominal coverage.
        images: How many images the rates of either method are of; one a case without.
    """
    if rates is None or not np.isfinite(np.concatenate(rates)).all():
        return mean_part(gap, codes, count, level)
    rest = mean_part(gap - DD_WEIGHT * (rates[0] - rates[1]), codes, count, level)
    if rest.lacks and np.array_equal(*rates):  # nothing differs
        return rest
    shares, signs = _rates(rates, codes, count, level, images)
    return combine([rest, *shares], [1.0, *(DD_WEIGHT * sign for sign in signs)])


def rate_difference(
    rates: tuple[Floats, Floats],
    codes: Codes,
    count: int,
    level: float = CONFIDENCE,
    images: tuple[int, int] = (0, 0),
) -> Part:
    """Difference of two rates on the same cases; arguments as of :func:`difference_part`."""
    return combine(*_rates(rates, codes, count, level, images))


def _rates(
    rates: tuple[Floats, Floats], codes: Codes, count: int, level: float, images: tuple[int, int]
) -> tuple[list[Part], list[float]]:
    """Both rates and their signs in a difference; where they agree in every case, what it may be.

    The limits of rates that vary together would cancel. Where they agree in all of C clusters, a
    share q of clusters in which they differ is as improbable as (1 - q)^C, and no difference is
    larger than q: the limits are those of Clopper and Pearson (1934) for 0 of C.
    """
    if np.array_equal(*rates) and count > 1:
        most = 1 - ((1 - level) / 2) ** (1 / effective_clusters(codes))
        return [Part(0.0, -most, most, np.zeros(count))], [1.0]
    shares = [
        rate_part(rate, codes, count, level, trials=trials, student=True)
        for rate, trials in zip(rates, images, strict=True)
    ]
    return shares, [1.0, -1.0]


def _columns(table: Mapping[str, ArrayLike] | pd.DataFrame | None) -> dict[str, Floats]:
    if table is None:
        return {}
    return {str(name): np.asarray(table[name], dtype=np.float64) for name in table}


def _gap(columns: Mapping[str, Floats], left: str, right: str) -> Floats:
    gap = columns[left] - columns[right]
    if not np.isfinite(gap).any():
        raise InputError(
            f"the methods {left!r} and {right!r} have no case in common",
            fix="score them on the same references (or ids)",
        )
    return gap
