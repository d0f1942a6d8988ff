"""Artefacts of stages: what made them, and a model with one in it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from accelerate import Accelerator
from safetensors import SafetensorError

from cas_metric.encoders.weights import digest_file, digest_of
from cas_metric.errors import CasError, InputError
from cas_metric.files import to_json, write_bytes
from craft_trainer.artifact.provenance import base_hash
from craft_trainer.bases import loading as models
from craft_trainer.config.schema import AnyStage, Config, to_yaml
from craft_trainer.training import checkpoints
from craft_trainer.training.ranks import on_main

ARTIFACT: Final = "artifact"
IDENTITY_FILE: Final = "stage.json"
CONFIG_FILE: Final = "config.yaml"
_DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16}

#: Folder of a stage within that of a run: its number and its method.
_STAGE_FOLDER: Final = re.compile(r"(\d+)-([a-z_]+)")
#: Settings of a stage that change no step.
_WITHOUT_EFFECT: Final = ("checkpoint_every", "reward_gradients_every")


def find_artifact(folder: Path, stage: str | None = None) -> Path:
    """The artefact that a user means.

    Args:
        folder: An artefact, or the folder of a stage or of a run that has one.
        stage: Which stage of a run: its number, its method, or both as in ``2-lora``. By default
            the last one that is finished.

    Raises:
        InputError: There is none, or several answer to ``stage``; those that are there are named.
    """
    for one in (folder, folder / ARTIFACT):
        if (one / IDENTITY_FILE).is_file():
            if stage is None or stage in _names_of(one.parent):
                return one
            raise InputError(
                f"{folder} is no run but one of its stages, and not {stage!r}",
                fix="leave --stage out, or name the folder of the run",
            )
    finished = _finished_stages(folder)
    if not finished:
        raise InputError(
            f"{folder} holds no finished stage",
            fix="name the `output` of a run, or the folder `artifact` of one of its stages",
        )
    if stage is None:
        last = _names_of(finished[-1])[0]
        found = [one for one in finished if last in _names_of(one)]
    else:
        found = [one for one in finished if stage in _names_of(one)]
    if len(found) == 1:
        return found[0] / ARTIFACT
    there = ", ".join(one.name for one in finished)
    raise InputError(
        f"{folder}: {'several finished stages are' if found else 'no finished stage is'} "
        f"{stage or 'the last'!r}",
        fix=f"take one of these with --stage: {there}",
    )


def _finished_stages(folder: Path) -> list[Path]:
    """Folders of the stages of a run that have an artefact, in their order."""
    there = sorted(folder.iterdir()) if folder.is_dir() else []
    stages = [one for one in there if _STAGE_FOLDER.fullmatch(one.name)]
    finished = [one for one in stages if (one / ARTIFACT / IDENTITY_FILE).is_file()]
    return sorted(finished, key=lambda one: int(_names_of(one)[0]))


def _names_of(stage: Path) -> tuple[str, ...]:
    """What a stage answers to: number, method, and the name of its folder."""
    found = _STAGE_FOLDER.fullmatch(stage.absolute().name)
    return (found[1], found[2], found[0]) if found else ()


def origin_of(artifact: Path, config: Config) -> dict[str, Any]:
    """What images of an artefact come from, for the ``provenance`` of their folder.

    The digests say it, wherever the artefact lies: of the weights of the base model, and of what
    was trained.
    """
    trained = {
        path.relative_to(artifact).as_posix(): digest_file(path)
        for path in sorted(artifact.rglob("*.safetensors"))
    }
    return {
        "base": config.base,
        "base_sha256": base_hash(config.base, config.revision, offline=config.offline),
        "stage": stage_of(artifact, config).method,
        "trained_sha256": digest_of(trained),
    }


def load_base(config: Config, device: torch.device) -> models.DiffusionModel:
    """The base model that a configuration names, frozen."""
    return models.load_model(
        config.base,
        revision=config.revision,
        device=device,
        dtype=_DTYPES[config.dtype],
        offline=config.offline,
        gradient_checkpointing=config.gradient_checkpointing,
        compile_denoiser=config.compile,
        embedded_guidance=config.sampling.guidance,
    )


def load_trained(artifact: Path, config: Config, device: torch.device) -> models.DiffusionModel:
    """Base model with an artefact in it, as the trainer itself has it.

    Raises:
        InputError: As of :func:`require_base`.
    """
    require_base(artifact, config)
    model = load_base(config, device)
    if (artifact / models.LORA_FILE).is_file():
        lora = config.lora
        models.attach_lora(model, rank=lora.rank, alpha=lora.alpha, seed=config.seed)
    models.load_artifact(model, artifact)
    return model


def require_base(artifact: Path, config: Config) -> None:
    """Refuse an artefact of another base model: its weights may fit, and mean nothing there.

    Raises:
        InputError: The base model is not the one that the artefact was trained on.
    """
    made_on = stored_identity(artifact).get("base_sha256")
    found = base_hash(config.base, config.revision, offline=config.offline)
    if made_on not in (None, found):
        raise InputError(
            f"{artifact} was trained on another base model: sha256 {made_on[:12]}, and "
            f"{config.base} is {found[:12]}",
            fix="name the base model that it was trained on, e.g. base=DIRECTORY",
        )


def identity_of(config: Config, number: int) -> dict[str, Any]:
    """The settings that decide the result of stage ``number`` (from 1), as JSON values."""
    values = config.model_dump(mode="json")
    names = ["base", "revision", "dtype", "seed", "data", "lora", "sampling", "critic", "compile"]
    if config.validation.encoder is not None:  # it may end a stage, or choose its weights
        names += ["validation", "guards", "artifact"]
    stages = {
        str(position): {
            key: value
            for key, value in values["stages"][position].items()
            if key not in _WITHOUT_EFFECT
        }
        for position in range(number)
    }
    own = {**{name: values[name] for name in names}, "stages": stages}
    own["base_sha256"] = base_hash(config.base, config.revision, offline=config.offline)
    # What an artefact was made by says what it is, wherever it lies.
    return own if config.start is None else {**own, "start": stored_identity(config.start)}


def stage_of(artifact: Path, config: Config) -> AnyStage:
    """The stage that wrote an artefact, by the settings beside it.

    Raises:
        InputError: The folder is no artefact of a run.
    """
    stages = stored_identity(artifact).get("stages", {})
    if not 1 <= len(stages) <= len(config.stages):
        raise InputError(f"{artifact} does not match its {CONFIG_FILE}", fix="train it again")
    return config.stages[len(stages) - 1]


def require_same_stage(artifact: Path, identity: Mapping[str, Any]) -> None:
    """Refuse an artefact that other settings made.

    Raises:
        InputError: Names every setting that differs.
    """
    checkpoints.require_same(stored_identity(artifact), identity, artifact)


def stored_identity(artifact: Path) -> dict[str, Any]:
    """The settings that made an artefact.

    Raises:
        InputError: The folder is no artefact of a run.
    """
    path = artifact / IDENTITY_FILE
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read: {error}",
            fix="name the folder `artifact` of a finished stage, or remove it and train again",
        ) from error


def write_zero_shot(
    folder: Path,
    config: Config,
    identity: Mapping[str, Any],
    accelerator: Accelerator,
    write_card: Callable[[Path], None],
) -> None:
    """The artefact of the base model as it is: settings, a card, and no weights."""
    on_main(accelerator, lambda: write_artifact(folder, config, identity, write_card))


def write_artifact(
    folder: Path,
    config: Config,
    identity: Mapping[str, Any],
    write_trained: Callable[[Path], None],
) -> None:
    """Write the artefact of a stage, as a whole or not at all.

    Args:
        folder: Of the stage.
        config: Of the run.
        identity: What decides the result.
        write_trained: Writes what was trained into the folder that it is given.

    Raises:
        CasError: It cannot be written.
    """
    temporary = folder / f".{ARTIFACT}"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        write_bytes(temporary / CONFIG_FILE, to_yaml(config).encode())
        write_bytes(temporary / IDENTITY_FILE, to_json(identity).encode())
        write_trained(temporary)
        temporary.rename(folder / ARTIFACT)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CasError(f"{folder / ARTIFACT} cannot be written: {error}") from error
