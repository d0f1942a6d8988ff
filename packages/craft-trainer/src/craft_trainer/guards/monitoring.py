"""What to watch while rewards rise: their gradients, and statistics that nobody rewards.

Optimising a differentiable reward tends to end in repeated textures, saturated colours or one
reward rising at the expense of another. None of this shows in the mean reward.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor

from cas_metric.errors import CasError

#: Grey levels of the histogram whose entropy is taken.
_BINS: Final = 64


class NotFinite(CasError):
    """A reward, loss or gradient became NaN or infinite. Exit code 2."""


def image_statistics(images: Tensor, repeats: int) -> dict[str, Tensor]:
    """Statistics of generated images that no reward asks for.

    Args:
        images: ``(B * repeats, 3, H, W)`` in [0, 1], repeat by repeat.
        repeats: M.

    Returns:
        ``image/edge_density`` (mean absolute difference of neighbouring grey values),
        ``image/entropy`` (bits of the grey histogram, at most 6), ``image/saturation`` (mean of
        the HSV saturation), ``image/clipped`` (share of values at 0 or 1) and, with repeats,
        ``image/diversity`` (mean absolute difference between repeats of one prompt).
    """
    images = images.float()
    grey = images.mean(dim=1)
    across = (grey[:, :, 1:] - grey[:, :, :-1]).abs().mean()
    down = (grey[:, 1:] - grey[:, :-1]).abs().mean()
    high, low = images.amax(dim=1), images.amin(dim=1)
    logs = {
        "image/edge_density": (across + down) / 2,
        "image/entropy": torch.stack([_entropy(one) for one in grey]).mean(),
        "image/saturation": ((high - low) / high.clamp(min=1e-6)).mean(),
        "image/clipped": ((images <= 0) | (images >= 1)).float().mean(),
    }
    if repeats > 1:
        split = images.reshape(repeats, -1, *images.shape[1:])
        logs["image/diversity"] = (split - split.mean(dim=0)).abs().mean()
    return logs


def _entropy(grey: Tensor) -> Tensor:
    counts = torch.histc(grey, bins=_BINS, min=0.0, max=1.0)
    shares = counts[counts > 0] / counts.sum()
    return -(shares * shares.log2()).sum()


def reward_gradients(terms: Mapping[str, Tensor], images: Tensor) -> dict[str, Tensor]:
    """Norm of each reward's gradient with respect to the images, and their pairwise cosines.

    The gradient at the image is what every parameter's gradient is a linear function of, and it
    costs a backward pass through the critic only. The graph is kept.

    Args:
        terms: Reward name to ``(B,)``.
        images: ``(B, 3, H, W)`` that they were computed from.
    """
    gradients = {
        name: torch.autograd.grad(value.mean(), images, retain_graph=True)[0].flatten()
        for name, value in terms.items()
    }
    logs = {f"reward_gradient/norm_{name}": value.norm() for name, value in gradients.items()}
    for left, right in itertools.combinations(gradients, 2):
        logs[f"reward_gradient/cosine_{left}_{right}"] = torch.cosine_similarity(
            gradients[left], gradients[right], dim=0
        )
    return logs


def require_finite(logs: Mapping[str, float], step: int, last_good: str) -> None:
    """Stop before a value that is not finite reaches the weights.

    Raises:
        NotFinite: Naming the first such value, a reward before the loss that it spoils.
    """
    bad = [name for name, value in logs.items() if not math.isfinite(value)]
    if not bad:
        return
    first = min(bad, key=lambda name: (not name.startswith("reward/"), name.endswith("r_cam")))
    raise NotFinite(
        f"{first} is {logs[first]} in step {step}; the step was not taken",
        fix="lower learning_rate or the weight of that reward, in a run with another `output`; "
        f"with unchanged settings the same command continues from {last_good}",
    )


@contextmanager
def fits_memory(what: str, fix: str) -> Iterator[None]:
    """Name what needed more memory than there is, and the way out.

    Raises:
        CasError: In place of what an accelerator, or the allocator of a CPU, raises.
    """
    try:
        yield
    except RuntimeError as error:
        # torch has a class of its own for accelerators alone.
        if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
            raise CasError(f"{what} does not fit into memory", fix=fix) from error
        raise
