"""What ends a step: values that are not finite, and memory that does not suffice."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from cas_metric.errors import CasError


class NotFinite(CasError):
    """A reward, loss, gradient or weight became NaN or infinite. Exit code 2."""


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


def require_finite_weights(weights: Mapping[str, Tensor], step: int, last_good: str) -> None:
    """Stop before a checkpoint, or an artefact, holds weights that are not finite.

    Raises:
        NotFinite: A step took them there, although its loss and gradient were finite.
    """
    for name, weight in weights.items():
        if not weight.isfinite().all():
            raise NotFinite(
                f"{name} is not finite after step {step}; what was saved stays: {last_good}",
                fix="lower learning_rate, in a run with another `output`",
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
