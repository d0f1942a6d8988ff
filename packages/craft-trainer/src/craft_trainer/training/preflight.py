"""What is looked at before the first stage, so that no run fails at its third for what was known.

``craft-trainer doctor`` looks at the same, and at more; here only what stops a run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cas_metric.encoders.hub import fetch
from cas_metric.encoders.loading import has_text_tower, open_encoder
from cas_metric.encoders.registry import resolve
from cas_metric.errors import InputError, PreflightError
from cas_metric.files import require_writable
from cas_metric.protocol import SCORE_DTYPE, TEXT_POLICY
from cas_metric.scoring.probe import Probe
from craft_trainer.bases.base import family_of
from craft_trainer.bases.loading import empty_model, require_sampling
from craft_trainer.bases.lora import LORA_FILE, attach_lora, fitting_lora, require_patterns
from craft_trainer.bases.tokens import EMBEDDINGS_FOLDER
from craft_trainer.bases.weights import base_directory, pipeline_name
from craft_trainer.config.schema import Config
from craft_trainer.config.stage import DenoisingStage, TrainedStage
from craft_trainer.data.dataset import Examples
from craft_trainer.guards.heldout import held_out_examples
from craft_trainer.training.optimizers import no_matrix, require_optimizer

#: What :func:`unprepared` finds, by the end of its words, and what helps.
_NO_PROMPT: Final = "has no prompt"
_NO_CHECKLIST: Final = "has no checklist, which ccs needs"
_NOT_IN_PROBE: Final = "is none of critic.probe"
_ONE_CLASS: Final = "needs images of two classes"
_FIXES: Final = {
    _NO_PROMPT: "complete the manifest, whose texts stand in the column `prompt`",
    _NO_CHECKLIST: "name a domain pack with a checklist of every class in `data.domain`",
    _NOT_IN_PROBE: "correct the labels, or leave critic.probe out",
    _ONE_CLASS: "add images of a second class, or name a probe that knows several in critic.probe",
}


def require_ready(config: Config, examples: Examples) -> None:
    """Hold every stage against the base model, the training images and the encoders.

    Args:
        config: Of the run.
        examples: Training images.

    Raises:
        InputError: Nothing can be written to ``output``, sampling, adapter or a stage do not suit
            the base model, an optimizer is not here or cannot train the adapter, an encoder lacks a
            text tower, or a learned token or a probe is missing or of another encoder.
        PreflightError: Prompts, checklists or classes that a stage, or a look at held-out images,
            needs are missing; all listed.
        ModelUnavailable: The base model or an encoder cannot be had here.
    """
    require_writable(config.output, fix="choose another `output`")
    require_stages(config, offline=config.offline)
    require_optimizers(config, offline=config.offline)
    probes = saved_probes(config)
    if problems := list(unprepared(examples, config, probes)):
        raise PreflightError(problems, fix=completing(config, problems))
    if problems := list(unfit_held_out(config, examples, probes)):
        fix = "hold out images of the same classes, with prompts, or change the stages' `prompt`"
        raise PreflightError(problems, fix=fix)
    for stage in config.stages:
        stage.require_examples(config, examples)
    for spec in filter(None, encoders_of(config).values()):
        require_encoder(spec, config, offline=config.offline)
    require_own_spaces(config, offline=config.offline)


def require_stages(config: Config, *, offline: bool) -> None:
    """Hold sampling, adapter and every stage against the base model, and against `start`.

    Raises:
        InputError: Of the base model's, it cannot sample so, or images of that side; no layer is
            adapted so, a stage cannot train it, or no token is there for a prompt.
        ModelUnavailable: The base model cannot be had here.
    """
    family = family_of(pipeline_name(base_directory(config.base, config.revision, offline=offline)))
    config = config.model_copy(update={"offline": offline})
    times = {config.sampling: require_sampling(config)}
    for stage in config.stages:
        stage.require(config, family)
        own = stage.sampling(config)
        if own not in times:
            times[own] = require_sampling(config.model_copy(update={"sampling": own}))
        if times[own]:
            stage.require_times(times[own])
    if any(stage.learns == "lora" for stage in config.stages):
        require_adapter(config, offline=offline)
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


def require_adapter(config: Config, *, offline: bool) -> None:
    """Hold the adapter against the denoiser, which is built without weights, and against `start`.

    Raises:
        InputError: ``targets``, or a key of ``rank_pattern`` or ``alpha_pattern``, names no layer;
            or the adapter that ``start`` holds is another one.
        ModelUnavailable: The base model cannot be had here.
    """
    lora, start = config.lora, config.start
    begun = start is not None and (start / LORA_FILE).is_file()
    if not (begun or lora.targets or lora.rank_pattern or lora.alpha_pattern):
        return
    model = empty_model(base_directory(config.base, config.revision, offline=offline))
    attach_lora(model, lora, seed=config.seed)
    require_patterns(model, lora)
    if start is not None and begun:
        fitting_lora(model, start)


def unprepared(examples: Examples, config: Config, probes: Mapping[str, Probe]) -> Iterator[str]:
    """What the templates and the rewards need and a row or a class lacks.

    Args:
        examples: Training images.
        config: Of the run.
        probes: Those of :func:`saved_probes` that could be read.
    """
    rewards = {name for stage in config.stages for name in stage.rewarded()}
    # A stage with examples of its own has prompts of its own.
    templates = [stage.prompt for stage in config.stages if not stage.sources()]
    if "vdc" in rewards or any("{prompt}" in template for template in templates):
        for path, prompt in zip(examples.paths, examples.prompts, strict=True):
            if not prompt:
                yield f"{path.name} {_NO_PROMPT}"
    if "ccs" in rewards:
        for label in sorted(set(examples.labels)):
            if not examples.checklist(label):
                yield f"class {label!r} {_NO_CHECKLIST}"
    if probe := probes.get("critic.probe"):
        for label in sorted(set(examples.labels) - set(probe.classes)):
            yield f"class {label!r} {_NOT_IN_PROBE}"
    elif config.critic.probe is None and "dd" in rewards and len(set(examples.labels)) < 2:
        yield f"the probe of dd {_ONE_CLASS}"


def completing(config: Config, problems: Sequence[str]) -> str:
    """What to do about those of :func:`unprepared`; empty where there is none of them."""
    fixes = [fix for end, fix in _FIXES.items() if any(one.endswith(end) for one in problems)]
    if _FIXES[_NO_PROMPT] in fixes and any("{prompt}" in stage.prompt for stage in config.stages):
        fixes.append("or leave {prompt} out of the stages' `prompt`")
    if fixes and any(stage.rewarded() for stage in config.stages):
        fixes.append("or set the weight of the reward that needs it to 0")
    return "; ".join(fixes)


def saved_probes(config: Config) -> dict[str, Probe]:
    """Setting to the probe that a run reads by it.

    Raises:
        InputError: No such file, or no probe.
    """
    judged = any("dd" in stage.rewarded() for stage in config.stages)
    named = {
        "critic.probe": config.critic.probe if judged else None,
        "validation.probe": config.validation.probe if config.validation.encoder else None,
    }
    found = {}
    for name, path in named.items():
        if path is not None:
            with _told_of(name):
                found[name] = Probe.read(path)
    return found


def require_own_spaces(config: Config, *, offline: bool) -> None:
    """Hold saved probes against the encoders, which are loaded where nobody has before.

    Raises:
        InputError: A probe was fitted on embeddings of another encoder.
        ModelUnavailable: An encoder cannot be had here.
    """
    own, validation = config.critic, config.validation
    for name, probe in saved_probes(config).items():
        critic = name == "critic.probe"
        encoder = open_encoder(
            own.encoder if critic else str(validation.encoder),
            device="cpu",
            dtype=(own.dtype if critic else None) or SCORE_DTYPE,
            offline=offline,
            text_policy=own.text_policy if critic else TEXT_POLICY,
        )
        with _told_of(name):
            probe.require(encoder)


@contextmanager
def _told_of(setting: str) -> Iterator[None]:
    """Name the setting by which a probe is read."""
    try:
        yield
    except InputError as error:
        fix = f"{error.fix}; or leave {setting} out"
        raise InputError(f"{setting}: {error.problem}", fix=fix) from error


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
            trunk = empty_model(directory).trunk
            for name, layer in trunk.named_modules():
                weight = getattr(layer, "weight", None)
                if re.fullmatch(config.lora.targets, name) and getattr(weight, "ndim", 2) != 2:
                    raise no_matrix(f"lora.targets names {name}, which is a {type(layer).__name__}")


def unfit_held_out(config: Config, train: Examples, probes: Mapping[str, Probe]) -> Iterator[str]:
    """What the looks at held-out images need and a row of ``validation.manifest`` lacks.

    Args:
        config: Of the run.
        train: Training images.
        probes: Those of :func:`saved_probes` that could be read.
    """
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
    probe = probes.get("validation.probe")
    if probe is not None and not learned:
        known |= set(probe.classes)
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


def require_encoder(spec: str, config: Config, *, offline: bool) -> Path | None:
    """Folder of an encoder's files; None for a weight file of open_clip.

    Raises:
        InputError: It is to embed texts, and has no text tower.
        ModelUnavailable: Its files are not here and cannot be had.
    """
    directory = _encoder_directory(spec, offline=offline)
    roles = [
        f"{' and '.join(sorted(judged))} of a {stage.method} stage"
        for stage in config.stages
        if spec in stage.encoders(config) and (judged := stage.rewarded().keys() & {"vdc", "ccs"})
    ]
    if spec == config.validation.encoder:
        roles.append("the held-out evaluation")
    if directory is None or not roles or resolve(spec).openclip is not None:
        return directory
    if not has_text_tower(directory):
        raise InputError(
            f"{spec} embeds images only: it cannot serve {roles[0]}",
            fix="take an image-text encoder such as medsiglip or siglip; as a critic it gives dd "
            "and sfs alone",
        )
    return directory


def _encoder_directory(spec: str, *, offline: bool) -> Path | None:
    source = resolve(spec)
    if source.weights is not None:
        return None
    if source.hub_id is None:
        return source.directory
    openclip = source.openclip is not None
    return fetch(source.hub_id, source.revision, offline=offline, openclip=openclip).directory
