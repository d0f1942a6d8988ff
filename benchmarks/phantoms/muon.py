"""The optimizer of the embedded models."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def orthogonalise(matrix: Tensor) -> Tensor:
    """Nearest semi-orthogonal matrix of ``(rows, columns)``, by five Newton-Schulz iterations."""
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide / (wide.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide is matrix else x.T


class Muon(torch.optim.AdamW):
    """Muon for weights of two dimensions and more, AdamW for the others.

    Momentum whose matrix is orthogonalised before the step (Jordan et al. 2024), scaled to the
    size of an Adam step so that one learning rate serves both (Liu et al. 2025, arXiv:2502.16982).
    A convolution is the matrix of its output channels. On a few thousand steps, which is all that
    a CPU allows, it comes further than AdamW alone.

    Args:
        parameters: To train.
        lr: Learning rate of both.
        weight_decay: Of both.
        plain: Those that AdamW takes whatever their shape: embeddings, of which a batch reaches
            few rows.
    """

    MOMENTUM, SIZE = 0.95, 0.2

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        weight_decay: float,
        plain: Iterable[nn.Parameter] = (),
    ) -> None:
        super().__init__(parameters, lr=lr, weight_decay=weight_decay)
        self._plain = {id(parameter) for parameter in plain}

    def _is_matrix(self, parameter: nn.Parameter) -> bool:
        return parameter.ndim >= 2 and id(parameter) not in self._plain

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step; the gradients of matrices are used up by it."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None or not self._is_matrix(parameter):
                    continue
                state = self.state[parameter]
                gradient = parameter.grad.flatten(1)
                mean = state.setdefault("momentum", torch.zeros_like(gradient))
                mean.lerp_(gradient, 1 - self.MOMENTUM)
                update = orthogonalise(gradient.lerp(mean, self.MOMENTUM))
                scale = self.SIZE * max(update.shape) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update.view_as(parameter), alpha=-group["lr"] * scale)
                parameter.grad = None
        super().step()
