"""What a stage computes, in forwards of the UNet on one image."""

from __future__ import annotations

from typing import NamedTuple

from craft_trainer.config import AnyStage, Config, CraftStage, Sampling


class Cost(NamedTuple):
    """Cost of a stage on one process.

    Attributes:
        method: Of the stage.
        steps: Optimizer steps.
        forwards_per_image: UNet forwards, and what its backwards are worth, for one image.
        forwards_per_step: The same for one optimizer step.
        forwards: The same for the stage.
    """

    method: str
    steps: int
    forwards_per_image: float
    forwards_per_step: float
    forwards: float


def cost_of(config: Config, stage: AnyStage, images: int) -> Cost:
    """Cost of a stage on ``images`` training images."""
    together = stage.batch_size * stage.accumulate
    steps = stage.steps or -(-(stage.epochs or 0) * images // together)
    # Forward 1, backward 2; checkpointing runs the forward again.
    differentiated = 4.0 if config.gradient_checkpointing else 3.0
    one = differentiated
    if isinstance(stage, CraftStage):
        one = differentiated * (stage.lambda_diff > 0)
        if stage.lambda_cam > 0:
            one += reward_forwards(stage, config.sampling, differentiated)
    return Cost(stage.method, steps, one, one * together, one * together * steps)


def reward_forwards(stage: CraftStage, sampling: Sampling, differentiated: float) -> float:
    """Forwards of M trajectories: with guidance 2(T − K) + 2cK, where c is forward and backward.

    A shared prefix counts once, and an unconditional branch that is held constant has no backward.
    """
    branches = 1.0 if sampling.guidance == 1 else 2.0
    tail_branches = differentiated * branches
    if branches == 2 and stage.unconditional_gradient == "stop":
        tail_branches = differentiated + 1
    prefix = branches * (sampling.steps - stage.gradient_steps)
    shared = 1 if stage.repeat_mode == "renoise" else stage.repeats
    return shared * prefix + stage.repeats * tail_branches * stage.gradient_steps
