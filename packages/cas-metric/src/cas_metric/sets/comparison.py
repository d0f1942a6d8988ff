"""All set measures of generated against real features, held against the cohort of real ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cas_metric.protocol import BOOTSTRAP_SEED
from cas_metric.sets.cohort import (
    FLAG_LEVEL,
    SPLITS,
    KernelTest,
    bandwidth,
    block_means,
    kernel_test,
    matched_size,
    size_matched,
    splits_for,
)
from cas_metric.sets.fidelity import (
    NEIGHBOURS,
    Floats,
    Manifolds,
    frechet_distance,
    frechet_infinity,
    manifolds,
)
from cas_metric.sets.kernels import cmmd, kernel_distance
from cas_metric.sets.nearest import NEARER_LEVEL, Nearest, nearest_class
from cas_metric.statistics.comparison import holm

#: Measures that are taken block by block, in the order of a table.
BLOCK_MEASURES: Final = ("kernel_distance", "cmmd", *Manifolds._fields)
#: Scope of a comparison of everything.
ALL: Final = "all"


class ImageSet(NamedTuple):
    """Features of a set and what is known of each image.

    Attributes:
        features: ``(N, D)`` finite.
        labels: ``(N,)`` classes, empty where there is none.
        clusters: ``(N,)`` patients, or what else makes images dependent.
        groups: Attribute to ``(N,)`` group of each image, empty where it is not known.
    """

    features: Floats
    labels: NDArray[np.str_]
    clusters: NDArray[Any]
    groups: dict[str, NDArray[np.str_]] = {}  # noqa: RUF012 - never changed

    def take(self, kept: NDArray[np.bool_]) -> ImageSet:
        """The images that are kept."""
        return ImageSet(
            self.features[kept],
            self.labels[kept],
            self.clusters[kept],
            {name: column[kept] for name, column in self.groups.items()},
        )


def compare_sets(
    methods: dict[str, ImageSet],
    real: ImageSet,
    *,
    k: int = NEIGHBOURS,
    seed: int = BOOTSTRAP_SEED,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, dict[str, dict[str, Any]]]:
    """Every method against the real images: all of them, each class and each declared group.

    Args:
        methods: Name to its images.
        real: The reference.
        k: Neighbours of precision, recall, density and coverage.
        seed: Seed of blocks, splits and subsets.
        progress: Told how many comparisons are done.

    Returns:
        Method to scope (``all``, a class, or ``attribute = group``) to :func:`compare_pair`. Scopes
        with too few images are left out. The p-values of all tests together are corrected by Holm,
        and are of so many splits that a set far away passes the correction. A class also has what
        :func:`nearest_classes` says.
    """
    pairs = [
        (name, scope, ours, theirs)
        for name, images in methods.items()
        for scope, ours, theirs in _scopes(images, real)
        if scope == ALL or not _too_few(ours, theirs, k)
    ]
    found: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in methods}
    splits = splits_for(len(pairs))
    for done, (name, scope, ours, theirs) in enumerate(pairs, start=1):
        found[name][scope] = compare_pair(ours, theirs, k=k, splits=splits, seed=seed)
        if progress is not None:
            progress(done, len(pairs))
    tests = [one["test"] for entry in found.values() for one in entry.values() if one["test"]]
    for test, p in zip(tests, holm([test["p"] for test in tests]), strict=True):
        test |= {"p_holm": float(p), "flagged": bool(p <= FLAG_LEVEL)}
    for name, scopes in nearest_classes(methods, real, seed=seed).items():
        for scope, nearest in scopes.items():
            if scope in found[name]:
                found[name][scope] |= nearest
    return found


def left_out(
    methods: dict[str, ImageSet], real: ImageSet, *, k: int = NEIGHBOURS
) -> list[tuple[str, str, int, int]]:
    """Method and scope of what :func:`compare_sets` leaves out, with both numbers of images."""
    return [
        (name, scope, len(ours.features), len(theirs.features))
        for name, images in methods.items()
        for scope, ours, theirs in _scopes(images, real)
        if scope != ALL and _too_few(ours, theirs, k)
    ]


def compare_pair(
    generated: ImageSet,
    real: ImageSet,
    *,
    k: int = NEIGHBOURS,
    splits: int = SPLITS,
    seed: int = BOOTSTRAP_SEED,
) -> dict[str, Any]:
    """One set against the real one, by so many ``splits`` of the real patients.

    Returns:
        ``n_generated``, ``n_real``; over all images ``frechet_distance``, ``frechet_infinity`` (NaN
        unless a tenth of the images are more than the dimensions), ``kernel_distance`` and
        ``cmmd``; at the matched size ``precision, recall, density, coverage``; ``matched`` with the
        size and each measure of ``generated`` and of ``real``, and the ratio of Fréchet distances
        with its interval; and ``test``, see :func:`~cas_metric.sets.cohort.kernel_test`.
    """
    ours, theirs = generated.features, real.features
    size = matched_size(len(ours), len(theirs), real.clusters)
    enough = len(ours) // 10 > ours.shape[1]
    test = kernel_test(
        *(ours, theirs),
        generated_clusters=generated.clusters,
        real_clusters=real.clusters,
        splits=splits,
        seed=seed,
    )
    matched: dict[str, Any] = {"size": size}
    distance = size_matched(ours, theirs, frechet_distance, real_clusters=real.clusters, seed=seed)
    if distance is not None:
        matched["frechet_distance"] = distance._asdict()
    measure = _block_measures(k if size > k else 0)
    means = block_means(ours, theirs, measure, real_clusters=real.clusters, seed=seed)
    if means is not None:
        for name, own, other in zip(BLOCK_MEASURES, *(m.tolist() for m in means), strict=True):
            matched[name] = {"generated": own, "real": other}
    infinity = frechet_infinity(ours, theirs, seed=seed) if enough else math.nan
    return {
        "n_generated": len(ours),
        "n_real": len(theirs),
        "frechet_distance": frechet_distance(ours, theirs),
        "frechet_infinity": infinity,
        "kernel_distance": kernel_distance(ours, theirs, seed=seed)._asdict(),
        "cmmd": cmmd(ours, theirs),
        **{name: matched.get(name, {}).get("generated", math.nan) for name in Manifolds._fields},
        "matched": matched,
        "test": _plain(test),
    }


def nearest_classes(
    methods: dict[str, ImageSet], real: ImageSet, *, seed: int = BOOTSTRAP_SEED
) -> dict[str, dict[str, dict[str, Any]]]:
    """The real class that each class of each method lies nearest to.

    A class that lies nearer to another one shows the wrong thing, or has the wrong label. Distances
    by different kernels do not compare, so all have one width.

    Args:
        methods: Name to its images.
        real: The reference.
        seed: Of the thinning of sets that are too large.

    Returns:
        Method to class to ``nearest_class``, another one only where that lies nearer beyond the
        error of both distances, and ``nearest_p``, the p-value of that by Holm over methods and
        classes. Classes with too few patients to say are left out.
    """
    width = bandwidth(real.features, seed=seed)
    found: dict[tuple[str, str], Nearest] = {}
    for name, images in methods.items():
        for scope in sorted(set(images.labels.tolist()) & set(real.labels.tolist()) - {""}):
            ours = images.take(images.labels == scope)
            nearest = nearest_class(
                *(ours.features, scope, real.features, real.labels),
                width=width,
                generated_clusters=ours.clusters,
                real_clusters=real.clusters,
                seed=seed,
            )
            if nearest is not None:
                found[name, scope] = nearest
    entries: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in methods}
    adjusted = holm([one.p for one in found.values()]).tolist()
    for ((name, scope), one), p in zip(found.items(), adjusted, strict=True):
        told = one.name if p <= NEARER_LEVEL else scope
        entries[name][scope] = {"nearest_class": told, "nearest_p": p}
    return entries


def _too_few(ours: ImageSet, theirs: ImageSet, k: int) -> bool:
    return min(len(ours.features), len(theirs.features)) <= k


def _scopes(images: ImageSet, real: ImageSet) -> list[tuple[str, ImageSet, ImageSet]]:
    found = [(ALL, images, real)]
    several = len({*images.labels, *real.labels}) > 1  # one class alone is all images
    found += [
        (str(label), images.take(images.labels == label), real.take(real.labels == label))
        for label in np.unique(images.labels)
        if label and several
    ]
    for name, column in images.groups.items():
        for group in np.unique(column):
            if group and name in real.groups:
                sides = images.take(column == group), real.take(real.groups[name] == group)
                found.append((f"{name} = {group}", *sides))
    return found


def _block_measures(k: int) -> Callable[[Floats, Floats], list[float]]:
    def measure(left: Floats, right: Floats) -> list[float]:
        overlap = manifolds(left, right, k=k) if k else [math.nan] * len(Manifolds._fields)
        subset = kernel_distance(left, right, subset_size=len(left)).mean
        return [subset, cmmd(left, right), *overlap]

    return measure


def _plain(test: KernelTest | None) -> dict[str, Any] | None:
    return None if test is None else test._asdict()
