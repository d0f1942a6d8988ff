"""Is a generated set farther from real images than real images are from one another?

The distance of two sets means nothing by itself: it depends on the encoder, on the number of images
and on how different patients are. It is therefore held against the *cohort*: the distances between
blocks of real images that share no patient and are as large as the generated set.

* :func:`kernel_test` says whether the generated set lies beyond them: an unbiased kernel distance
  against its distribution over splits of the real patients. Pairs within one patient (or, of
  generated images, within one reference) are left out, and the spread is scaled to the sizes and
  design effects at hand, so that all images are used.
* :func:`size_matched` says by how much, on the scale of a distance: the mean over blocks of the
  generated set against real blocks, and of real blocks against each other.

Sources: Gretton et al. (2012), the kernel two-sample test and its permutation; Kish (1965), the
design effect; Besag and Clifford (1991), a Monte Carlo test that ends early; Efron and Stein
(1981), the jackknife, here over groups of patients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cas_metric.protocol import BOOTSTRAP_SEED, CONFIDENCE
from cas_metric.sets.fidelity import Floats
from cas_metric.statistics.uncertainty import Codes, cluster_codes

#: Splits of the real patients behind a p-value, at least.
SPLITS: Final = 999
#: Splits that a tail is told from: so many beyond the distance found end the drawing of more.
_ENOUGH: Final = 10
#: One-sided level of a flag, after correction for the number of comparisons.
FLAG_LEVEL: Final = 0.025
#: Images of a set in a kernel matrix; larger sets are thinned at random.
MOST_IMAGES: Final = 3000
#: Patients that each half needs for their splits to form a distribution.
FEWEST_CLUSTERS: Final = 6
#: From so many on, the number of their halves is beyond every p-value.
_MANY_CLUSTERS: Final = 100
#: Images of a block at most, blocks, and groups of the jackknife.
MOST_IN_BLOCK: Final = 1000
_BLOCKS: Final = 4
_GROUPS: Final = 10
_BLOCK_SPLITS: Final = 200

Distance = Callable[[Floats, Floats], float]
Labels = Sequence[Any] | NDArray[Any] | None


class KernelTest(NamedTuple):
    """A generated set against the splits of real patients.

    Attributes:
        discrepancy: Unbiased squared kernel distance; about 0 for two sets of one distribution.
        z: The same in standard deviations of real against real, from its mean.
        p: Share of real-to-real distances at least as large, one-sided. Not below ten
            in the number of ways to halve the patients: of the tail beyond, few patients tell
            nothing (their false alarms are several times what it promises).
        n_generated: Generated images that entered.
        n_real: Real images that entered.
        real_clusters: Patients among them, or images where no patients are known.
    """

    discrepancy: float
    z: float
    p: float
    n_generated: int
    n_real: int
    real_clusters: int


class Matched(NamedTuple):
    """A distance at one size, beside that of real images at the same size.

    Attributes:
        generated: Mean distance between the generated set and real blocks.
        real: Mean distance between real blocks that share no patient.
        ratio: Generated over real, as geometric mean over blocks.
        low: Lower end of the ratio's 95% interval; NaN without an interval.
        high: Upper end.
    """

    generated: float
    real: float
    ratio: float = math.nan
    low: float = math.nan
    high: float = math.nan


def splits_for(tests: int, level: float = FLAG_LEVEL) -> int:
    """Splits whose smallest p-value is far below ``level`` once corrected for so many tests.

    Examples:
        >>> splits_for(1), splits_for(105)
        (999, 42000)
    """
    return max(SPLITS, math.ceil(_ENOUGH * tests / level))


def bandwidth(real: Floats, *, seed: int = BOOTSTRAP_SEED) -> float:
    """Median squared distance between two of the ``(M, D)`` real images, above 0."""
    rows, _ = thinned(real, None, np.random.default_rng(seed))
    return _median_distance(_squared_distances(rows, rows))


def kernel_test(
    generated: Floats,
    real: Floats,
    *,
    generated_clusters: Labels = None,
    real_clusters: Labels = None,
    splits: int = SPLITS,
    width: float | None = None,
    seed: int = BOOTSTRAP_SEED,
) -> KernelTest | None:
    """Test whether a generated set is farther from the real one than real patients from others.

    The kernel is Gaussian. Discrepancies compare only where they are of one width.

    Args:
        generated: ``(N, D)`` finite features.
        real: ``(M, D)``.
        generated_clusters: ``(N,)`` what makes generated images dependent, such as the reference
            that several samples share; None takes every image for itself.
        real_clusters: ``(M,)`` patients.
        splits: Random splits of the real patients; no more than :data:`SPLITS` where the set is
            clearly not beyond them.
        width: Squared bandwidth; None takes :func:`bandwidth` of these real images.
        seed: Seed of the splits.

    Returns:
        None where there are too few patients or images to say.

    Examples:
        >>> rows = np.random.default_rng(0).normal(size=(200, 4))
        >>> kernel_test(rows[:60] + 1, rows[60:]).p
        0.001
    """
    rng = np.random.default_rng(seed)
    ours, our_codes = thinned(generated, generated_clusters, rng)
    theirs, codes = thinned(real, real_clusters, rng)
    clusters = int(codes.max(initial=-1)) + 1
    if clusters < 2 * FEWEST_CLUSTERS or len(np.unique(our_codes)) < FEWEST_CLUSTERS:
        return None
    squared = _squared_distances(theirs, theirs)
    width = _median_distance(squared) if width is None else width
    within_real = _Gram(np.exp(-squared / width), codes)
    within_ours = _Gram(np.exp(-_squared_distances(ours, ours) / width), our_codes)
    across = float(np.exp(-_squared_distances(ours, theirs) / width).mean())
    found = within_ours.mean + within_real.mean - 2 * across
    scale = within_ours.design / len(ours) + within_real.design / len(theirs)
    null = np.empty(0)
    for count in (min(splits, SPLITS), splits - SPLITS):
        if count > 0 and (null >= found).sum() < _ENOUGH:
            values, inverse_sizes = _between_blocks(within_real, len(ours), count, rng)
            values *= scale / (within_real.design * inverse_sizes)
            null = np.concatenate([null, values])
    spread = float(null.std(ddof=1))
    halves = math.comb(clusters, clusters // 2) // 2 if clusters < _MANY_CLUSTERS else math.inf
    return KernelTest(
        discrepancy=found,
        z=(found - float(null.mean())) / spread if spread > 0 else math.nan,
        p=max((1 + int((null >= found).sum())) / (len(null) + 1), _ENOUGH / (1 + halves)),
        n_generated=len(ours),
        n_real=len(theirs),
        real_clusters=clusters,
    )


def block_means(
    generated: Floats,
    real: Floats,
    measure: Callable[[Floats, Floats], ArrayLike],
    *,
    real_clusters: Labels = None,
    seed: int = BOOTSTRAP_SEED,
) -> tuple[Floats, Floats] | None:
    """Measures of generated against real blocks and of real against real blocks, at one size.

    Args:
        generated: ``(N, D)``.
        real: ``(M, D)``.
        measure: Of two sets of one size, the first in the generated set's place: K numbers.
        real_clusters: ``(M,)`` patients, none of whom is in two blocks.
        seed: Seed of the blocks.

    Returns:
        ``(K,)`` each, means over blocks; None where a block would hold fewer than two images.
    """
    codes = cluster_codes(real_clusters, len(real))[0]
    values = [
        (measure(generated[a], real[b]), measure(real[c], real[b]))
        for a, b, c in _blocks(len(generated), codes, np.random.default_rng(seed))
    ]
    if not values:
        return None
    ours, theirs = np.mean(np.asarray(values, dtype=np.float64), axis=0)
    return ours, theirs


def size_matched(
    generated: Floats,
    real: Floats,
    distance: Distance,
    *,
    real_clusters: Labels = None,
    seed: int = BOOTSTRAP_SEED,
) -> Matched | None:
    """A distance above 0 at the largest size that leaves two disjoint real blocks.

    The interval of the ratio leaves out a tenth of the patients and of the generated images in
    turn.

    Args:
        generated: ``(N, D)``.
        real: ``(M, D)``.
        distance: Of two sets.
        real_clusters: ``(M,)`` patients, none of whom is in two blocks.
        seed: Seed of the blocks.

    Returns:
        None where a block would hold fewer than two images.
    """
    codes = cluster_codes(real_clusters, len(real))[0]
    rng = np.random.default_rng(seed)
    blocks = list(_blocks(len(generated), codes, rng))
    if not blocks:
        return None
    full = np.array([_triple(distance, generated, real, *one) for one in blocks])
    ours, theirs = float(full[:, :2].mean()), float(full[:, 2].mean())
    our_groups = rng.permutation(np.arange(len(generated)) % _GROUPS)
    groups = rng.permutation(np.arange(codes.max() + 1) % _GROUPS)[codes]
    without = []
    for group in range(_GROUPS):
        kept = [
            (a[our_groups[a] != group], b[groups[b] != group], c[groups[c] != group])
            for a, b, c in blocks
        ]
        if min(len(part) for one in kept for part in one) < 2:
            return Matched(ours, theirs, math.exp(_log_ratio(full)))
        left = np.array([_triple(distance, generated, real, *one) for one in kept])
        without.append(_log_ratio(left))
    return Matched(ours, theirs, *_jackknife(_log_ratio(full), np.array(without)))


def matched_size(n_generated: int, n_real: int, real_clusters: Labels = None) -> int:
    """Images of a block: as many as generated ones, no more than half of the real ones."""
    codes, count = cluster_codes(real_clusters, n_real)
    largest = int(np.bincount(codes).max()) if count else 0
    return max(0, min(MOST_IN_BLOCK, n_generated, (n_real - largest + 1) // 2))


class _Gram:
    """A kernel matrix whose pairs within a cluster do not count."""

    def __init__(self, kernel: Floats, codes: Codes) -> None:
        self.codes = codes
        self.sizes = np.bincount(codes).astype(np.float64)
        same = codes[:, None] == codes
        centred = kernel - kernel.mean(axis=0) - kernel.mean(axis=1)[:, None] + kernel.mean()
        #: Variance of the mean embedding over that of independent images.
        self.design = max(1.0, float(centred[same].sum() / np.trace(centred)))
        self.values = np.where(same, 0.0, kernel)
        pairs = len(codes) ** 2 - float(np.square(self.sizes).sum())
        self.mean = float(self.values.sum()) / pairs


def _between_blocks(
    gram: _Gram, size: int, splits: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Kernel distances between two sides of a split of the clusters, and 1/a + 1/b of each.

    One side has about ``size`` images, no more than half.
    """
    images, clusters = len(gram.codes), len(gram.sizes)
    target = min(size, images // 2)
    rows, total = gram.values.sum(axis=1), float(gram.values.sum())
    squares = np.square(gram.sizes)
    values, inverse = [], []
    for start in range(0, splits, _BLOCK_SPLITS):
        count = min(_BLOCK_SPLITS, splits - start)
        order = rng.permuted(np.tile(np.arange(clusters), (count, 1)), axis=1)
        filled = np.cumsum(gram.sizes[order], axis=1)
        inside = filled - gram.sizes[order] / 2 <= target  # the nearer of two counts
        inside[:, 0], inside[:, -1] = True, False
        chosen = np.zeros((count, clusters))
        np.put_along_axis(chosen, order, inside.astype(np.float64), axis=1)
        a = chosen @ gram.sizes
        b = images - a
        side = chosen[:, gram.codes]
        within = ((side @ gram.values) * side).sum(axis=1)
        touching = side @ rows
        a_pairs, b_pairs = a * a - chosen @ squares, b * b - (1 - chosen) @ squares
        other = total - 2 * touching + within
        usable = (a_pairs > 0) & (b_pairs > 0)
        a_pairs, b_pairs = np.where(usable, a_pairs, 1), np.where(usable, b_pairs, 1)
        found = within / a_pairs + other / b_pairs - 2 * (touching - within) / (a * b)
        values.append(np.where(usable, found, 0.0))
        inverse.append(1 / a + 1 / b)
    return np.concatenate(values), np.concatenate(inverse)


def thinned(rows: Floats, clusters: Labels, rng: np.random.Generator) -> tuple[Floats, Codes]:
    """At most :data:`MOST_IMAGES` rows, whole clusters where that is possible, and their codes."""
    codes, count = cluster_codes(clusters, len(rows))
    if len(rows) <= MOST_IMAGES:
        return np.asarray(rows, dtype=np.float64), codes
    rank = rng.permutation(count)[codes]
    kept = np.sort(np.argsort(rank, kind="stable")[:MOST_IMAGES])
    return np.asarray(rows[kept], dtype=np.float64), cluster_codes(codes[kept], len(kept))[0]


def _median_distance(squared: Floats) -> float:
    return float(np.median(squared[np.triu_indices(len(squared), 1)])) or 1.0


def _squared_distances(left: Floats, right: Floats) -> Floats:
    from scipy.spatial.distance import cdist

    return cdist(left, right, "sqeuclidean")


def _blocks(
    n_generated: int, codes: Codes, rng: np.random.Generator
) -> Iterator[tuple[Codes, Codes, Codes]]:
    """Rows of a generated block and of two real blocks without a common cluster, of one size."""
    size = matched_size(n_generated, len(codes), codes)
    if size < 2:
        return
    for _ in range(_BLOCKS):
        order = np.argsort(rng.permutation(codes.max() + 1)[codes], kind="stable")
        # Cut between two clusters, at the cut nearest to the middle.
        cuts = np.flatnonzero(np.diff(codes[order])) + 1
        cut = int(cuts[np.abs(cuts - len(order) / 2).argmin()])
        first, second = order[:cut], order[cut:]
        taken = min(size, len(first), len(second))
        yield (
            rng.choice(n_generated, taken, replace=False),
            rng.choice(first, taken, replace=False),
            rng.choice(second, taken, replace=False),
        )


def _triple(
    distance: Distance, generated: Floats, real: Floats, ours: Codes, first: Codes, second: Codes
) -> tuple[float, float, float]:
    a, b, c = generated[ours], real[first], real[second]
    return distance(a, b), distance(a, c), distance(b, c)


def _log_ratio(distances: Floats) -> float:
    logs = np.log(np.maximum(distances, np.finfo(float).tiny))
    return float((logs[:, :2].mean(axis=1) - logs[:, 2]).mean())


def _jackknife(whole: float, without: Floats) -> tuple[float, float, float]:
    from scipy.special import stdtrit

    spread = math.sqrt((_GROUPS - 1) / _GROUPS * float(np.square(without - without.mean()).sum()))
    reach = float(stdtrit(_GROUPS - 1, 0.5 + CONFIDENCE / 2)) * spread
    return math.exp(whole), math.exp(whole - reach), math.exp(whole + reach)
