"""Ways to make one score of four primitives: what ``cas-v2`` was chosen from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata

from cas_metric.calibrated.measures import Measured
from cas_metric.primitives import unit
from cas_metric.scoring.embeddings import gather
from cas_metric.scoring.pipeline import Scores

WEIGHTS = {"1:1:1:1": (1, 1, 1, 1), "4:1:1:4": (4, 1, 1, 4), "1:0:0:1": (1, 0, 0, 1)}


def contrastive(scores: Scores, name: str, measured: Measured) -> np.ndarray:
    """The primitives with prompts and checklists held against those of the other classes."""
    inputs, texts = scores.inputs, scores.material.texts
    pictures = unit(scores.material.images[name].embeddings)
    prompts = texts.embeddings[texts.rows(inputs.real["prompt"].tolist())]
    of = inputs.real["class_index"].to_numpy()
    rows = texts.rows([inputs.checklist(label) for label in inputs.classes])
    lists = pictures @ unit(gather(texts.embeddings, rows)).T
    found = measured.primitives.copy()
    for label in np.unique(measured.classes):
        own = measured.classes == label
        found[own, 0] -= pictures[own] @ unit(prompts[of != label]).mean(axis=0)
        found[own, 1] -= np.delete(lists[own], label, axis=1).max(axis=1)
    return found


def combined(
    images: Measured, real: Measured, forms: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Every candidate's score of every generated image, higher for better ones."""
    table = {}
    for form, (own, known) in forms.items():
        ranks, theirs = (np.empty_like(x) for x in (own, known))
        standard, spread = np.empty_like(own), np.empty_like(known)
        for label in np.unique(real.classes):
            mine, other = images.classes == label, real.classes == label
            base = np.sort(known[other], axis=0)
            for k in range(own.shape[1]):
                below = np.searchsorted(base[:, k], own[mine, k], "left")
                upto = np.searchsorted(base[:, k], own[mine, k], "right")
                ranks[mine, k] = ((below + upto) / 2 + 0.5) / (len(base) + 1)
                theirs[other, k] = (rankdata(known[other, k]) - 0.5) / len(base)
            mean, sd = base.mean(axis=0), base.std(axis=0, ddof=1)
            standard[mine], spread[other] = (own[mine] - mean) / sd, (known[other] - mean) / sd
        both = 2 * np.minimum(ranks, 1 - ranks)
        scores = {
            "mean rank": ranks.mean(axis=1),
            "minimum": ranks.min(axis=1),
            "Fisher": np.log(ranks).sum(axis=1),
            "Mahalanobis of ranks, two-sided": _mahalanobis(ndtri(ranks), ndtri(theirs)),
            "mean rank, two-sided": both.mean(axis=1),
            "minimum, two-sided": both.min(axis=1),
            "Fisher, two-sided": np.log(both).sum(axis=1),
            "Mahalanobis, two-sided": _mahalanobis(standard, spread),
            "Mahalanobis, one-sided": _mahalanobis(np.minimum(standard, 0), spread),
            "soft minimum": -np.log(np.exp(-standard).sum(axis=1)),
            **{f"mean {name}": standard @ np.array(w, float) for name, w in WEIGHTS.items()},
        }
        table |= {f"{form}: {name}": score for name, score in scores.items()}
    return table


def _mahalanobis(points: np.ndarray, cloud: np.ndarray) -> np.ndarray:
    precision = np.linalg.inv(np.cov(cloud.T))
    return -np.einsum("ij,jk,ik->i", points, precision, points)
