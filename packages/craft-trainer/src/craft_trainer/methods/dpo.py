"""Diffusion-DPO on offline pairs.

L = −E log σ(−β/2 [(‖ε − ε_θ(w)‖² − ‖ε − ε_ref(w)‖²) − (‖ε − ε_θ(l)‖² − ‖ε − ε_ref(l)‖²)]) with one
noise and one time for the chosen (w) and the rejected (l) image of a pair: Eq. 14 of Wallace et al.
2024, "Diffusion Model Alignment Using Direct Preference Optimization", as the authors' code
computes it. The number of timesteps and their weight are within β, the errors are means over
elements, and the 1/2 is the code's. A flow model's errors are those of its velocity.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from craft_trainer.bases import DiffusionModel
from craft_trainer.bases.conditions import Conditions
from craft_trainer.bases.lora import base_only, with_weights
from craft_trainer.data.examples import Batch
from craft_trainer.diffusion.forward import ForwardProcess
from craft_trainer.methods.base import Loss
from craft_trainer.methods.denoising import conditions_of, corrupt, latents_of


@dataclass(frozen=True)
class Dpo:
    """Prefer the chosen image of a pair to the rejected one, more than the reference does.

    Attributes:
        model: With LoRA attached.
        forward: The process that the base model reverses.
        beta: β.
        reference: Weights of the adapter in the reference; None for the base model alone.
    """

    model: DiffusionModel
    forward: ForwardProcess
    beta: float
    reference: Mapping[str, Tensor] | None = None

    def loss(self, batch: Batch, step: int) -> Loss:
        """The loss of a batch of pairs, and how often the model prefers the chosen image."""
        assert batch.rejected is not None
        conditions = conditions_of(batch, self.model)
        chosen = latents_of(batch, "latent", batch.moments, self.model)
        rejected = latents_of(batch, "rejected", batch.rejected, self.model)
        # The reference first: `with_weights` must be left before a graph is built.
        with self._as_reference():
            before = self._errors(batch, chosen, rejected, conditions)
        after = self._errors(batch, chosen, rejected, conditions)
        margin = (after[0] - before[0]) - (after[1] - before[1])
        loss = dpo_loss(margin, self.beta)
        logs = {
            "loss/dpo": loss.detach(),
            "dpo/accuracy": (margin < 0).float().mean().detach(),
            "dpo/margin": margin.mean().detach(),
            "loss/diffusion": after[0].mean().detach(),
        }
        return Loss(loss, logs)

    def _as_reference(self) -> AbstractContextManager[None]:
        if self.reference is None:
            return base_only(self.model)
        return with_weights(self.model, self.reference)

    def _errors(
        self, batch: Batch, chosen: Tensor, rejected: Tensor, conditions: Conditions
    ) -> tuple[Tensor, Tensor]:
        """``(B,)`` mean squared errors of the chosen and of the rejected images."""
        pairs = [corrupt(batch, latents, self.forward) for latents in (chosen, rejected)]
        noisy, times, target = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        predicted = self.model.denoise(noisy, times, conditions.repeat(2))
        errors = (predicted - target).square().flatten(1).mean(dim=1)
        one, other = errors.chunk(2)
        return one, other


def dpo_loss(margin: Tensor, beta: float) -> Tensor:
    """−log σ(−β/2 · margin), the mean over ``(B,)`` margins; log 2 where they are 0.

    A margin is how much the error on the chosen image grew, against the reference, beyond that on
    the rejected one: below 0 where the model has learned the preference.
    """
    return -F.logsigmoid(-0.5 * beta * margin).mean()
