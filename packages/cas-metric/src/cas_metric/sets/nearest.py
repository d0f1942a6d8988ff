"""Does a set of images lie nearer to another real class than to its own?

The distance to each class has an error, and where classes are alike the smaller of two of them is
as good as chance: of real images of alike classes, half the sets lie nearer to another class
than to their own. The two distances are therefore compared by a test.

Source: Bounliphone et al. (2016), the test of relative similarity, here with a jackknife over
patients in place of their variance, which is too small where two classes are alike.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cas_metric.sets.cohort import FEWEST_CLUSTERS, Labels, thinned
from cas_metric.sets.fidelity import Floats
from cas_metric.statistics.uncertainty import Codes

#: Level of the warning, after Holm over classes and methods.
NEARER_LEVEL: Final = 0.05


class Nearest(NamedTuple):
    """The real class that a set lies nearest to.

    Attributes:
        name: That class, its own where none lies nearer.
        p: Probability of lying nearer by so much by chance, one-sided, Bonferroni over the other
            classes; 1 for its own class.
    """

    name: str
    p: float


class _Sample(NamedTuple):
    rows: Floats
    codes: Codes


def nearest_class(
    generated: Floats,
    own: str,
    real: Floats,
    labels: NDArray[np.str_],
    *,
    width: float,
    generated_clusters: Labels = None,
    real_clusters: NDArray[Any] | None = None,
    seed: int = 0,
) -> Nearest | None:
    """The real class that lies nearer than the set's own beyond its error, if there is one.

    Args:
        generated: ``(N, D)`` images of one class.
        own: Its name.
        real: ``(M, D)``.
        labels: ``(M,)`` their classes.
        width: Squared bandwidth of the Gaussian kernel.
        generated_clusters: ``(N,)`` what makes generated images dependent.
        real_clusters: ``(M,)`` patients.
        seed: Of the thinning of sets that are too large.

    Returns:
        None where the set, its own class or all others have too few patients to say.
    """
    rng = np.random.default_rng(seed)
    ours = _Sample(*thinned(generated, generated_clusters, rng))
    classes: dict[str, _Sample] = {}
    for label in np.unique(labels):
        kept = labels == label
        patients = None if real_clusters is None else real_clusters[kept]
        sample = _Sample(*thinned(real[kept], patients, rng))
        if label and _clusters(sample) >= 2 * FEWEST_CLUSTERS:
            classes[str(label)] = sample
    if own not in classes or len(classes) < 2 or _clusters(ours) < FEWEST_CLUSTERS:
        return None
    distances = {name: _leave_out(ours, one, width) for name, one in classes.items()}
    others = [
        Nearest(name, min(1.0, (len(classes) - 1) * _p(distances[own], distances[name])))
        for name in classes
        if name != own
    ]
    return min([Nearest(own, 1.0), *others], key=lambda one: one.p)


class _Distance(NamedTuple):
    """Squared kernel distance to a class, less what a set's distances to all classes share."""

    value: float
    without_ours: Floats
    without_theirs: Floats


def _p(own: _Distance, other: _Distance) -> float:
    """One-sided p-value of lying nearer to the other class: jackknife, Welch's freedom."""
    from scipy.special import stdtr

    sides = (own.without_ours - other.without_ours, own.without_theirs, other.without_theirs)
    spreads = [(len(one) - 1) * float(one.var()) for one in sides]
    found, total = own.value - other.value, sum(spreads)
    if not total:
        return float(found <= 0)
    parts = (v**2 / (len(one) - 1) for v, one in zip(spreads, sides, strict=True))
    return float(stdtr(total**2 / sum(parts), -found / math.sqrt(total)))


def _leave_out(ours: _Sample, theirs: _Sample, width: float) -> _Distance:
    """The distance with all patients, and without each of both sides."""
    across = _kernel(ours.rows, theirs.rows, width)
    same = theirs.codes[:, None] == theirs.codes
    within = np.where(same, 0.0, _kernel(theirs.rows, theirs.rows, width))
    sizes = np.bincount(theirs.codes).astype(np.float64)
    total, n = float(within.sum()), len(theirs.codes)
    pairs = n**2 - float(np.square(sizes).sum())
    left = total - 2 * np.bincount(theirs.codes, within.sum(axis=1))
    mean_without = left / (pairs - 2 * sizes * n + 2 * np.square(sizes))
    by_ours, by_theirs = across.mean(axis=1), across.mean(axis=0)
    mean = total / pairs
    return _Distance(
        mean - 2 * float(across.mean()),
        mean - 2 * _means_without(by_ours, ours.codes),
        mean_without - 2 * _means_without(by_theirs, theirs.codes),
    )


def _means_without(values: Floats, codes: Codes) -> Floats:
    """The mean of all values without those of each cluster."""
    return (values.sum() - np.bincount(codes, values)) / (len(values) - np.bincount(codes))


def _kernel(left: Floats, right: Floats, width: float) -> Floats:
    from scipy.spatial.distance import cdist

    return np.exp(-cdist(left, right, "sqeuclidean") / width)


def _clusters(sample: _Sample) -> int:
    return int(sample.codes.max(initial=-1)) + 1
