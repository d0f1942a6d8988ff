"""From a spec to an encoder: find the files, read the family off them, load it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cas_metric.encoders.deferred import DeferredEncoder, Facts, facts_memory, recall_facts
from cas_metric.encoders.devices import find_device
from cas_metric.encoders.memory import digest_file
from cas_metric.encoders.registry import embedded_like, resolve
from cas_metric.errors import InputError, ModelUnavailable
from cas_metric.protocol import SCORE_DTYPE, TEXT_POLICIES, TEXT_POLICY

if TYPE_CHECKING:
    from cas_metric.encoders.family import Family
    from cas_metric.encoders.model import ModelEncoder, Towers

#: What weights and activations may be, as torch names it.
DTYPES: Final = ("float32", "bfloat16", "float16")
#: Files that no encoder is made from: pickles, which are never opened, other frameworks', papers.
_NEVER_READ: Final = {
    *(".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf"),
    *(".md", ".png", ".jpg", ".pdf"),
}


@dataclass(frozen=True)
class LoadOptions:
    """How to load an encoder, whatever its family.

    Attributes:
        device: Where the model goes, as torch names it.
        dtype: ``float32``, ``bfloat16`` or ``float16`` for weights and activations; embeddings
            are normalised in float32 in any case.
        text_policy: One of ``protocol.TEXT_POLICIES``.
        compile: Whether ``torch.compile`` compiles the image tower.
        raw: Whether embeddings of images keep their length, as published set distances take them.
    """

    device: str
    dtype: str = SCORE_DTYPE
    text_policy: str = TEXT_POLICY
    compile: bool = False
    raw: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise InputError(f"unknown dtype {self.dtype!r}", fix=f"one of {', '.join(DTYPES)}")
        if self.text_policy not in TEXT_POLICIES:
            raise InputError(
                f"unknown text policy {self.text_policy!r}",
                fix=f"one of {', '.join(TEXT_POLICIES)}",
            )


def load_encoder(
    spec: str | Path,
    *,
    device: str = "auto",
    dtype: str = SCORE_DTYPE,
    offline: bool = False,
    revision: str | None = None,
    text_policy: str = TEXT_POLICY,
    compile: bool = False,  # noqa: A002 - torch's own name for it
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

    Raises:
        ModelUnavailable: The files cannot be had here (exit code 4).
        InputError: Unknown spec, unsupported architecture, or files that do not fit together.

    Examples:
        >>> encoder = load_encoder("phantom-siglip", device="cpu")
        >>> encoder.embed_texts(["a chest radiograph"]).embeddings.shape
        torch.Size([1, 128])
    """
    from cas_metric.encoders.model import ModelEncoder

    options = LoadOptions(find_device(device).name, dtype, text_policy, compile)
    found = _locate(spec, revision, offline)
    encoder = ModelEncoder(found.name, found.revision, found.load(), options, found.digests())
    local = found.revision == "local" and Path(spec).expanduser().exists()
    place = Path(spec).expanduser().absolute() if local else spec
    encoder.again = partial(
        load_encoder,
        place,
        device=device,
        dtype=dtype,
        offline=offline,
        revision=revision,
        text_policy=text_policy,
        compile=compile,
    )
    return encoder


def open_encoder(
    spec: str | Path,
    *,
    device: str = "auto",
    dtype: str = SCORE_DTYPE,
    offline: bool = False,
    revision: str | None = None,
    text_policy: str = TEXT_POLICY,
    compile: bool = False,  # noqa: A002 - torch's own name for it
    verify: bool = False,
    raw: bool = False,
) -> DeferredEncoder:
    """The same encoder, its model loaded (and torch imported) when something is to be embedded.

    Files whose content was never loaded on this machine are loaded now, so that what is wrong with
    them is known at once. Arguments and errors are those of :func:`load_encoder`; ``verify`` reads
    every file now, where otherwise the sha256 of a large one is believed while its inode, size and
    times stand (see :func:`~cas_metric.encoders.memory.digest_file`). With ``raw`` images are not
    normalised: the features that Fréchet distances are published on.
    """
    where = find_device(device)
    options = LoadOptions(where.name, dtype, text_policy, compile, raw)
    found = _locate(spec, revision, offline)
    files = found.digests(verify=verify)
    memory = facts_memory(found.name, found.revision, files, options)

    def load() -> ModelEncoder:
        from cas_metric.encoders.model import ModelEncoder

        return ModelEncoder(found.name, found.revision, found.load(), options, files)

    facts, model = recall_facts(memory), None
    if facts is None:
        model = load()
        facts = Facts.of(model)
        memory.keep(vars(facts))
    return DeferredEncoder(
        found.name, found.revision, options, where, facts, memory, load, files=files, model=model
    )


@dataclass(frozen=True)
class _Located:
    """An encoder whose files are on this machine."""

    name: str
    revision: str
    files: tuple[Path, ...]
    load: Callable[[], Towers]

    def digests(self, *, verify: bool = False) -> dict[str, str]:
        """sha256 of each file, by name."""
        return {path.name: digest_file(path, verify=verify) for path in self.files}


def _locate(spec: str | Path, revision: str | None, offline: bool) -> _Located:
    """Find the files of an encoder, or get them; from then on nobody is asked for anything."""
    source = resolve(spec, revision)
    if source.openclip is not None and source.weights is not None:
        load = partial(_load_openclip_file, source.openclip, source.weights, offline)
        weights = [path for path in (source.weights,) if path.is_file()]
        return _Located(source.name, source.revision, tuple(weights), load)
    directory, commit = source.directory, source.revision
    if source.hub_id is not None:
        from cas_metric.encoders import hub

        snapshot = hub.fetch(
            source.hub_id,
            source.revision,
            offline=offline,
            openclip=source.openclip is not None,
            instead=embedded_like(source.hub_id),
        )
        directory, commit = snapshot.directory, snapshot.commit
    assert directory is not None
    load = partial(_load_directory, directory, source.openclip is not None)
    files = tuple(
        path
        for path in sorted(directory.iterdir())
        if path.is_file() and path.suffix not in _NEVER_READ
    )
    return _Located(source.name, commit, files, load)


def _load_openclip_file(model: str, weights: Path, offline: bool) -> Towers:
    from cas_metric.encoders import hub
    from cas_metric.encoders.families import openclip

    with hub.no_network() if offline else nullcontext():
        return openclip.load_file(model, weights)


def _load_directory(directory: Path, openclip: bool) -> Towers:
    from cas_metric.encoders import hub

    with hub.no_network():
        if openclip:
            from cas_metric.encoders.families.openclip import load_directory

            return load_directory(directory)
        return load_towers(directory)


def load_towers(directory: Path) -> Towers:
    """Load a model directory with the family that takes it.

    Raises:
        InputError: No family does.
        ModelUnavailable: It is not complete.
    """
    from cas_metric.encoders import hub
    from cas_metric.encoders.family import own_families
    from cas_metric.encoders.weights import weight_files

    family, config = _family_of(directory)
    openclip = hub.is_openclip(path.name for path in directory.iterdir())
    if not openclip and family in own_families():
        weight_files(directory)  # says more of weights than that they lack
        missing = hub.missing_from(directory)
        if missing:
            raise ModelUnavailable(
                f"{directory}: no {', no '.join(missing)}",
                fix="copy these files of the checkpoint into the directory",
            )
    return family.load(directory, config)


def has_text_tower(directory: Path) -> bool:
    """Whether the encoder in a directory embeds texts too, told without loading it.

    Raises:
        InputError: No family takes it.

    Examples:
        >>> from cas_metric.encoders.registry import resolve
        >>> [has_text_tower(resolve(name).directory) for name in ("phantom-siglip", "phantom-dino")]
        [True, False]
    """
    family, config = _family_of(directory)
    return not family.image_only(config)


def _family_of(directory: Path) -> tuple[Family, dict[str, Any]]:
    """The family that takes a directory, and the directory's configuration."""
    from cas_metric.encoders.family import families
    from cas_metric.encoders.weights import read_config

    names = {path.name for path in directory.iterdir()}
    config = read_config(directory) if "config.json" in names else {}
    family = next((family for family in families() if family.takes(names, config)), None)
    if family is None:
        raise _unsupported(directory, read_config(directory), families())
    return family, config


def _unsupported(directory: Path, config: dict[str, Any], among: Iterable[Family]) -> InputError:
    supported = [model_type for family in among for model_type in family.model_types]
    return InputError(
        f"{directory}: model_type {config.get('model_type')!r} is no supported encoder family",
        fix=f"supported: {', '.join(supported)}, and directories of open_clip or timm",
    )
