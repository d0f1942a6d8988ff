"""An exponential moving average of what is trained, which is what a run shows and keeps."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from diffusers.training_utils import EMAModel
from torch import Tensor

from craft_trainer.bases.base import DiffusionModel
from craft_trainer.bases.lora import with_weights

#: Of what is an average's in the state of a checkpoint; the rest is the method's.
PREFIX: Final = "ema/"


class Average:
    """The average that a stage asks for by ``ema``; without one, the weights themselves.

    It follows the weights closely in the first steps: its decay is at most (1 + t) / (10 + t).

    Args:
        model: With its trainable parameters attached.
        decay: Share of the average that stays in each step; None for no average.
    """

    def __init__(self, model: DiffusionModel, decay: float | None) -> None:
        self.model = model
        self.kept = None if decay is None else EMAModel(model.trainable.values(), decay=decay)

    def update(self) -> None:
        """Follow the weights, after an optimizer step."""
        if self.kept is not None:
            self.kept.step(self.model.trainable.values())

    def shown(self) -> AbstractContextManager[None]:
        """Within this block the trained parameters are the average, without a graph."""
        if self.kept is None:
            return nullcontext()
        return with_weights(self.model, self._by_name())

    def state(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        if self.kept is None:
            return {}
        return {PREFIX + name: value for name, value in self._by_name().items()}

    def restore(self, state: Mapping[str, Tensor], step: int) -> None:
        """Continue with what :meth:`state` gave after ``step`` steps."""
        if self.kept is None:
            return
        self.kept.optimization_step = step
        for name, value in self._by_name().items():
            value.copy_(state[PREFIX + name])

    def _by_name(self) -> dict[str, Tensor]:
        assert self.kept is not None
        return dict(zip(self.model.trainable, self.kept.shadow_params, strict=True))
