"""Generated images that score better than the real ones of the same cases.

A generator that is optimised against an encoder can leave the manifold of real images in the
direction the encoder rewards. DD, VDC or CCS above those of the real images is what that looks like
(§4.2.1 names the Real row a reference point, not a target; SFS is left out, being 1 for Real).
Half of all harmless generators lie above Real by chance, so the excess is tested: one-sided, on the
cases that both have, patients whole, with Holm's correction over methods and primitives.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cas_metric.protocol import BOOTSTRAP_SEED, CONFIDENCE
from cas_metric.statistics.aggregate import as_text, case_clusters, cluster_unit
from cas_metric.statistics.comparison import PERMUTATIONS, PValue, holm, sign_flip_test
from cas_metric.statistics.intervals import mean_interval, rate_interval
from cas_metric.statistics.rounding import fixed
from cas_metric.statistics.uncertainty import Interval

if TYPE_CHECKING:
    import pandas as pd

#: Primitives that a real image does not fix by construction.
WATCHED = ("dd", "vdc", "ccs")
#: Family-wise error of the warnings.
ALPHA = 0.05
#: What is written where there is no reward.
_NOTHING = ("none", "no", "false", "null", "n/a", "0", "nan", "-", "")
#: Words by which a set's provenance says that a reward trained its generator.
_REWARD = ("reward", "craft", "draft", "refl", "ddpo", "dpo", "grpo", "nft")


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
    """A primitive on which a generated set scores above the real images of its cases.

    Attributes:
        primitive: ``dd``, ``vdc`` or ``ccs``.
        generated: Mean of the generated set with its interval.
        real: Mean of Real with its interval.
        apart: Whether even the lower end of the generated interval is above Real's upper end.
        classes: The classes, the one that carries most of the excess first.
        difference: Mean of generated minus real over the common cases, with its interval.
        cases: Common cases.
        clusters: Independent units among them.
        p: One-sided p-value of the sign-flip test.
        p_adjusted: The same after Holm over methods and primitives.
    """

    primitive: str
    generated: Interval
    real: Interval
    apart: bool
    classes: tuple[ClassExcess, ...]
    difference: Interval
    cases: int
    clusters: int
    p: PValue
    p_adjusted: float


def exceeds_real(
    methods: Mapping[str, pd.DataFrame],
    real: pd.DataFrame,
    *,
    permutations: int = PERMUTATIONS,
    level: float = CONFIDENCE,
    seed: int = BOOTSTRAP_SEED,
) -> dict[str, list[Excess]]:
    """Primitives on which a method scores above Real beyond chance.

    Args:
        methods: Name to the scored rows of the method.
        real: Scored rows of the real images.
        permutations: Random sign patterns beyond 14 clusters.
        level: Nominal coverage of the intervals.
        seed: Seed of the sign patterns.

    Returns:
        Method to its excesses; empty lists are the expected outcome. A method with fewer than two
        clusters in common with Real is never named.

    Examples:
        >>> import pandas as pd
        >>> rows, real = (pd.read_csv(f"demo/run/{one}per_image.csv") for one in ("", "real_"))
        >>> exceeds_real({"wrong": rows[rows["method"] == "wrong"]}, real)
        {'wrong': []}
    """
    tested: list[tuple[str, str, tuple[np.ndarray, np.ndarray], PValue]] = []
    for name, rows in methods.items():
        gaps, clusters = _paired(rows, real)
        for primitive in WATCHED:
            known = np.isfinite(gaps[primitive])
            paired = gaps[primitive][known], clusters[known]
            if len(np.unique(paired[1])) > 1:
                p = sign_flip_test(
                    paired[0],
                    clusters=paired[1],
                    permutations=permutations,
                    seed=seed,
                    one_sided=True,
                )
                tested.append((name, primitive, paired, p))
    adjusted = holm([p.value for *_, p in tested])
    result: dict[str, list[Excess]] = {name: [] for name in methods}
    for (name, primitive, paired, p), value in zip(tested, adjusted, strict=True):
        if value < ALPHA:
            found = _excess(methods[name], real, primitive, paired, level)
            result[name].append(found._replace(p=p, p_adjusted=float(value)))
    return result


def reward_trained(provenance: Any) -> bool:
    """Whether a set's provenance says that a reward, or a preference, trained its generator.

    Args:
        provenance: Of its ``cas.yaml``: any plain value. A word such as ``craft`` counts where it
            is the name of a stage, method or objective, or where a key speaks of a reward.
    """
    if isinstance(provenance, Mapping):
        return any(
            (str(key).lower().startswith("reward") and _told(value))
            or (str(key).lower() in ("stage", "method", "objective", "training") and _named(value))
            or reward_trained(value)
            for key, value in provenance.items()
        )
    if isinstance(provenance, (list, tuple)):
        return any(reward_trained(value) for value in provenance)
    return False


def _named(value: Any) -> bool:
    return any(word in _REWARD for word in re.findall("[a-z]+", str(value).lower()))


def _told(value: Any) -> bool:
    return bool(value) and str(value).strip().lower() not in _NOTHING


def _case_keys(rows: pd.DataFrame, real: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """What identifies the case of a generated and of a real row: the real image, else the id."""
    if "reference" in rows and "image" in real and (as_text(rows["reference"]) != "").all():
        references = rows["reference"].astype(str).to_numpy()
        images = real["image"].astype(str).to_numpy()
        if np.isin(references, images).any():
            return references, images
    return rows["id"].astype(str).to_numpy(), real["id"].astype(str).to_numpy()


def _paired(rows: pd.DataFrame, real: pd.DataFrame) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Generated minus real of each common case by primitive, and what the cases belong to."""
    keys, real_keys = _case_keys(rows, real)
    watched = list(WATCHED)
    ours = rows[watched].groupby(keys).mean()
    theirs = real[watched].groupby(real_keys).mean()
    gaps = (ours - theirs.reindex(ours.index)).dropna(how="all")
    clusters = gaps.index.to_numpy()
    if cluster_unit(rows) == "patient":
        named = dict(zip(keys, case_clusters(rows), strict=True))
        clusters = np.array([named[key] for key in clusters])
    return {name: gaps[name].to_numpy() for name in watched}, clusters


def _excess(
    rows: pd.DataFrame,
    real: pd.DataFrame,
    primitive: str,
    paired: tuple[np.ndarray, np.ndarray],
    level: float,
) -> Excess:
    gaps, clusters = paired
    interval = rate_interval if primitive == "dd" else mean_interval
    generated = interval(rows[primitive], clusters=case_clusters(rows), level=level)
    reference = interval(real[primitive], clusters=case_clusters(real), level=level)
    return Excess(
        primitive=primitive,
        generated=generated,
        real=reference,
        apart=bool(generated.low > reference.high),
        classes=_by_class(rows, real, primitive),
        difference=mean_interval(gaps, clusters=clusters, level=level),
        cases=len(gaps),
        clusters=len(np.unique(clusters)),
        p=PValue(float("nan"), exact=False),
        p_adjusted=float("nan"),
    )


def _by_class(rows: pd.DataFrame, real: pd.DataFrame, primitive: str) -> tuple[ClassExcess, ...]:
    real_means = real.groupby("label")[primitive].mean()
    entries = []
    for label, group in rows.groupby("label"):
        generated = float(group[primitive].mean())
        reference = float(real_means.get(label, np.nan))
        contribution = len(group) / len(rows) * (generated - reference)
        entries.append(ClassExcess(str(label), len(group), generated, reference, contribution))
    return tuple(sorted(entries, key=lambda entry: -np.nan_to_num(entry.contribution)))


def excess_message(name: str, excess: Excess, *, trained: bool) -> str:
    """What a score above Real says to a reader.

    Args:
        name: The method.
        excess: What was found.
        trained: Whether a reward trained the generator.
    """
    what = (
        "a sign of reward hacking: its provenance says that a reward trained it"
        if trained
        else "easier for the evaluator than real images, which need not be better"
    )
    return (
        f"{name}: {excess.primitive.upper()} {fixed(excess.generated.estimate, 3)} is above Real's "
        f"{fixed(excess.real.estimate, 3)} (by {fixed(excess.difference.estimate, 3)} on "
        f"{excess.cases} common cases, p = {excess.p_adjusted:.2g} after Holm), most in the class "
        f"{excess.classes[0].label}: {what}"
    )
