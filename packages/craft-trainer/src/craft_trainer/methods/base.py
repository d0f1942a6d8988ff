"""What a method is: a loss, and what it is built from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from cas_metric.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from cas_metric.embedding.cache import EmbeddingCache
    from cas_metric.encoders import Encoder
    from craft_trainer.bases.base import DiffusionModel
    from craft_trainer.config.schema import Config
    from craft_trainer.data.dataset import Batch, Examples


class Loss(NamedTuple):
    """The loss of a batch, and what to log of it.

    Attributes:
        total: Scalar with a graph.
        logs: Name to detached scalar, means over the batch.

    Examples:
        >>> import torch
        >>> error = torch.tensor([1.0, 3.0], requires_grad=True).mean()
        >>> loss = Loss(error, {"loss/diffusion": error.detach()})
        >>> loss.total.requires_grad, loss.logs["loss/diffusion"].item()
        (True, 2.0)
    """

    total: Tensor
    logs: dict[str, Tensor]


class Method(ABC):
    """A way of adapting the model. Loading, order, optimizer and checkpoints are the trainer's.

    Examples:
        >>> import torch
        >>> class Constant(Method):
        ...     def loss(self, batch, step):
        ...         return Loss(torch.tensor(float(step)), {})
        >>> Constant().loss(None, 3).total, Constant().critics
        (tensor(3.), ())
    """

    #: In the logs, what a stage drives up: a fall of held-out CAS meanwhile is a sign of hacking.
    reward: ClassVar[str] = ""

    @property
    def critics(self) -> tuple[Encoder, ...]:
        """Encoders that give rewards: none of them can be the held-out evaluator."""
        return ()

    @abstractmethod
    def loss(self, batch: Batch, step: int) -> Loss:
        """The loss of one batch; ``step`` is the optimizer step, counted from 0."""

    def after_step(self, step: int) -> None:  # noqa: B027 - most have nothing to do
        """What follows an optimizer step; ``step`` is the one that was taken."""

    def state(self) -> Mapping[str, Tensor]:
        """What a resumed run needs beside the trained parameters; part of every checkpoint."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:  # noqa: B027 - most have none
        """Continue with what :meth:`state` gave when the checkpoint was written."""


@dataclass(frozen=True)
class Setup:
    """What a method is built from.

    Attributes:
        config: Of the run.
        model: As the stage starts from it, with its trainable part attached.
        latent: ``(C, h, w)`` of a latent.
        examples: Training images.
        cache: Store of embeddings.
        once: Does work on one process for all of them.
        processes: How many there are.

    Examples:
        >>> sorted(Setup.__dataclass_fields__)
        ['cache', 'config', 'examples', 'latent', 'model', 'once', 'processes']
    """

    config: Config
    model: DiffusionModel
    latent: tuple[int, int, int]
    examples: Examples
    cache: EmbeddingCache
    once: Callable[[Callable[[], Any]], Any]
    processes: int = 1

    def require_one_process(self, setting: str) -> None:
        """Refuse what keeps a state of its own on each process. InputError."""
        if self.processes > 1:
            raise InputError(
                f"{setting} keeps a state on each process, and there are {self.processes}",
                fix="launch one process, or leave it out",
            )
