"""Generated images that score better than real ones: a sign of reward hacking.

A generator that is optimised against an encoder can leave the manifold of real images in the
direction the encoder rewards. DD, VDC or CCS above those of the real images is what that looks like
(§4.2.1 names the Real row a reference point, not a target; SFS is left out, being 1 for Real).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cas_metric.protocol import BOOTSTRAP_SEED, CONFIDENCE, RESAMPLES
from cas_metric.statistics.aggregate import case_clusters
from cas_metric.statistics.uncertainty import Interval, bootstrap_mean

if TYPE_CHECKING:
    import pandas as pd

#: Primitives that a real image does not fix by construction.
WATCHED = ("dd", "vdc", "ccs")


class ClassExcess(NamedTuple):
    """What one class adds to the excess.

    Attributes:
        label: The class.
        n: Generated images of it.
        generated: Their mean.
        real: Mean of the real images of the class; NaN without any.
        contribution: Share of images times the difference: these sum to the excess when generated
            and real images have the same class proportions.
    """

    label: str
    n: int
    generated: float
    real: float
    contribution: float


class Excess(NamedTuple):
    """A primitive on which a generated set lies above Real's interval.

    Attributes:
        primitive: ``dd``, ``vdc`` or ``ccs``.
        generated: Mean of the generated set with its interval.
        real: Mean of Real with its interval.
        apart: Whether even the lower end of the generated interval is above Real's upper end.
        classes: The classes, the one that carries most of the excess first.
    """

    primitive: str
    generated: Interval
    real: Interval
    apart: bool
    classes: tuple[ClassExcess, ...]


def exceeds_real(
    rows: pd.DataFrame,
    real: pd.DataFrame,
    *,
    resamples: int = RESAMPLES,
    level: float = CONFIDENCE,
    seed: int = BOOTSTRAP_SEED,
) -> list[Excess]:
    """Primitives whose generated mean is above the upper end of Real's interval.

    Args:
        rows: Scored rows of one method.
        real: Scored rows of the real images.
        resamples: Number of resamples of patients, references or rows.
        level: Nominal coverage.
        seed: Seed of the draw.

    Returns:
        One entry for each primitive in excess; an empty list is the expected outcome.
    """
    options: dict[str, Any] = {"resamples": resamples, "level": level, "seed": seed}
    found = []
    for primitive in WATCHED:
        reference = bootstrap_mean(real[primitive], clusters=case_clusters(real), **options)
        generated = bootstrap_mean(rows[primitive], clusters=case_clusters(rows), **options)
        if generated.estimate > reference.high:
            found.append(
                Excess(
                    primitive=primitive,
                    generated=generated,
                    real=reference,
                    apart=generated.low > reference.high,
                    classes=_by_class(rows, real, primitive),
                )
            )
    return found


def _by_class(rows: pd.DataFrame, real: pd.DataFrame, primitive: str) -> tuple[ClassExcess, ...]:
    real_means = real.groupby("label")[primitive].mean()
    entries = []
    for label, group in rows.groupby("label"):
        generated = float(group[primitive].mean())
        reference = float(real_means.get(label, np.nan))
        contribution = len(group) / len(rows) * (generated - reference)
        entries.append(ClassExcess(str(label), len(group), generated, reference, contribution))
    return tuple(sorted(entries, key=lambda entry: -np.nan_to_num(entry.contribution)))
