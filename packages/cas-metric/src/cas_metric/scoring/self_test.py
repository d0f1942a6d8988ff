"""Can this encoder judge these images at all? Asked of the real images, whose answers are known.

An encoder of random weights gives numbers that look like any other. From embeddings that a run has
anyway, each primitive is put to a question whose chance level is known:

=======  =========================================================================  ===============
VDC      does an image fit its own prompt better than those of other images?          1/2
CCS      is the checklist that it fits best that of its class? (zero-shot)            1 / classes
DD       does the probe, which has not seen it, name its class?                       1 / classes
SFS      is it closer to another image of its class than to one of another class?     1/2
=======  =========================================================================  ===============

The classes are those that can be named: that the images or the fitted probe have, not all of the
domain's. Every class counts the same, so that a preference for one class gives chance and no more.
The unit of the intervals is what is independent: the patient, or the prompt where several images
share one. A class of one unit tells nothing of its spread: it is left out where two others remain;
where not, the classes are the units.
For CCS there is a second way to be right by luck, which more images do not cure: that checklists
fall near the right classes at random. Therefore its accuracy must also beat nearly all other
assignments of checklists to classes.

A primitive that is not above chance is *blind* here, and so is the CAS that contains it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cas_metric.primitives import unit
from cas_metric.protocol import BOOTSTRAP_SEED, CONFIDENCE
from cas_metric.scoring.embeddings import ImageSet, Texts
from cas_metric.scoring.inputs import Inputs
from cas_metric.statistics.balanced import balanced_mean_part, balanced_rate_part
from cas_metric.statistics.intervals import TOO_FEW, Part, mean_part
from cas_metric.statistics.uncertainty import Codes, cluster_codes

#: Images looked at where every one is compared with every other.
MOST: Final = 512
#: Share of the other assignments of checklists that may do as well.
_LUCK: Final = 0.05
#: Assignments tried; all of them up to six classes.
_ASSIGNMENTS: Final = 1000

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

QUESTIONS: Final = {
    "vdc": "fits its own prompt better than another's",
    "ccs": "fits the checklist of its class best",
    "dd": "its class is named by a probe that has not seen it",
    "sfs": "closer to an image of its class than to another's",
}


def self_test(
    inputs: Inputs,
    real: ImageSet,
    texts: Texts,
    rows: pd.DataFrame,
    taught: Sequence[str] = (),
) -> dict[str, dict[str, Any]]:
    """What the encoder can tell apart on the real images.

    Args:
        inputs: The tables.
        real: Embeddings of ``inputs.real``.
        texts: Embedded prompts and checklists.
        rows: The rows of the real images, for their DD.
        taught: Classes that the probe was fitted on, and so may name; those of the images alone by
            default.

    Returns:
        By primitive that could be asked: ``question``, ``score``, ``low`` and ``high`` (95%),
        ``chance``, ``images`` and ``blind``; for CCS also ``luck``, the share of other assignments
        of checklists to classes that do as well.
    """
    classes = inputs.real["class_index"].to_numpy(dtype=np.int64)
    patients = np.asarray(real.groups(inputs.real["patient"].tolist()))
    prompts = inputs.real["prompt"].to_numpy(dtype=object)
    usable = real.usable & (classes >= 0)
    vectors = unit(np.where(real.usable[:, None], real.embeddings, np.float32(0)))
    some = _spread(usable)
    found = {
        "vdc": _prompts(vectors, prompts, texts, classes, some, patients),
        "ccs": _checklists(vectors, inputs, texts, classes, usable, patients),
        "dd": verdict_of("dd", rows["dd"].to_numpy(float), classes, patients, taught),
        "sfs": _neighbours(vectors, classes, some, patients),
    }
    return {name: one for name, one in found.items() if one is not None}


def blind(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The primitives that the encoder is blind in."""
    return [name for name, one in found.items() if one["blind"]]


def _spread(usable: NDArray[np.bool_]) -> Ints:
    """At most :data:`MOST` of the usable images, evenly over the table."""
    rows = np.flatnonzero(usable)
    return rows[np.unique(np.linspace(0, max(len(rows) - 1, 0), MOST).astype(int))[: len(rows)]]


def verdict_of(
    name: str,
    right: Floats,
    classes: Ints,
    clusters: NDArray[Any],
    names: Sequence[str] = (),
    *,
    chance: float | None = None,
) -> dict[str, Any] | None:
    """Class-balanced mean of ``right`` against chance; None without two classes.

    Args:
        name: Of the primitive.
        right: ``(N,)`` how right each image is, 0 to 1; NaN is left out.
        classes: ``(N,)`` class of each, from 0; -1 is left out.
        clusters: ``(N,)`` patient of each, or what else is independent.
        names: Of all classes that could be named, where they are more than there are.
        chance: What guessing gives; one over the classes by default.
    """
    asked = np.isfinite(right) & (classes >= 0)
    present = np.unique(classes[asked])
    if len(present) < 2:
        return None
    codes, _ = cluster_codes(clusters[asked], int(asked.sum()))
    part, images = _class_balanced(right[asked], classes[asked], codes, rate=name in ("ccs", "dd"))
    interval = part.interval(CONFIDENCE, (0.0, 1.0))
    level = chance if chance is not None else 1 / max(len(present), len(names))
    return {
        "question": QUESTIONS[name],
        "score": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "chance": level,
        "images": images,
        # Without an interval (no spread) a score is above chance only if nothing was wrong.
        "blind": not (interval.low > level or interval.estimate >= 1),
    }


def _class_balanced(right: Floats, classes: Ints, codes: Codes, *, rate: bool) -> tuple[Part, int]:
    """Mean over classes, and the number of images behind it."""
    part_of = balanced_rate_part if rate else balanced_mean_part
    part = part_of(right, classes, codes, len(codes))
    if part.lacks != TOO_FEW:
        return part, len(right)
    present = np.unique(classes)
    many = [k for k in present if len(np.unique(codes[classes == k])) > 1]
    if len(many) > 1:
        kept = np.isin(classes, many)
        return part_of(right[kept], classes[kept], codes[kept], len(codes)), int(kept.sum())
    means = np.array([right[classes == k].mean() for k in present])
    return mean_part(means, np.arange(len(means)), len(means)), len(right)


def _prompts(
    vectors: NDArray[np.float32],
    prompts: NDArray[Any],
    texts: Texts,
    classes: Ints,
    some: Ints,
    patients: NDArray[Any],
) -> dict[str, Any] | None:
    rows = texts.rows(prompts[some].tolist())
    some, rows = some[rows >= 0], rows[rows >= 0]
    distinct, own = np.unique(rows, return_inverse=True)
    if len(distinct) < 2:
        return None
    scores = vectors[some] @ unit(texts.embeddings[distinct]).T
    mine = scores[np.arange(len(some)), own][:, None]
    wins = ((scores < mine) + 0.5 * (scores == mine)).sum(axis=1) - 0.5
    shared = len(distinct) < len(np.unique(patients[some]))
    return verdict_of(
        "vdc",
        wins / (len(distinct) - 1),
        classes[some],
        own.astype(str) if shared else patients[some],
        chance=0.5,
    )


def _checklists(
    vectors: NDArray[np.float32],
    inputs: Inputs,
    texts: Texts,
    classes: Ints,
    usable: NDArray[np.bool_],
    patients: NDArray[Any],
) -> dict[str, Any] | None:
    rows = texts.rows([inputs.checklist(name) for name in inputs.classes])
    known = np.flatnonzero(rows >= 0)
    asked = usable & np.isin(classes, known)
    if len(known) < 2 or not asked.any():
        return None
    nearest = known[(vectors @ unit(texts.embeddings[rows[known]]).T).argmax(axis=1)]
    right = np.where(asked, (nearest == classes).astype(float), np.nan)
    verdict = verdict_of("ccs", right, classes, patients, [inputs.classes[i] for i in known])
    if verdict is None:
        return None
    luck = _luck(nearest[asked], classes[asked], known)
    return {**verdict, "luck": luck, "blind": verdict["blind"] or luck > _LUCK}


def _luck(nearest: Ints, classes: Ints, known: Ints) -> float:
    """Share of the other assignments of checklists to classes that name as many images rightly.

    With two or three classes there are too few others to tell luck from skill: 0 unless one of them
    does as well.
    """
    shares = np.array(
        [
            [np.mean(nearest[classes == c] == k) for k in known]
            for c in known
            if (classes == c).any()
        ]
    )
    rows = [i for i, c in enumerate(known) if (classes == c).any()]
    count = len(known)
    if math.factorial(count) <= _ASSIGNMENTS:
        orders = np.array(list(itertools.permutations(range(count))))[1:]
    else:
        rng = np.random.default_rng(BOOTSTRAP_SEED)
        orders = rng.permuted(np.tile(np.arange(count), (_ASSIGNMENTS, 1)), axis=1)
    scores = shares[np.arange(len(rows)), orders[:, rows]].mean(axis=1)
    return float((scores >= shares[np.arange(len(rows)), rows].mean()).mean())


def _neighbours(
    vectors: NDArray[np.float32], classes: Ints, some: Ints, patients: NDArray[Any]
) -> dict[str, Any] | None:
    """How often another image of the class, not of the patient, is closer than one of another."""
    if len(some) < 3:
        return None
    scores = vectors[some] @ vectors[some].T
    own, patient = classes[some], patients[some]
    wins = np.full(len(some), np.nan)
    for row, line in enumerate(scores):
        same = np.sort(line[(own == own[row]) & (patient != patient[row])])
        other = line[(own != own[row]) & (patient != patient[row])]
        if len(same) and len(other):
            above = len(same) - np.searchsorted(same, other, "right")
            ties = np.searchsorted(same, other, "right") - np.searchsorted(same, other, "left")
            wins[row] = (above + 0.5 * ties).sum() / (len(same) * len(other))
    return verdict_of("sfs", wins, own, patient, chance=0.5)
