"""Which real and synthetic pictures make up each batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cas_metric.errors import InputError

Rows = NDArray[np.int64]


def synthetic_per_batch(batch_size: int, share: float) -> int:
    """How many of a batch are synthetic: exactly ``share`` of it.

    Raises:
        InputError: The share is no whole number of pictures, or leaves no real one.
    """
    count = share * batch_size
    if not 0 <= share < 1 or abs(count - round(count)) > 1e-9:
        raise InputError(
            f"{share:.0%} of a batch of {batch_size} is no whole number of pictures below it",
            fix="choose another --batch-size: 50 works for every multiple of 2%",
        )
    return round(count)


def real_subset(classes: Rows, scale: float, rng: np.random.Generator) -> Rows:
    """Rows of a share of the real pictures, the same share of every class.

    With one state of ``rng``, a smaller share is part of a larger one.

    Args:
        classes: ``(N,)`` class index of every picture.
        scale: Share to keep, in (0, 1]; at least one picture of each class is kept.
        rng: Which ones.
    """
    kept = []
    for label in np.unique(classes):
        members = rng.permutation(np.flatnonzero(classes == label))
        kept.append(members[: max(1, round(scale * len(members)))])
    return np.sort(np.concatenate(kept))


def batches(
    real: Rows, synthetic: Rows, *, batch_size: int, share: float, seed: int
) -> Iterator[tuple[Rows, Rows]]:
    """Rows of real and of synthetic pictures of each batch, without end.

    Either set is gone through in random order before any of its pictures comes again. Without
    synthetic pictures the whole batch is real.

    Args:
        real: Rows of the real pictures to train on.
        synthetic: Rows of the synthetic ones; may be empty.
        batch_size: Pictures in a batch.
        share: Of which synthetic.
        seed: Order of both.
    """
    count = synthetic_per_batch(batch_size, share) if len(synthetic) else 0
    streams = (
        _stream(real, batch_size - count, np.random.default_rng([seed, 1])),
        _stream(synthetic, count, np.random.default_rng([seed, 2])),
    )
    yield from zip(*streams, strict=True)


def _stream(rows: Rows, count: int, rng: np.random.Generator) -> Iterator[Rows]:
    waiting = np.empty(0, dtype=np.int64)
    while True:
        while len(waiting) < count:
            waiting = np.concatenate([waiting, rng.permutation(rows)])
        yield waiting[:count]
        waiting = waiting[count:]
