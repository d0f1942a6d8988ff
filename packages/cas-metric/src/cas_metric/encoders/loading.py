"""From a spec to an encoder: find the files, read the family off them, load it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cas_metric.encoders import dinov2, hub, metaclip, openclip, siglip
from cas_metric.encoders.base import Encoder, LoadOptions, ModelEncoder, Towers, resolve_device
from cas_metric.encoders.deferred import DeferredEncoder, Facts, Memory
from cas_metric.encoders.registry import resolve
from cas_metric.encoders.weights import read_config, weight_files
from cas_metric.errors import InputError, ModelUnavailable
from cas_metric.protocol import SCORE_DTYPE, TEXT_POLICY

#: The loader of each ``model_type`` that config.json may name.
_FAMILIES = {
    model_type: family for family in (siglip, metaclip, dinov2) for model_type in family.MODEL_TYPES
}


def load_encoder(
    spec: str | Path,
    *,
    device: str = "auto",
    dtype: str = SCORE_DTYPE,
    offline: bool = False,
    revision: str | None = None,
    text_policy: str = TEXT_POLICY,
    compile: bool = False,  # noqa: A002 - torch's own name for it
    channels_last: bool = False,
) -> ModelEncoder:
    """Load an encoder: frozen, in evaluation mode, safetensors only, no remote code.

    Args:
        spec: Alias (``siglip``, ``phantom-siglip``, …; see
            :func:`~cas_metric.encoders.list_encoders`), hub id,
            ``openclip:MODEL/TAG``, ``openclip:MODEL@weights.safetensors`` or a directory in the
            hub's format (see :mod:`cas_metric.encoders.base`).
        device: ``auto`` takes a GPU where there is one.
        dtype: ``float32`` (protocol), ``bfloat16`` or ``float16``.
        offline: Never use the network.
        revision: Commit, tag or branch instead of the pinned one.
        text_policy: ``truncate`` (protocol), ``chunk-mean`` or ``per-attribute-mean``.
        compile: Compile the image tower with ``torch.compile``.
        channels_last: Keep pixels and convolutions in the channels-last layout.

    Raises:
        ModelUnavailable: The files cannot be had here (exit code 4).
        InputError: Unknown spec, unsupported architecture, or files that do not fit together.
    """
    options = LoadOptions(resolve_device(device), dtype, text_policy, compile, channels_last)
    found = _locate(spec, revision, offline)
    return ModelEncoder(found.name, found.revision, found.load(), options)


def open_encoder(
    spec: str | Path,
    *,
    device: str = "auto",
    dtype: str = SCORE_DTYPE,
    offline: bool = False,
    revision: str | None = None,
    text_policy: str = TEXT_POLICY,
    compile: bool = False,  # noqa: A002 - torch's own name for it
) -> Encoder:
    """The same encoder, its model loaded only when something is to be embedded.

    Files that were never loaded on this machine are loaded now, so that what is wrong with them is
    known at once. Arguments and errors are those of :func:`load_encoder`.
    """
    options = LoadOptions(resolve_device(device), dtype, text_policy, compile)
    found = _locate(spec, revision, offline)
    memory = Memory(found.name, found.files, options)

    def load() -> ModelEncoder:
        return ModelEncoder(found.name, found.revision, found.load(), options)

    facts = memory.recall()
    if facts is not None:
        return DeferredEncoder(found.name, found.revision, options, memory, facts, load)
    encoder = load()
    memory.keep(Facts.of(encoder))
    return encoder


@dataclass(frozen=True)
class _Located:
    """An encoder whose files are on this machine."""

    name: str
    revision: str
    files: tuple[Path, ...]
    load: Callable[[], Towers]


def _locate(spec: str | Path, revision: str | None, offline: bool) -> _Located:
    """Find the files of an encoder, or get them."""
    source = resolve(spec, revision)
    if source.openclip is not None and source.weights is not None:
        load = partial(openclip.load_file, source.openclip, source.weights)
        weights = [path for path in (source.weights,) if path.is_file()]
        return _Located(source.name, source.revision, tuple(weights), load)
    directory, commit = source.directory, source.revision
    if source.hub_id is not None:
        snapshot = hub.fetch(
            source.hub_id, source.revision, offline=offline, openclip=source.openclip is not None
        )
        directory, commit = snapshot.directory, snapshot.commit
    assert directory is not None
    load = partial(openclip.load_directory if source.openclip else load_towers, directory)
    files = tuple(sorted(path for path in directory.iterdir() if path.is_file()))
    return _Located(source.name, commit, files, load)


def load_towers(directory: Path) -> Towers:
    """Load a model directory with the family that its configuration names."""
    if hub.is_openclip(path.name for path in directory.iterdir()):
        return openclip.load_directory(directory)
    config = read_config(directory)
    family = _FAMILIES.get(str(config.get("model_type")))
    if family is None:
        raise InputError(
            f"{directory}: model_type {config.get('model_type')!r} is no supported encoder family",
            fix=f"supported: {', '.join(_FAMILIES)}, and open_clip directories",
        )
    weight_files(directory)  # says more of weights than that they lack
    missing = hub.missing_from(directory)
    if missing:
        raise ModelUnavailable(
            f"{directory}: no {', no '.join(missing)}",
            fix="copy these files of the checkpoint into the directory",
        )
    return family.load(directory, config)
