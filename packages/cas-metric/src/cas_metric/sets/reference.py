"""What the real reference itself is: how many patients, and whether it is one population."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cas_metric.protocol import BOOTSTRAP_SEED
from cas_metric.sets.cohort import kernel_test, splits_for
from cas_metric.sets.comparison import ImageSet
from cas_metric.sets.homogeneity import LEVEL, TwoGroups, two_groups
from cas_metric.statistics.tables import told_p

#: Below this many patients the spread from patient to patient is a guess.
FEW_CLUSTERS: Final = 20
#: Columns that name where an image comes from are looked at without being asked for.
SITE_NAMES: Final = frozenset(
    {"site", "hospital", "center", "centre", "institution", "clinic", "scanner", "source"}
)
#: Groups that a column may have, and images that each needs.
_MOST_GROUPS: Final = 20
_FEWEST_IMAGES: Final = 20


class Apart(NamedTuple):
    """A group of real images that is unlike the other real images.

    Attributes:
        column: What declares the group.
        group: Its value.
        n: Its images.
        z: Distance from the others in standard deviations of patients from patients.
        p: One-sided, corrected for the number of groups of the column.
    """

    column: str
    group: str
    n: int
    z: float
    p: float


def groups_apart(
    real: ImageSet, columns: dict[str, NDArray[np.str_]], *, seed: int = BOOTSTRAP_SEED
) -> list[Apart]:
    """Groups of each column that lie apart from the other real images, class means taken out."""
    rows = centred(real)
    found = []
    for name, column in columns.items():
        groups = [g for g in np.unique(column) if g and (column == g).sum() >= _FEWEST_IMAGES]
        if not 2 <= len(groups) <= _MOST_GROUPS:
            continue
        for group in groups[: 1 if len(groups) == 2 else None]:  # of two one says it all
            inside, known = column == group, np.isin(column, groups)
            test = kernel_test(
                *(rows[inside], rows[known & ~inside]),
                generated_clusters=real.clusters[inside],
                real_clusters=real.clusters[known & ~inside],
                splits=splits_for(len(groups), LEVEL),
                seed=seed,
            )
            if test is not None and (p := min(1.0, test.p * len(groups))) <= LEVEL:
                found.append(Apart(name, str(group), int(inside.sum()), test.z, p))
    return found


def centred(real: ImageSet) -> NDArray[np.float64]:
    """Features less the mean of their class: classes are no sites."""
    rows = real.features.copy()
    for label in np.unique(real.labels):
        rows[real.labels == label] -= rows[real.labels == label].mean(axis=0)
    return rows


def examine(
    real: ImageSet, columns: dict[str, NDArray[np.str_]], *, seed: int = BOOTSTRAP_SEED
) -> tuple[dict[str, Any], list[str]]:
    """Patients and populations of a reference.

    Args:
        real: The reference.
        columns: Name to ``(M,)`` groups that may be sites.
        seed: Seed of splits and resamples.

    Returns:
        Plain values, and a warning for each thing that makes distances to it hard to read.
    """
    clusters = len(np.unique(real.clusters))
    apart = groups_apart(real, columns, seed=seed)
    hidden = None if apart else two_groups(real.features, real.labels, real.clusters, seed=seed)
    facts = {
        "n": len(real.features),
        "clusters": clusters,
        "apart": [one._asdict() for one in apart],
        "two_groups": None if hidden is None else _described(hidden),
    }
    mixes = "distances to them mix what separates the groups with what separates generated images"
    warnings = [
        f"the real images are not one population: {one.column} = {one.group} ({one.n} images) lies "
        f"apart from the others (z = {one.z:.1f}); {mixes}: compare group by group, --by "
        f"{one.column}"
        for one in apart[:3]
    ]
    if hidden is not None:
        warnings.append(
            f"the real images fall into two groups within their classes ({hidden.share:.0%} and "
            f"{1 - hidden.share:.0%}, {told_p(hidden.p)}), as those of two sites do; {mixes}: name "
            "the site in a column and give --by site"
        )
    if clusters < FEW_CLUSTERS:
        warnings.append(
            f"the real images are of only {clusters} patients: how far patients lie from one "
            "another can hardly be told from so few"
        )
    return facts, warnings


def _described(found: TwoGroups) -> dict[str, Any]:
    return {"axis": found.axis, "p": found.p, "share": found.share}
