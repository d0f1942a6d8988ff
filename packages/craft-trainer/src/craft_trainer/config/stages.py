"""Stages of a run: one section a method, each with a learning rate of its own.

Defaults are the paper's (§4.1.3, §3.3, Appendix A) where it states a value.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from cas_metric.protocol import PRIMITIVES
from craft_trainer.config.section import Section


def _known_fields(template: str) -> str:
    """A template that can be filled in; found now, and not after the stages before it."""
    try:
        template.format(prompt="", label="", token="")
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise ValueError("only {prompt}, {label} and {token} can stand in it") from error
    return template


#: Template of a conditioning text.
Template = Annotated[str, AfterValidator(_known_fields)]


class Stage(Section):
    """What every method's stage has.

    Attributes:
        steps: Optimizer steps; or give ``epochs``.
        epochs: Passes over the training images.
        batch_size: Images in one forward pass, on each process.
        accumulate: Forward passes to one optimizer step.
        warmup_steps: Steps in which the learning rate rises linearly; it is constant afterwards.
        max_grad_norm: Gradients are clipped to this norm.
        prompt: Template of the text that the model is conditioned on, with ``{prompt}``,
            ``{label}`` and, after textual inversion, ``{token}``.
        checkpoint_every: Optimizer steps between two checkpoints.
    """

    steps: PositiveInt | None = None
    epochs: PositiveInt | None = None
    batch_size: PositiveInt = 4
    accumulate: PositiveInt = 1
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat = 0.0
    warmup_steps: NonNegativeInt = 0
    max_grad_norm: PositiveFloat = 1.0
    prompt: Template = "{prompt}"
    checkpoint_every: PositiveInt = 100

    @model_validator(mode="after")
    def _has_one_length(self) -> Stage:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either `steps` or `epochs`")
        return self


class ZeroShotStage(Section):
    """The base model as it is: an artefact without weights, so that it is drawn like the others.

    Attributes:
        prompt: As of :class:`Stage`.
    """

    method: Literal["zero_shot"]
    prompt: Template = "{prompt}"


class TextualInversionStage(Stage):
    """One learned token a class, with the diffusion loss.

    Attributes:
        vectors_per_token: Vectors that one token stands for.
    """

    method: Literal["textual_inversion"]
    vectors_per_token: PositiveInt = 1
    learning_rate: PositiveFloat = 5e-4
    prompt: Template = "a photo of {token}"

    @model_validator(mode="after")
    def _sees_its_token(self) -> TextualInversionStage:
        if "{token}" not in self.prompt:
            raise ValueError("`prompt` lacks {token}, so that nothing would be learned")
        return self


class LoraStage(Stage):
    """LoRA with the diffusion loss.

    Attributes:
        kl_to_base: Weight of the mean squared difference between the predictions with and without
            the adapter, on the latents of the diffusion loss. For a Gaussian step it is the KL
            divergence to the base model up to a factor that depends on the timestep.
    """

    method: Literal["lora"]
    learning_rate: PositiveFloat = 5e-6
    kl_to_base: NonNegativeFloat = 0.0


class DpoStage(Stage):
    """LoRA with Diffusion-DPO (Wallace et al. 2024) on offline pairs.

    Attributes:
        pairs: Table that ``craft-trainer pairs`` writes, or its folder.
        beta: β, how strongly the model is held to the reference; the original's default.
        reference: What the model is compared with. ``start`` is the model that the stage starts
            from, as in the original: where an earlier stage trained a LoRA, that LoRA. ``base`` is
            the model with the adapter off. Both are the same when the stage is the first.
    """

    method: Literal["dpo"]
    learning_rate: PositiveFloat = 5e-6
    pairs: Path
    beta: PositiveFloat = 5000.0
    reference: Literal["start", "base"] = "start"


class Rewards(Section):
    """Weight of each reward within r_cam; 0 switches it off (Eq. 6, Tables 4 and 15)."""

    vdc: NonNegativeFloat = 0.25
    ccs: NonNegativeFloat = 0.25
    dd: NonNegativeFloat = 0.25
    sfs: NonNegativeFloat = 0.25

    def weights(self) -> dict[str, float]:
        """Primitive to weight."""
        return {name: getattr(self, name) for name in PRIMITIVES}


class CraftStage(Stage):
    """LoRA with Eq. 1: the diffusion loss minus the clinical reward of sampled images.

    Attributes:
        gradient_steps: K, the last steps that the reward's gradient flows through.
        repeats: M, trajectories a prompt.
        repeat_mode: ``resample`` draws M independent ones, ``renoise`` shares their prefix.
        unconditional_gradient: Whether the gradient also flows through the unconditional branch
            of guidance (``full``) or not (``stop``).
        kl_to_base: As of :class:`LoraStage`; it is added to Eq. 1.
        reward_gradients_every: Steps between two logs of each reward's gradient; 0 for never.
    """

    method: Literal["craft"]
    learning_rate: PositiveFloat = 5e-6
    lambda_diff: NonNegativeFloat = 0.2
    lambda_cam: NonNegativeFloat = 0.8
    rewards: Rewards = Rewards()
    gradient_steps: PositiveInt = 1
    repeats: PositiveInt = 2
    repeat_mode: Literal["resample", "renoise"] = "resample"
    unconditional_gradient: Literal["full", "stop"] = "full"
    kl_to_base: NonNegativeFloat = 0.0
    reward_gradients_every: NonNegativeInt = 50

    @model_validator(mode="after")
    def _has_a_loss(self) -> CraftStage:
        if self.lambda_diff == self.lambda_cam == self.kl_to_base == 0:
            raise ValueError("lambda_diff, lambda_cam and kl_to_base are all 0: nothing is learned")
        return self


AnyStage = Annotated[
    ZeroShotStage | TextualInversionStage | LoraStage | DpoStage | CraftStage,
    Field(discriminator="method"),
]

#: Method to its section.
STAGES: dict[str, type[Section]] = {
    "zero_shot": ZeroShotStage,
    "textual_inversion": TextualInversionStage,
    "lora": LoraStage,
    "dpo": DpoStage,
    "craft": CraftStage,
}
