"""Folders of artefacts: find one, load a model with it, write one."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError

from cas_metric.encoders.memory import digest_file, digest_of
from cas_metric.errors import CasError, InputError
from cas_metric.files import to_json, write_bytes
from craft_trainer.artifact.identity import (
    CONFIG_FILE,
    IDENTITY_FILE,
    base_identity,
    require_base,
    stage_of,
)
from craft_trainer.bases.base import DiffusionModel
from craft_trainer.bases.loading import default_device, load_artifact, load_model
from craft_trainer.bases.lora import LORA_FILE, attach_lora
from craft_trainer.config.schema import Config, require_effect, resolve, to_yaml
from craft_trainer.data.dataset import Examples

ARTIFACT: Final = "artifact"
#: Settings by which a base model is loaded for images.
LOADING: Final = ("base", "revision", "offline", "dtype", "compile")
_DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16}

#: Folder of a stage within that of a run: its number and its method.
_STAGE_FOLDER: Final = re.compile(r"(\d+)-([a-z][a-z0-9_]*)")


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

    It is said wherever the artefact lies: by digests of the weights of the base model and of what
    was trained, and by the settings of the former.
    """
    trained = {
        path.relative_to(artifact).as_posix(): digest_file(path)
        for path in sorted(artifact.rglob("*.safetensors"))
    }
    return {
        "base": config.base,
        **base_identity(config),
        "stage": stage_of(artifact, config).method,
        "trained_sha256": digest_of(trained),
    }


def load_base(config: Config, device: torch.device) -> DiffusionModel:
    """The base model that a configuration names, frozen."""
    return load_model(
        config.base,
        revision=config.revision,
        device=device,
        dtype=_DTYPES[config.dtype],
        offline=config.offline,
        gradient_checkpointing=config.gradient_checkpointing,
        compile_denoiser=config.compile,
        embedded_guidance=config.sampling.guidance,
    )


def load_trained(artifact: Path, config: Config, device: torch.device) -> DiffusionModel:
    """Base model with an artefact in it, as the trainer itself has it.

    Raises:
        InputError: As of :func:`require_base`.
    """
    require_base(artifact, config)
    model = load_base(config, device)
    if (artifact / LORA_FILE).is_file():
        attach_lora(model, config.lora, seed=config.seed)
    load_artifact(model, artifact)
    return model


def load(
    artifact: str | Path,
    /,  # which is also a setting, and one that changes no pipeline
    *,
    stage: str | int | None = None,
    device: str | torch.device | None = None,
    **overrides: Any,
) -> Any:
    """The diffusers pipeline of a run, with what was trained in it.

    Args:
        artifact: Folder of a run, of one of its stages, or of an artefact.
        stage: Of a run: number or method; by default the last finished one.
        device: Where it goes; a GPU where there is one.
        overrides: Settings other than those of training: ``base="a/local/copy"``.

    Returns:
        A ``DiffusionPipeline``: ``load(run)("a text").images[0]``. Its scheduler is the base
        model's own; the token of a class stands in a prompt as the model card lists it.

    Raises:
        InputError: There is no such artefact, it is one of another base model, or an override
            changes nothing of a pipeline.
        ModelUnavailable: The base model cannot be had here.

    Examples:
        >>> import craft_trainer
        >>> pipeline = craft_trainer.load(trained)
        >>> drawn = pipeline("a film", height=64, width=64, num_inference_steps=2)
        >>> drawn.images[0].size
        (64, 64)
    """
    found = find_artifact(Path(artifact), None if stage is None else str(stage))
    require_effect(overrides, (*LOADING, "gradient_checkpointing"), "the pipeline")
    config = resolve(found / CONFIG_FILE, **overrides)
    where = default_device() if device is None else torch.device(device)
    return load_trained(found, config, where).pipeline


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


def write_untrained(
    folder: Path, config: Config, examples: Examples, identity: Mapping[str, Any]
) -> None:
    """The artefact of the base model as it is: settings, a card, and no weights."""
    from craft_trainer.artifact.model_card import write_untrained_card

    card = partial(write_untrained_card, config=config, train=examples, identity=identity)
    write_artifact(folder, config, identity, card)
