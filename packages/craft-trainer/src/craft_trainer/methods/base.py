"""What a method is: a loss, and nothing else."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor

from craft_trainer.data import Batch


class Loss(NamedTuple):
    """The loss of a batch, and what to log of it.

    Attributes:
        total: Scalar with a graph.
        logs: Name to detached scalar, means over the batch.
    """

    total: Tensor
    logs: dict[str, Tensor]


class Method(Protocol):
    """A way of adapting the model. Loading, order, optimizer and checkpoints are the trainer's."""

    def loss(self, batch: Batch, step: int) -> Loss:
        """The loss of one batch; ``step`` is the optimizer step, counted from 0."""
        ...
