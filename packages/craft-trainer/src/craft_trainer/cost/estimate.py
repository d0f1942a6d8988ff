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

Each method says it of itself: :meth:`~craft_trainer.config.stage.Stage.forwards_per_image`.

A guidance-distilled model (Flux) is told the scale: b = 1. A look of the held-out evaluation costs
b T an image. The VAE, the text encoder and the critics are
not counted; with the models at hand, ``craft-trainer estimate --measure`` times whole steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from cas_metric.errors import CasError
from cas_metric.statistics.tables import markdown_table
from cas_metric.verbs.result import Result
from craft_trainer.config.schema import Config, resolve
from craft_trainer.config.sections import Sampling
from craft_trainer.config.stage import Stage, TrainedStage

#: Figures of the memory that are printed, and their headings.
_FIGURES: Final = {
    "loading": "at load",
    "weights": "weights",
    "optimizer": "optimizer",
    "activations": "activations",
    "checkpointed": "… checkpointed",
    "total": "total",
}


def estimate(
    config: Config | Mapping[str, Any] | str | Path,
    *,
    measure: bool = False,
    progress: Callable[[int, int], None] | None = None,
    **overrides: Any,
) -> Result:
    """What each stage computes and how much memory it takes, before it runs.

    Args:
        config: A configuration, its values, or the YAML file that holds them.
        measure: Take a few steps of every stage on a few images, and time all but the first: one,
            or with ``prefix.replay`` as many as share a prefix.
        progress: Told how many stages are measured.
        overrides: As of :func:`craft_trainer.train`.

    Returns:
        Its ``summary["stages"]`` holds one entry a stage: forwards, memory in GB (None where a
        model's configuration is not here: ``summary["memory_unknown"]`` says why) and, where it was
        measured, seconds a step and hours.

    Raises:
        CasError: The configuration or the data must be corrected.

    Examples:
        >>> import craft_trainer
        >>> found = craft_trainer.estimate(settings, **{"stages.0.steps": 10})
        >>> found.summary["stages"][0]["forwards"]
        120.0
    """
    from craft_trainer.cost.memory import has_unconditional_branch
    from craft_trainer.data.dataset import read_examples

    settings = resolve(config, **overrides)
    examples = read_examples(settings.data.train, settings.data.domain)
    guided = has_unconditional_branch(settings)
    memories, reason = _memories(settings, len(set(examples.labels)))
    found = []
    for number, (stage, memory) in enumerate(zip(settings.stages, memories, strict=True), start=1):
        passed_over = _passed_over(stage, examples)
        cost = cost_of(settings, stage, len(passed_over), guided=guided)
        timing = None
        if measure and isinstance(stage, TrainedStage):
            from craft_trainer.cost.measurement import measure as take_steps

            timing = take_steps(settings, number, examples)._asdict()
        hours = timing["seconds"] * cost.steps / 3600 if timing else None
        found.append({**cost._asdict(), "memory": memory, "measured": timing, "hours": hours})
        if progress is not None:
            progress(number, len(settings.stages))
    text = _text(found, reason, checkpointing=settings.gradient_checkpointing)
    return Result("estimate", {"stages": found, "memory_unknown": reason}, text)


def _passed_over(stage: Stage, examples: Any) -> Any:
    """What an epoch goes over: the training images, or pairs; these only where they count."""
    if stage.sources() and getattr(stage, "epochs", None) is not None:
        return stage.examples(examples)[0]
    return examples


def _memories(config: Config, classes: int) -> tuple[list[dict[str, Any] | None], str]:
    """Of each stage, and why there is none where there is none."""
    from craft_trainer.cost.memory import memory_of, parts_of

    try:
        parts = parts_of(config)
        found = [
            memory_of(config, one, classes, parts)._asdict()
            if isinstance(one, TrainedStage)
            else None
            for one in config.stages
        ]
    except CasError as error:
        return [None] * len(config.stages), error.problem
    return found, ""


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

    Examples:
        >>> cost = Cost("lora", 10, forwards_per_image=3, forwards_per_step=12, forwards=120)
        >>> cost.forwards == cost.steps * cost.forwards_per_step
        True
    """

    method: str
    steps: int
    forwards_per_image: float
    forwards_per_step: float
    forwards: float
    looks: int = 0
    look_forwards: float = 0.0


def cost_of(config: Config, stage: Stage, images: int, *, guided: bool = True) -> Cost:
    """Cost of a stage on ``images`` training images (or, for DPO, pairs).

    ``guided`` says whether the base model's guidance has an unconditional branch.

    Examples:
        >>> from craft_trainer.config.schema import resolve
        >>> config = resolve(settings, **{"stages.0.steps": 10})
        >>> cost = cost_of(config, config.stages[0], images=16)
        >>> cost.steps, cost.forwards
        (10, 120.0)
    """
    if not isinstance(stage, TrainedStage):
        return Cost(stage.method, 0, 0.0, 0.0, 0.0)
    together = stage.batch_size * stage.accumulate
    steps = stage.steps or -(-(stage.epochs or 0) * images // together)
    differentiated = 4.0 if config.gradient_checkpointing else 3.0
    both = branches(config.sampling, guided=guided)
    own = stage.sampling(config)
    one = stage.forwards_per_image(differentiated, branches(own, guided=guided), own.steps)
    looks = _looks(config, steps)
    return Cost(
        method=stage.method,
        steps=steps,
        forwards_per_image=one,
        forwards_per_step=one * together,
        forwards=one * together * steps,
        looks=looks,
        look_forwards=float(looks * both * config.sampling.steps * config.validation.prompts),
    )


def branches(sampling: Sampling, *, guided: bool = True) -> int:
    """Forwards of one guided prediction."""
    return 1 if sampling.guidance == 1 or not guided else 2


def _looks(config: Config, steps: int) -> int:
    """Before the first step, every ``validation.every`` steps, and after the last."""
    validation = config.validation
    if validation.encoder is None:
        return 0
    return 1 + steps // validation.every + (steps % validation.every > 0)


def _text(stages: Sequence[Mapping[str, Any]], reason: str, *, checkpointing: bool) -> str:
    """Tables of work, memory and time, as Markdown."""
    work = [
        [
            one["method"],
            f"{one['steps']:,}",
            f"{one['forwards_per_image']:g}",
            f"{one['forwards_per_step']:g}",
            f"{one['forwards']:,.0f}",
            f"{one['look_forwards']:,.0f}",
        ]
        for one in stages
    ]
    headings = ["stage", "steps", "forwards / image", "/ step", "in all", "held-out looks"]
    parts = [markdown_table(headings, work)]
    memory = [
        [one["method"], *(f"{one['memory'][name]:.3g}" for name in _FIGURES)]
        for one in stages
        if one["memory"]
    ]
    if memory:
        parts.append(markdown_table(["GB", *_FIGURES.values()], memory))
        parts.append(
            f"The total is with{'' if checkpointing else 'out'} gradient checkpointing, the most "
            "of loading and training, before workspaces: allow for a tenth more."
        )
    else:
        parts.append(f"Memory is not estimated: {reason}")
    timed = [
        [
            one["method"],
            one["measured"]["device"],
            f"{one['measured']['seconds']:.2f}",
            f"{one['hours']:.2f}",
            "–" if one["measured"]["peak"] is None else f"{one['measured']['peak']:.2f}",
        ]
        for one in stages
        if one["measured"]
    ]
    if timed:
        parts.append(markdown_table(["stage", "device", "s / step", "hours", "peak GB"], timed))
    return "\n\n".join(parts)
