"""What a stage computes, in forwards of the denoiser on one image.

With c the cost of a differentiated forward (3: forward 1, backward 2; 4 with gradient
checkpointing, which runs the forward again), b the branches of guidance (2; 1 where the scale is 1)
and c' = b c, or c + 1 where the unconditional branch is held constant, an image costs

===================  ===========================================================================
textual inversion,   c, and 1 more for the base model's prediction where ``kl_to_base`` counts
LoRA
DPO                  2 c + 2: the model and the reference on both images of a pair
CRAFT, ``resample``  M (b (T − K) + c' K), and c for the diffusion term
CRAFT, ``renoise``   b (T − K) + M c' K, and c for the diffusion term
===================  ===========================================================================

A guidance-distilled model (Flux) is told the scale: b = 1. A look of the held-out evaluation costs
b T an image. The VAE, the text encoder and the critics are
not counted; with the models at hand, ``craft-trainer estimate --measure`` times whole steps.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from craft_trainer.config.schema import Config, CraftStage, Sampling


class Cost(NamedTuple):
    """Cost of a stage on one process.

    Attributes:
        method: Of the stage.
        steps: Optimizer steps.
        forwards_per_image: Forwards, and what its backwards are worth, for one image (or pair).
        forwards_per_step: The same for one optimizer step.
        forwards: The same for the stage.
        looks: Held-out evaluations, the one before the first step included.
        look_forwards: Forwards of all of them.
    """

    method: str
    steps: int
    forwards_per_image: float
    forwards_per_step: float
    forwards: float
    looks: int = 0
    look_forwards: float = 0.0


def cost_of(config: Config, stage: Any, images: int, *, guided: bool = True) -> Cost:
    """Cost of a stage on ``images`` training images (or, for DPO, pairs).

    ``guided`` says whether the base model's guidance has an unconditional branch.
    """
    if not hasattr(stage, "steps"):  # nothing is trained
        return Cost(stage.method, 0, 0.0, 0.0, 0.0)
    together = stage.batch_size * stage.accumulate
    steps = stage.steps or -(-(stage.epochs or 0) * images // together)
    differentiated = 4.0 if config.gradient_checkpointing else 3.0
    one = _forwards_per_image(config, stage, differentiated, guided)
    looks = _looks(config, steps)
    drawn = config.sampling.steps * config.validation.prompts
    look = branches(config.sampling, guided=guided) * drawn
    return Cost(
        method=stage.method,
        steps=steps,
        forwards_per_image=one,
        forwards_per_step=one * together,
        forwards=one * together * steps,
        looks=looks,
        look_forwards=float(looks * look),
    )


def _forwards_per_image(config: Config, stage: Any, differentiated: float, guided: bool) -> float:
    if stage.method == "dpo":
        return 2 * differentiated + 2
    kept = float(getattr(stage, "kl_to_base", 0.0) > 0)
    if not isinstance(stage, CraftStage):
        return differentiated + kept
    one = differentiated * (stage.lambda_diff > 0 or kept > 0) + kept
    if stage.lambda_cam > 0:
        one += reward_forwards(stage, config.sampling, differentiated, guided=guided)
    return one


def branches(sampling: Sampling, *, guided: bool = True) -> int:
    """Forwards of one guided prediction."""
    return 1 if sampling.guidance == 1 or not guided else 2


def reward_forwards(
    stage: CraftStage, sampling: Sampling, differentiated: float, *, guided: bool = True
) -> float:
    """Forwards of M trajectories: with guidance 2(T − K) + 2cK, where c is forward and backward.

    A shared prefix counts once, and an unconditional branch that is held constant has no backward.
    """
    both = branches(sampling, guided=guided)
    tail = differentiated * both
    if both == 2 and stage.unconditional_gradient == "stop":
        tail = differentiated + 1
    prefix = both * (sampling.steps - stage.gradient_steps)
    shared = 1 if stage.repeat_mode == "renoise" else stage.repeats
    return float(shared * prefix + stage.repeats * tail * stage.gradient_steps)


def _looks(config: Config, steps: int) -> int:
    """Before the first step, every ``validation.every`` steps, and after the last."""
    validation = config.validation
    if validation.encoder is None:
        return 0
    return 1 + steps // validation.every + (steps % validation.every > 0)
