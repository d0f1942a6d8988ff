"""What an artefact is: all that decided it, stored beside it as ``stage.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cas_metric.encoders.memory import digest_file, digest_of
from cas_metric.errors import InputError
from craft_trainer.bases.weights import base_hash, base_settings
from craft_trainer.config.schema import Config
from craft_trainer.config.stage import Stage
from craft_trainer.data.dataset import content_digest, read_examples
from craft_trainer.data.rows import domain_of
from craft_trainer.runtime.checkpoints import BASE_SETTINGS, differences, require_same

IDENTITY_FILE: Final = "stage.json"
CONFIG_FILE: Final = "config.yaml"


def identity_of(config: Config, number: int) -> dict[str, Any]:
    """All that decides the result of stage ``number`` (from 1), as JSON values.

    Settings, and the contents of what they name: weights of the base model, rows and images of the
    manifests, pairs, probes, the domain pack. A path says little: a file can be replaced.
    """
    values = config.model_dump(mode="json")
    names = ["base", "revision", "dtype", "seed", "data", "lora", "sampling", "critic", "compile"]
    if config.validation.encoder is not None:  # it may end a stage, or choose its weights
        names += ["validation", "guards", "artifact"]
    own = {name: values[name] for name in names}
    own["stages"] = {
        str(position): {
            key: value
            for key, value in values["stages"][position].items()
            if key not in config.stages[position].without_effect
        }
        for position in range(number)
    }
    own["contents"] = _contents(config, config.stages[:number])
    own |= base_identity(config)
    # What an artefact was made by says what it is, wherever it lies.
    return own if config.start is None else {**own, "start": stored_identity(config.start)}


def base_identity(config: Config) -> dict[str, Any]:
    """What a base model is, wherever it lies: sha256 of its weights, and its settings."""
    named = config.base, config.revision
    return {
        "base_sha256": base_hash(*named, offline=config.offline),
        BASE_SETTINGS: base_settings(*named, offline=config.offline),
    }


def _contents(config: Config, stages: Sequence[Stage]) -> dict[str, str]:
    """sha256 of what the configuration names by path; a probe that is fitted has no file."""
    train = read_examples(config.data.train, config.data.domain)
    found = {"data": content_digest(train)}
    validation = config.validation
    if validation.encoder is not None and validation.manifest is not None:
        domain = domain_of(train.manifest, config.data.domain)
        found["validation.manifest"] = content_digest(read_examples(validation.manifest, domain))
    probes = {"critic.probe": config.critic.probe, "validation.probe": validation.probe}
    found |= {name: digest_file(path) for name, path in probes.items() if path and path.is_file()}
    for position, stage in enumerate(stages):
        if stage.sources():
            chosen, rejected = stage.examples(train)
            sides = [content_digest(one) for one in (chosen, rejected) if one is not None]
            found[f"stages.{position}"] = digest_of(sides)
    return found


def stored_identity(artifact: Path) -> dict[str, Any]:
    """The settings that made an artefact.

    Raises:
        InputError: The folder is no artefact of a run.
    """
    path = artifact / IDENTITY_FILE
    try:
        stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read: {error}",
            fix="name the folder `artifact` of a finished stage, or remove it and train again",
        ) from error
    return stored


def require_same_stage(artifact: Path, identity: Mapping[str, Any]) -> None:
    """Refuse an artefact that other settings made.

    Raises:
        InputError: Names every setting that differs.
    """
    require_same(stored_identity(artifact), identity, artifact)


def stage_of(artifact: Path, config: Config) -> Stage:
    """The stage that wrote an artefact, by the settings beside it.

    Raises:
        InputError: The folder is no artefact of a run.
    """
    stages = stored_identity(artifact).get("stages", {})
    if not 1 <= len(stages) <= len(config.stages):
        raise InputError(f"{artifact} does not match its {CONFIG_FILE}", fix="train it again")
    return config.stages[len(stages) - 1]


def require_base(artifact: Path, config: Config) -> None:
    """Refuse an artefact of another base model: its weights may fit, and mean nothing there.

    Raises:
        InputError: The base model is not the one that the artefact was trained on.
    """
    stored, found = stored_identity(artifact), base_identity(config)
    made_on, weights = stored.get("base_sha256"), found["base_sha256"]
    if made_on not in (None, weights):
        other = f": sha256 {made_on[:12]}, and {config.base} is {weights[:12]}"
    elif lines := differences(
        {BASE_SETTINGS: stored.get(BASE_SETTINGS, {})}, {BASE_SETTINGS: found[BASE_SETTINGS]}
    ):
        other = f", of the same weights and other settings: {'; '.join(lines)}"
    else:
        return
    raise InputError(
        f"{artifact} was trained on another base model{other}",
        fix="name the base model that it was trained on, e.g. base=DIRECTORY",
    )
