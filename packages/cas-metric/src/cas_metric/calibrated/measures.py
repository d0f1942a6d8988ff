"""What a run has embedded, measured for calibration: four numbers an image, real and generated.

The expectation behind SFS comes from the training split where the run has one, as the probe does,
so that the real images are as new to both as the generated ones. Without one, or where real images
or their patients are in it as well, both are cross-fitted on the real images: no image is judged by
what was fitted on it, on its patient or, for a generated image, on its partner. One without a
partner takes that of a real image drawn by lot, since what was fitted on all of them would judge it
more kindly than any real image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cas_metric import primitives, protocol
from cas_metric.calibrated.conformal import tie_breakers
from cas_metric.calibrated.primitives import Expectation, log_odds
from cas_metric.embedding.passes import embed_texts
from cas_metric.scoring.diagnosis import make_judge
from cas_metric.scoring.embeddings import ImageSet, gather
from cas_metric.scoring.per_image import TOGETHER
from cas_metric.scoring.probe import FOLDS, assign_folds

if TYPE_CHECKING:
    from cas_metric.embedding.cache import EmbeddingCache
    from cas_metric.encoders import Encoder
    from cas_metric.scoring.pipeline import Scores

Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Measured:
    """One table of images.

    Attributes:
        primitives: ``(N, 4)`` in the order of :data:`cas_metric.protocol.PRIMITIVES`, on the scales
            of :mod:`cas_metric.calibrated.primitives`; NaN where the image, its class or its text
            is missing.
        classes: ``(N,)`` class of each image; -1 where the label is none.
        groups: ``(N,)`` origin of each image: the number of its patient or file, and of a generated
            image that of its real partner; -1 without one.
        names: ``(N,)`` what tells an image from all others, whatever the order of the rows.
    """

    primitives: Floats
    classes: Ints
    groups: Ints
    names: tuple[str, ...]

    def take(self, kept: NDArray[np.bool_]) -> Measured:
        """Some of the images."""
        names = tuple(name for name, one in zip(self.names, kept, strict=True) if one)
        return Measured(self.primitives[kept], self.classes[kept], self.groups[kept], names)


def measure(scores: Scores, encoder: Encoder, cache: EmbeddingCache) -> tuple[Measured, Measured]:
    """The generated images and the real ones of a run.

    Args:
        scores: What the run found.
        encoder: That it was found with; prompts of the training split are embedded with it.
        cache: Store of their embeddings.
    """
    inputs, images = scores.inputs, scores.material.images
    partners = inputs.generated["reference_row"].to_numpy(dtype=np.int64)
    origins = images["real"].groups(inputs.real["patient"].tolist())
    codes = np.unique(origins, return_inverse=True)[1]
    folds, fitted = _expectations(scores, codes, encoder, cache)
    sides = []
    for name, rows in (("generated", partners), ("real", np.arange(len(inputs.real)))):
        table: pd.DataFrame = getattr(inputs, name)
        keys = zip(images[name].digests, table["method"], table["seed"], table["id"], strict=True)
        names = tuple("|".join(map(str, key)) for key in keys)
        lots = np.ceil(tie_breakers(names, "fold") * len(folds)).astype(np.int64) - 1
        judges = np.where(rows >= 0, rows, lots)
        fold = folds[judges]
        sides.append(
            Measured(
                _primitives(
                    scores, name, judges, [(one, np.equal(fold, k)) for k, one in fitted.items()]
                ),
                table["class_index"].to_numpy(dtype=np.int64),
                np.where(rows >= 0, codes[rows], -1),
                names,
            )
        )
    return sides[0], sides[1]


def apart_from_training(scores: Scores, encoder: Encoder) -> Scores:
    """The run itself; without its training split where that shares images or patients with Real."""
    inputs, images = scores.inputs, scores.material.images
    if inputs.train is None:
        return scores
    common = (
        set(images["real"].digests) & set(images["train"].digests),
        set(inputs.real["patient"]) & set(inputs.train["patient"]),
    )
    if not set().union(*common) - {""}:
        return scores
    alone = replace(inputs, train=None)
    real = images["real"]
    own = real.groups(inputs.real["patient"].tolist())
    judge = make_judge(alone, encoder, real.embeddings, None, probe=None, real_groups=own)
    return replace(scores, inputs=alone, judge=judge)


def _primitives(
    scores: Scores,
    name: str,
    rows: Ints,
    fitted: Sequence[tuple[Expectation | None, NDArray[np.bool_]]],
) -> Floats:
    """``(N, 4)``; ``rows`` and ``fitted`` say which probe and expectation judge which image."""
    inputs, texts = scores.inputs, scores.material.texts
    table, pictures = getattr(inputs, name), scores.material.images[name].embeddings
    classes = table["class_index"].to_numpy(dtype=np.int64)
    found = np.full((len(table), len(protocol.PRIMITIVES)), np.nan)
    prompts = gather(texts.embeddings, texts.rows(table["prompt"].tolist()))
    checklists = texts.rows([inputs.checklist(label) for label in table["label"]])
    found[:, 0] = primitives.vdc(pictures, prompts)
    found[:, 1] = primitives.ccs(pictures, gather(texts.embeddings, checklists))
    for start in range(0, len(table), TOGETHER):
        block = slice(start, start + TOGETHER)
        logits = scores.judge.logits(pictures[block], rows[block])
        if logits is not None:
            found[block, 2] = log_odds(logits, classes[block])
    for expectation, members in fitted:
        if expectation is None:
            continue
        found[members, 3] = expectation.closeness(
            pictures[members], prompts[members], classes[members]
        )
    found[~scores.material.images[name].usable] = np.nan
    return found


def _expectations(
    scores: Scores, origins: Ints, encoder: Encoder, cache: EmbeddingCache
) -> tuple[Ints, dict[int, Expectation | None]]:
    """Fold of each real image, and the expectation that judges each fold; one for all is -1."""
    inputs, images, texts = scores.inputs, scores.material.images, scores.material.texts
    count = len(inputs.classes)
    if inputs.train is not None:
        prompts = _embedded(inputs.train["prompt"], encoder, cache)
        everything = np.full(len(inputs.real), -1, dtype=np.int64)
        return everything, {-1: _fit(images["train"], prompts, inputs.train, count)}
    labels = inputs.real["class_index"].to_numpy(dtype=np.int64)
    folds = scores.judge.folds
    if folds is None or (folds < 0).any():
        seed = protocol.PROBE_SEED
        folds = assign_folds(labels.clip(min=0), [str(one) for one in origins], FOLDS, seed)
    prompts = gather(texts.embeddings, texts.rows(inputs.real["prompt"].tolist()))
    fitted = {
        fold: _fit(images["real"], prompts, inputs.real, count, folds != fold)
        for fold in range(int(folds.max()) + 1)
    }
    return folds, fitted if len(fitted) > 1 else {}


def _fit(
    images: ImageSet,
    prompts: Vectors,
    table: pd.DataFrame,
    count: int,
    among: NDArray[np.bool_] | None = None,
) -> Expectation | None:
    """None where too few images could be read."""
    labels = table["class_index"].to_numpy(dtype=np.int64)
    kept = images.usable & (labels >= 0)
    if among is not None:
        kept &= among
    if kept.sum() < 2:
        return None
    return Expectation.fit(images.embeddings[kept], prompts[kept], labels[kept], count)


def _embedded(prompts: pd.Series, encoder: Encoder, cache: EmbeddingCache) -> Vectors:
    """``(N, D)`` embeddings of texts, NaN for an empty one."""
    texts = sorted(set(prompts) - {""}) if encoder.token_limit else []
    if not texts:
        return np.full((len(prompts), encoder.dim), np.nan, dtype=np.float32)
    vectors = embed_texts(texts, encoder, cache).embeddings
    place = {text: row for row, text in enumerate(texts)}
    return gather(vectors, np.array([place.get(text, -1) for text in prompts], dtype=np.int64))
