"""What a method is: a loss, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from craft_trainer.data.examples import Batch


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


class Objective(nn.Module):
    """A method's loss as a module whose parameters are the trained ones.

    This is what accelerate prepares. Gradients are averaged over the processes when a prepared
    module is called, and only then; here one call covers all that a loss runs, however often the
    denoiser is called in it.

    Args:
        method: Gives the loss.
        parameters: What is trained.
    """

    def __init__(self, method: Method, parameters: Sequence[nn.Parameter]) -> None:
        super().__init__()
        self.method = method
        self.trained = nn.ParameterList(parameters)

    def forward(self, batch: Batch, step: int) -> Loss:
        """As :meth:`Method.loss`."""
        return self.method.loss(batch, step)
