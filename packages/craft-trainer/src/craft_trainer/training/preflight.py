"""What is looked at before the first stage, so that no run fails at its third for what was known.

``craft-trainer doctor`` looks at the same, and at more; here only what stops a run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from cas_metric.encoders.hub import fetch
from cas_metric.encoders.registry import resolve
from cas_metric.errors import InputError, PreflightError
from cas_metric.runs.folder import require_writable
from cas_metric.scoring.probe import Probe
from craft_trainer.bases.base import family_of
from craft_trainer.bases.tokens import EMBEDDINGS_FOLDER
from craft_trainer.bases.weights import base_directory, empty_part, pipeline_name
from craft_trainer.config.schema import Config
from craft_trainer.config.stage import DenoisingStage, TrainedStage
from craft_trainer.data.dataset import Examples
from craft_trainer.guards.heldout import held_out_examples
from craft_trainer.training.optimizers import no_matrix, require_optimizer


def require_ready(config: Config, examples: Examples) -> None:
    """Hold every stage against the base model, the training images and the encoders.

    Args:
        config: Of the run.
        examples: Training images.

    Raises:
        InputError: Nothing can be written to ``output``, a stage cannot train such a base model, an
            optimizer is not here or cannot train the adapter, or a learned token or the critic's
            probe is missing.
        PreflightError: Prompts, checklists or classes that a stage, or a look at held-out images,
            needs are missing; all listed.
        ModelUnavailable: The base model or an encoder cannot be had here.
    """
    require_writable(config.output)
    require_stages(config, offline=config.offline)
    require_optimizers(config, offline=config.offline)
    if problems := list(unprepared(examples, config)):
        fix = "complete the manifest, or set the weight of the reward that needs it to 0"
        raise PreflightError(problems, fix=fix)
    if problems := list(unfit_held_out(config, examples)):
        fix = "hold out images of the same classes, with prompts, or change the stages' `prompt`"
        raise PreflightError(problems, fix=fix)
    for spec in filter(None, encoders_of(config).values()):
        encoder_directory(spec, offline=config.offline)


def require_stages(config: Config, *, offline: bool) -> None:
    """Hold every stage against the family of the base model, and against what `start` brings.

    Raises:
        InputError: A stage cannot train such a model, or no token is there for its prompt.
        ModelUnavailable: The base model cannot be had here.
    """
    family = family_of(pipeline_name(base_directory(config.base, config.revision, offline=offline)))
    if config.sampling.sampler is not None and not family.noise_schedule:
        raise InputError(
            f"sampling.sampler is not offered for {family.pipeline_name}, a flow model",
            fix="leave it out; sampling.flow_sampler says how it steps",
        )
    for stage in config.stages:
        stage.require(config, family)
    brought = config.start is not None and (config.start / EMBEDDINGS_FOLDER).is_dir()
    if brought or config.stages[0].learns == "tokens":
        return
    for number, stage in enumerate(config.stages, start=1):
        if "{token}" in stage.prompt:
            raise InputError(
                f"the prompt of stage {number} names {{token}}, and the run has no learned token",
                fix="begin with textual_inversion, name an artefact with tokens in `start`, or "
                "leave {token} out",
            )


def unprepared(examples: Examples, config: Config) -> Iterator[str]:
    """What the templates and the rewards need and a row or a class lacks."""
    rewards = {name for stage in config.stages for name in stage.rewarded()}
    # A stage with examples of its own has prompts of its own.
    templates = [stage.prompt for stage in config.stages if not stage.sources()]
    if "vdc" in rewards or any("{prompt}" in template for template in templates):
        for path, prompt in zip(examples.paths, examples.prompts, strict=True):
            if not prompt:
                yield f"{path.name} has no prompt"
    if "ccs" in rewards:
        for label in sorted(set(examples.labels)):
            if not examples.checklist(label):
                yield f"class {label!r} has no checklist, which ccs needs"
    if "dd" in rewards and config.critic.probe is not None:
        known = Probe.read(config.critic.probe).classes
        for label in sorted(set(examples.labels) - set(known)):
            yield f"class {label!r} is none of critic.probe"
    elif "dd" in rewards and len(set(examples.labels)) < 2:
        yield "the probe of dd needs images of two classes"


def require_optimizers(config: Config, *, offline: bool) -> None:
    """Hold the optimizer of every stage against what is installed and what it would train.

    Raises:
        InputError: It is not installed, or Muon would get what is no matrix.
        ModelUnavailable: The base model cannot be had here.
    """
    for stage in config.stages:
        if not isinstance(stage, TrainedStage):
            continue
        require_optimizer(stage)
        if stage.optimizer != "muon" or stage.learns != "lora":
            continue
        if config.lora.dora:
            raise no_matrix("DoRA learns norms")
        if config.lora.targets is not None:
            directory = base_directory(config.base, config.revision, offline=offline)
            trunk = empty_part(directory, family_of(pipeline_name(directory)).trunk_name)
            for name, layer in trunk.named_modules():
                weight = getattr(layer, "weight", None)
                if re.fullmatch(config.lora.targets, name) and getattr(weight, "ndim", 2) != 2:
                    raise no_matrix(f"lora.targets names {name}, which is a {type(layer).__name__}")


def unfit_held_out(config: Config, train: Examples) -> Iterator[str]:
    """What the looks at held-out images need and a row of ``validation.manifest`` lacks."""
    validation = config.validation
    if validation.manifest is None:
        return
    examples = held_out_examples(config, train)
    scored = validation.encoder is not None
    looking = TrainedStage if scored else DenoisingStage
    templates = [stage.prompt for stage in config.stages if isinstance(stage, looking)]
    if scored or any("{prompt}" in template for template in templates):
        for path, prompt in zip(examples.paths, examples.prompts, strict=True):
            if not prompt:
                yield f"{path.name} of the held-out images has no prompt"
    known = set(train.labels)
    learned = config.stages[0].learns == "tokens" and any("{token}" in one for one in templates)
    if validation.probe is not None and not learned:
        known |= set(Probe.read(validation.probe).classes)
    for label in sorted(set(examples.labels)):
        if (scored or learned) and label not in known:
            yield f"class {label!r} of the held-out images is not trained"
        elif scored and not examples.checklist(label):
            yield f"class {label!r} of the held-out images has no checklist"


def encoders_of(config: Config) -> dict[str, str | None]:
    """Role to the encoder that a run loads in it."""
    critics = dict.fromkeys(one for stage in config.stages for one in stage.encoders(config))
    named = {
        f"critic {number}" if number > 1 else "critic": one
        for number, one in enumerate(critics, start=1)
    }
    guard = config.guards.memorization
    watched = config.validation.encoder is not None and guard.reaction != "off"
    return {
        **named,
        "evaluator": config.validation.encoder,
        "memorization": guard.encoder if watched else None,
    }


def encoder_directory(spec: str, *, offline: bool) -> Path | None:
    """Folder of an encoder's files; None for a weight file of open_clip.

    Raises:
        ModelUnavailable: They are not here and cannot be had.
    """
    source = resolve(spec)
    if source.weights is not None:
        return None
    if source.hub_id is None:
        return source.directory
    openclip = source.openclip is not None
    return fetch(source.hub_id, source.revision, offline=offline, openclip=openclip).directory
