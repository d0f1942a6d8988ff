"""Which base model a run was made from: sha256 of the weights, file by file, and settings.

A hub id says little: a repository can be replaced, a local folder edited. Both go into the
identity of every stage, so that no run mixes two bases; the digests also into the model card.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cas_metric.encoders.memory import digest_file, digest_of
from cas_metric.errors import ModelUnavailable
from cas_metric.files import installed

#: Pipelines that come with this package, by the name that `base` gives them.
EMBEDDED: Final = {"phantom-sd": Path(__file__).parent.parent / "phantoms" / "phantom-sd"}
#: Weights of another precision, or without averaging, that lie beside those that are loaded.
_VARIANT: Final = re.compile(r"\.(fp16|bf16|fp32|ema_only|non_ema)[.-]")
#: Parts of a pipeline that make latents of images and conditions of texts, and what runs them.
_ENCODING: Final = ("text_encoder", "tokenizer", "vae")
_RUNNING: Final = ("torch", "transformers", "diffusers", "cas-metric", "pillow")
#: Files of weights: those that are loaded have digests, the others do not count.
_WEIGHTS: Final = (".safetensors", ".bin", ".ckpt", ".pt", ".pth", ".h5", ".msgpack", ".onnx")
#: Settings of a pipeline that decide what is trained and drawn.
_OF_PIPELINE: Final = ("force_zeros_for_empty_prompt",)
_INDEX: Final = "model_index.json"
#: Parts of a pipeline that have weights, and those that have settings alone.
_MODELS: Final = ("unet", "transformer", "vae", "text_encoder")
_SETTINGS: Final = ("scheduler", "tokenizer")


def base_directory(spec: str, revision: str | None, *, offline: bool) -> Path:
    """Folder of a pipeline's files: a local one, or the hub's cache, filled where that is allowed.

    Raises:
        ModelUnavailable: The files cannot be had here.
    """
    from diffusers import DiffusionPipeline

    local = EMBEDDED.get(spec, Path(spec).expanduser())
    if local.is_dir():
        return local
    try:
        return Path(
            DiffusionPipeline.download(
                spec, revision=revision, use_safetensors=True, local_files_only=offline
            )
        )
    except (OSError, ValueError) as error:
        reason = str(error.__cause__ or error).strip().split("\n")[0]
        if spec.startswith((".", "/", "~")):
            reason = "there is no such folder"
        raise ModelUnavailable(
            f"base model {spec!r} cannot be had: {reason}",
            fix="set `base` to a hub id that can be reached, or to a local directory with "
            f"{_INDEX} and weights as .safetensors",
        ) from error


def base_digests(directory: Path) -> dict[str, str]:
    """sha256 of each safetensors file that the pipeline loads, by its path in the folder.

    Raises:
        ModelUnavailable: The folder is no pipeline, or lacks the safetensors, or all, of a part.
    """
    index = _index(directory)
    parts = sorted(name for name, value in index.items() if isinstance(value, list) and value[0])
    files = [
        path
        for part in parts
        for path in sorted((directory / part).glob("*.safetensors"))
        if not _VARIANT.search(path.name)
    ]
    with_weights = {path.parent.name for path in files}
    if without := [one for one in parts if one.startswith(_MODELS) and one not in with_weights]:
        raise ModelUnavailable(
            f"{directory}: no weights as .safetensors of {', '.join(without)}",
            fix="take a revision that has them; pickled weights are refused",
        )
    settings = [one for one in parts if one.startswith(_SETTINGS)]
    if empty := [one for one in settings if not any((directory / one).glob("*.json"))]:
        raise ModelUnavailable(
            f"{directory}: nothing of {', '.join(empty)}",
            fix=f"take a folder with all that its {_INDEX} lists",
        )
    return {path.relative_to(directory).as_posix(): digest_file(path) for path in files}


def base_hash(spec: str, revision: str | None, *, offline: bool) -> str:
    """One sha256, as hex, of :func:`base_digests`."""
    return digest_of(base_digests(base_directory(spec, revision, offline=offline)))


def base_settings(spec: str, revision: str | None, *, offline: bool) -> dict[str, Any]:
    """What the parts of a pipeline are told beside their weights, by the name of the part.

    Equal weights are another model with other betas, or with velocity for noise. A file that a
    library wrote anew, with its defaults spelt out, says the same: only what the class of a part
    takes is looked at. Text encoders and tokenizers are left out: their files vary with the version
    that wrote them.

    Returns:
        Of the scheduler its settings, so that one that differs can be named; of each model the
        sha256 of those that are no defaults.

    Raises:
        ModelUnavailable: As of :func:`base_digests`.
    """
    directory = base_directory(spec, revision, offline=offline)
    index = _index(directory)
    found: dict[str, Any] = {key: index[key] for key in _OF_PIPELINE if key in index}
    for part in ("scheduler", "transformer", "unet", "vae"):
        file = directory / part / f"{'scheduler_' * (part == 'scheduler')}config.json"
        if not file.is_file():
            continue
        told = _plain(_read(file))
        defaults = _defaults(told)
        values = {key: value for key, value in told.items() if key in defaults}
        if part == "scheduler":
            found[part] = {**defaults, **values, "_class_name": told.get("_class_name")}
        else:
            own = {key: value for key, value in values.items() if value != defaults[key]}
            found[part] = digest_of(own)
    return found


def _defaults(told: Mapping[str, Any]) -> dict[str, Any]:
    """What the class of a part takes, and takes it for where nothing is said, as JSON values.

    Of a class that is not known here all that is told counts.
    """
    import diffusers

    made = getattr(diffusers, str(told.get("_class_name")), None)
    if made is None:
        return dict.fromkeys(key for key in told if not key.startswith("_"))
    taken = inspect.signature(made.__init__).parameters
    return _plain({name: one.default for name, one in taken.items() if name != "self"})


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """As a file of JSON gives them back, which has no infinities."""
    read = json.loads(json.dumps(values, default=str), parse_constant=str)
    return dict(read)


def encoding_hash(spec: str, revision: str | None, *, offline: bool) -> str:
    """One sha256, as hex, of all of a base model that decides what texts and images become.

    Beside the weights these are the settings of its text encoders, tokenizers and VAE, and the
    versions of the packages that run them.

    Raises:
        ModelUnavailable: As of :func:`base_digests`.
    """
    directory = base_directory(spec, revision, offline=offline)
    settings = [directory / _INDEX]
    for part in sorted(directory.iterdir()):
        if part.is_dir() and part.name.startswith(_ENCODING):
            found = (path for path in sorted(part.rglob("*")) if path.is_file())
            settings += [path for path in found if path.suffix not in _WEIGHTS]
    return digest_of(
        {
            "weights": base_digests(directory),
            "settings": {
                one.relative_to(directory).as_posix(): digest_file(one) for one in settings
            },
            "versions": {name: installed(name) for name in _RUNNING},
        }
    )


def empty_part(directory: Path, name: str) -> Any:
    """A denoiser or VAE from its configuration, frozen, on the device ``meta``: no weights.

    Raises:
        ModelUnavailable: The folder lacks that configuration.
    """
    import diffusers
    import torch

    settings = _read(directory / name / "config.json")
    with torch.device("meta"):
        part = getattr(diffusers, settings["_class_name"]).from_config(settings)
    return part.requires_grad_(False)


def pipeline_name(directory: Path) -> str:
    """Class of the pipeline in a folder; ModelUnavailable as of :func:`base_digests`."""
    return str(_index(directory).get("_class_name", ""))


def _index(directory: Path) -> dict[str, Any]:
    return _read(directory / _INDEX)


def _read(path: Path) -> dict[str, Any]:
    """A JSON file that every pipeline of diffusers has."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ModelUnavailable(
            f"{path.parent}: no readable {path.name}, so this is no pipeline of diffusers",
            fix=f"point `base` at the folder that holds {_INDEX} and all that it lists",
        ) from error
