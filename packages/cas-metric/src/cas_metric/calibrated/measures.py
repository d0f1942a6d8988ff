"""What a run has embedded, measured for calibration: four numbers an image, real and generated.

The probe and the clouds come from the training split where the run has one, so that the real images
are as new to them as the generated ones. Without one they are cross-fitted on the real images, as
the run's probe is, and no image is judged by what was fitted on it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cas_metric import protocol
from cas_metric.calibrated.primitives import Cloud, checklist_contrast, log_odds, prompt_contrast
from cas_metric.scoring.embeddings import gather
from cas_metric.scoring.pipeline import Scores

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Measured:
    """One table of images.

    Attributes:
        primitives: ``(N, 4)`` in the order of :data:`cas_metric.protocol.PRIMITIVES`; NaN where an
            image, its class or its text is missing.
        classes: ``(N,)`` class of each image; -1 where the label is none.
        groups: ``(N,)`` origin of each image: the number of its patient or file, and of a generated
            image that of its real partner; -1 without one.
        names: ``(N,)`` what tells an image from all others, whatever the order of the rows.
    """

    primitives: Floats
    classes: Ints
    groups: Ints
    names: tuple[str, ...]


def measure(scores: Scores) -> tuple[Measured, Measured]:
    """The generated images and the real ones of a run."""
    inputs, images = scores.inputs, scores.material.images
    real_rows = np.arange(len(inputs.real), dtype=np.int64)
    partners = inputs.generated["reference_row"].to_numpy(dtype=np.int64)
    _, codes = np.unique(
        images["real"].groups(inputs.real["patient"].tolist()), return_inverse=True
    )
    sides = []
    for name, rows in (("generated", partners), ("real", real_rows)):
        table = getattr(inputs, name)
        classes = table["class_index"].to_numpy(dtype=np.int64)
        keys = zip(images[name].digests, table["method"], table["id"], strict=True)
        sides.append(
            Measured(
                _values(scores, name, classes, rows),
                classes,
                np.where(rows >= 0, codes[rows], -1),
                tuple(f"{digest}|{method}|{key}" for digest, method, key in keys),
            )
        )
    return sides[0], sides[1]


def _values(scores: Scores, name: str, classes: Ints, judged_by: Ints) -> Floats:
    inputs, material = scores.inputs, scores.material
    table, pictures = getattr(inputs, name), material.images[name].embeddings
    texts, real = material.texts, inputs.real
    values = np.full((len(table), len(protocol.PRIMITIVES)), np.nan)
    if texts.limit:
        prompts = gather(texts.embeddings, texts.rows(table["prompt"].tolist()))
        others = texts.rows(real["prompt"].tolist())
        values[:, 0] = prompt_contrast(
            pictures,
            prompts,
            texts.embeddings[others[others >= 0]],
            classes,
            real["class_index"].to_numpy(dtype=np.int64)[others >= 0],
        )
        rows = texts.rows([inputs.checklist(label) for label in inputs.classes])
        values[:, 1] = checklist_contrast(pictures, gather(texts.embeddings, rows), classes)
    logits = scores.judge.logits(pictures, judged_by)
    if logits is not None:
        values[:, 2] = log_odds(logits, classes)
    values[:, 3] = _closeness(scores, pictures, classes, judged_by)
    return values


def _closeness(
    scores: Scores, pictures: NDArray[np.float32], classes: Ints, judged_by: Ints
) -> Floats:
    """Distance to the clouds of the training split, or of the folds without the image's partner."""
    inputs, images, count = scores.inputs, scores.material.images, len(scores.inputs.classes)
    if inputs.train is not None:
        kept = images["train"].usable
        labels = inputs.train["class_index"].to_numpy(dtype=np.int64)
        return Cloud.fit(images["train"].embeddings[kept], labels[kept], count).closeness(
            pictures, classes
        )
    folds = scores.judge.folds
    if folds is None:
        return np.full(len(pictures), np.nan)
    labels = inputs.real["class_index"].to_numpy(dtype=np.int64)
    every = []
    for fold in range(int(folds.max()) + 1):
        kept = images["real"].usable & (folds >= 0) & (folds != fold)
        every.append(
            Cloud.fit(images["real"].embeddings[kept], labels[kept], count).closeness(
                pictures, classes
            )
        )
    stacked = np.stack(every)
    own = np.where(judged_by >= 0, folds[judged_by], -1)
    chosen = stacked[own.clip(min=0), np.arange(len(own))]
    return np.where(own >= 0, chosen, stacked.mean(axis=0))
