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
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import PositiveFloat

from craft_trainer.config.stage import Kept, Place, TrainedStage
from craft_trainer.methods.base import Loss, Method, Setup

if TYPE_CHECKING:
    from torch import Tensor

    from craft_trainer.bases.base import DiffusionModel
    from craft_trainer.data.dataset import Batch, Examples
    from craft_trainer.diffusion.conditions import Conditions
    from craft_trainer.diffusion.forward_process import ForwardProcess


class DpoStage(TrainedStage):
    """LoRA with Diffusion-DPO (Wallace et al. 2024) on offline pairs.

    Attributes:
        pairs: Table that ``craft-trainer pairs`` writes, or its folder.
        beta: β, how strongly the model is held to the reference; the original's default.
        reference: What the model is compared with. ``start`` is the model that the stage starts
            from, as in the original: where an earlier stage trained a LoRA, that LoRA. ``base`` is
            the model with the adapter off. Both are the same when the stage is the first.

    Examples:
        >>> import yaml
        >>> text = "{method: dpo, pairs: runs/pairs, steps: 200, beta: 2000}"
        >>> DpoStage.model_validate(yaml.safe_load(text)).reference
        'start'
    """

    method: Literal["dpo"]
    pairs: Place
    beta: PositiveFloat = 5000.0
    reference: Literal["start", "base"] = "start"

    title: ClassVar[str] = "Diffusion-DPO"
    first_values: ClassVar[Mapping[str, Any]] = {"epochs": 1, "pairs": "pairs"}

    @property
    def copies(self) -> int:
        """The reference, where it is not the base model."""
        return int(self.reference == "start")

    def sources(self) -> tuple[Path, ...]:
        """The table of pairs."""
        return (self.pairs,)

    def examples(self, train: Examples) -> tuple[Examples, Examples]:
        """The chosen and the rejected image of each pair."""
        from craft_trainer.data.pairs import read_pairs

        return read_pairs(self.pairs, train)

    def build(self, setup: Setup) -> Method:
        """The model against a reference, which is kept where it is not the base model."""
        model = setup.model
        start = {name: value.detach().clone() for name, value in model.trainable.items()}
        forward = model.forward_process(setup.latent)
        return Dpo(model, forward, self.beta, start if self.reference == "start" else None)

    def forwards_per_image(self, differentiated: float, branches: int, steps: int) -> float:
        """The model and the reference on both images of a pair."""
        return 2 * differentiated + 2

    def kept_bytes(self, kept: Kept) -> int:
        """Both images of a pair are predicted together."""
        return 2 * super().kept_bytes(kept)


@dataclass(frozen=True)
class Dpo(Method):
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
        from craft_trainer.methods.denoising import conditions_of, latents_of

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
        from craft_trainer.bases.lora import base_only, with_weights

        if self.reference is None:
            return base_only(self.model)
        return with_weights(self.model, self.reference)

    def _errors(
        self, batch: Batch, chosen: Tensor, rejected: Tensor, conditions: Conditions
    ) -> tuple[Tensor, Tensor]:
        """``(B,)`` mean squared errors of the chosen and of the rejected images."""
        import torch

        from craft_trainer.methods.denoising import corrupt

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
    from torch.nn import functional as F

    return -F.logsigmoid(-0.5 * beta * margin).mean()
