"""The four primitives of the Clinical Alignment Score, defined once.

Pure functions of embeddings against the array API: on NumPy arrays the evaluator calls them to
score, on torch tensors the trainer calls the same ones as rewards, and gradients flow. Nothing here
reads a file, knows an encoder, or imports torch.

Shapes: ``B`` images, ``D`` embedding dimensions, ``C`` classes. Text and reference embeddings may
be ``(B, D)``, or ``(D,)`` to hold for the whole batch. Embeddings need not be normalised: every
function normalises in float32, whatever the dtype of its input, because a cosine taken in bfloat16
carries only two decimals.

Source: Eqs. (2)-(6), §4.1.4 and §A.2 of the paper.
"""

from __future__ import annotations

from typing import Any, TypeVar

from array_api_compat import array_namespace

#: A NumPy array or a torch tensor; what comes out is of the kind that goes in.
Array = TypeVar("Array", bound=Any)

#: Below this a norm counts as this, so that a zero vector stays one.
_LEAST_NORM = 1e-12


def unit(vectors: Array) -> Array:
    """Vectors along the last axis, scaled to norm 1 in float32; a zero vector stays zero."""
    xp = array_namespace(vectors)
    vectors = xp.astype(vectors, xp.float32)
    norms = xp.linalg.vector_norm(vectors, axis=-1, keepdims=True)
    return vectors / xp.clip(norms, min=_LEAST_NORM)


def cosine(left: Array, right: Array) -> Array:
    """Cosine similarity along the last axis, raw: unclipped and without a logit scale.

    Args:
        left: ``(B, D)`` or ``(D,)``.
        right: ``(B, D)`` or ``(D,)``.

    Returns:
        ``(B,)`` float32 in [-1, 1].

    Examples:
        >>> import numpy as np
        >>> cosine(np.array([[3.0, 4.0]]), np.array([1.0, 0.0])).tolist()
        [0.6000000238418579]
    """
    xp = array_namespace(left, right)
    return xp.sum(unit(left) * unit(right), axis=-1)


def vdc(image: Array, prompt: Array) -> Array:
    """Visual Description Consistency: image against its enriched prompt t_ep (Eq. 2).

    Examples:
        >>> import numpy as np
        >>> vdc(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([1.0, 0.0])).tolist()
        [1.0, 0.0]
    """
    return cosine(image, prompt)


def ccs(image: Array, checklist: Array) -> Array:
    """Clinical Criteria Satisfaction: image against the checklist t_c of its class (Eq. 3).

    Examples:
        >>> import numpy as np
        >>> image, checklist = np.array([[0.0, 2.0]]), np.array([[0.0, 1.0]])
        >>> ccs(image, checklist).tolist()  # embeddings need no norm of 1
        [1.0]
    """
    return cosine(image, checklist)


def sfs(image: Array, reference: Array) -> Array:
    """Semantic Feature Similarity: image against its real reference image (Eq. 5).

    Examples:
        >>> import numpy as np
        >>> image = np.array([[0.3, 0.4]])
        >>> sfs(image, image).round(3).tolist()  # a copy of the reference has SFS 1
        [1.0]
    """
    return cosine(image, reference)


def dd(logits: Array, labels: Array) -> Array:
    """Diagnostic Discriminability as evaluated: 1 where the probe's argmax is the label (§A.2).

    Args:
        logits: ``(B, C)`` of the probe on the image embeddings.
        labels: ``(B,)`` integer class indices.

    Returns:
        ``(B,)`` float32 of zeros and ones; no gradient.

    Examples:
        >>> import numpy as np
        >>> logits = np.array([[2.0, 1.0], [2.0, 1.0]])
        >>> dd(logits, np.array([0, 1])).tolist()
        [1.0, 0.0]
    """
    xp = array_namespace(logits, labels)
    return xp.astype(xp.argmax(logits, axis=-1) == labels, xp.float32)


def dd_probability(logits: Array, labels: Array) -> Array:
    """The probe's probability of the label, ``(B,)`` float32 in [0, 1]: the graded form of DD.

    Examples:
        >>> import numpy as np
        >>> dd_probability(np.array([[0.0, 0.0]]), np.array([1])).round(3).tolist()
        [0.5]
    """
    return array_namespace(logits).exp(dd_log_likelihood(logits, labels))


def dd_log_likelihood(logits: Array, labels: Array) -> Array:
    """The reward form of DD: log-likelihood of the label under the probe, at most 0 (Eq. 4).

    Examples:
        >>> import torch
        >>> logits = torch.zeros(1, 4, requires_grad=True)
        >>> dd_log_likelihood(logits, torch.tensor([2])).sum().backward()
        >>> logits.grad.tolist()  # towards the label, away from the others
        [[-0.25, -0.25, 0.75, -0.25]]
    """
    xp = array_namespace(logits, labels)
    logits = xp.astype(logits, xp.float32)
    shifted = logits - xp.max(logits, axis=-1, keepdims=True)
    own = xp.take_along_axis(shifted, labels[:, None], axis=-1)[:, 0]
    return own - xp.log(xp.sum(xp.exp(shifted), axis=-1))


def clinical_alignment(vdc: Array, ccs: Array, dd: Array, sfs: Array) -> Array:
    """Clinical Alignment Score of each image: the mean of its four primitives (§4.1.4, Eq. 6).

    With the log-likelihood in place of ``dd`` this is the reward r_cam of one trajectory.
    A NaN in any primitive gives NaN: a score is never the mean of fewer than four.

    Examples:
        >>> import numpy as np
        >>> clinical_alignment(*np.array([[0.2], [0.2], [1.0], [0.6]])).tolist()
        [0.5]
    """
    xp = array_namespace(vdc, ccs, dd, sfs)
    return xp.mean(xp.stack([vdc, ccs, dd, sfs]), axis=0)
