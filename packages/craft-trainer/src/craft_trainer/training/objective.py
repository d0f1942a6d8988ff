"""A method's loss as the module that accelerate prepares."""

from __future__ import annotations

from torch import nn

from craft_trainer.data.dataset import Batch
from craft_trainer.methods.base import Loss, Method


class Objective(nn.Module):
    """A method's loss as a module whose parameters are the trained ones.

    This is what accelerate prepares. Gradients are averaged over the processes when a prepared
    module is called, and only then; here one call covers all that a loss runs, however often the
    denoiser is called in it.

    Args:
        method: Gives the loss.
        parameters: What is trained.
    """

    def __init__(self, method: Method, parameters: list[nn.Parameter]) -> None:
        super().__init__()
        self.method = method
        self.trained = nn.ParameterList(parameters)

    def forward(self, batch: Batch, step: int) -> Loss:
        """As :meth:`Method.loss`."""
        return self.method.loss(batch, step)
