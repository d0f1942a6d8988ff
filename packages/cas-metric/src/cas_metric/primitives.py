"""The four primitives of the Clinical Alignment Score, defined once.

Pure, differentiable functions of embeddings: the evaluator calls them to score, the trainer calls
the same ones as rewards. Nothing here reads a file or knows an encoder.

Shapes: ``B`` images, ``D`` embedding dimensions, ``C`` classes. Text and reference embeddings may
be ``(B, D)``, or ``(D,)`` to hold for the whole batch. Embeddings need not be normalised: every
function normalises in float32, whatever the dtype of its input, because a cosine taken in bfloat16
carries only two decimals.

Source: Eqs. (2)-(6), §4.1.4 and §A.2 of the paper.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def cosine(left: Tensor, right: Tensor) -> Tensor:
    """Cosine similarity along the last axis, raw: unclipped and without a logit scale.

    Args:
        left: ``(B, D)`` or ``(D,)``.
        right: ``(B, D)`` or ``(D,)``.

    Returns:
        ``(B,)`` float32 in [-1, 1].
    """
    left = F.normalize(left.float(), dim=-1)
    right = F.normalize(right.float(), dim=-1)
    return (left * right).sum(dim=-1)


def vdc(image: Tensor, prompt: Tensor) -> Tensor:
    """Visual Description Consistency: image against its enriched prompt t_ep (Eq. 2)."""
    return cosine(image, prompt)


def ccs(image: Tensor, checklist: Tensor) -> Tensor:
    """Clinical Criteria Satisfaction: image against the checklist t_c of its class (Eq. 3)."""
    return cosine(image, checklist)


def sfs(image: Tensor, reference: Tensor) -> Tensor:
    """Semantic Feature Similarity: image against its real reference image (Eq. 5)."""
    return cosine(image, reference)


def dd(logits: Tensor, labels: Tensor) -> Tensor:
    """Diagnostic Discriminability as evaluated: 1 where the probe's argmax is the label (§A.2).

    Args:
        logits: ``(B, C)`` of the probe on the image embeddings.
        labels: ``(B,)`` integer class indices.

    Returns:
        ``(B,)`` float32 of zeros and ones; no gradient.
    """
    return (logits.argmax(dim=-1) == labels).float()


def dd_probability(logits: Tensor, labels: Tensor) -> Tensor:
    """The probe's probability of the label, ``(B,)`` float32 in [0, 1]: the graded form of DD."""
    return dd_log_likelihood(logits, labels).exp()


def dd_log_likelihood(logits: Tensor, labels: Tensor) -> Tensor:
    """The reward form of DD: log-likelihood of the label under the probe, at most 0 (Eq. 4)."""
    log_probabilities = F.log_softmax(logits.float(), dim=-1)
    return log_probabilities.gather(-1, labels.unsqueeze(-1)).squeeze(-1)


def clinical_alignment(vdc: Tensor, ccs: Tensor, dd: Tensor, sfs: Tensor) -> Tensor:
    """Clinical Alignment Score of each image: the mean of its four primitives (§4.1.4, Eq. 6).

    With the log-likelihood in place of ``dd`` this is the reward r_cam of one trajectory.
    A NaN in any primitive gives NaN: a score is never the mean of fewer than four.
    """
    return torch.stack([vdc, ccs, dd, sfs]).mean(dim=0)
