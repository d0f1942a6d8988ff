"""Which encoders have a name here, and what a user should know before loading one.

Revisions are commits of the hub, so that the same alias gives the same weights next year.
Sizes are what the hub says of the safetensors files, rounded.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cas_metric.encoders.family import EncoderInfo, families, own_families
from cas_metric.errors import InputError, ModelUnavailable
from cas_metric.protocol import EVALUATOR

__all__ = ["EncoderInfo", "Source", "list_encoders", "resolve"]

#: Prefix of specs that open_clip loads, and how others write it.
OPENCLIP_PREFIX: Final = "openclip:"
_OPENCLIP_SPELLINGS: Final = ("open_clip:", "open-clip:", "openclip/", "open_clip/")
#: Prefixes that model cards put before a hub id.
_HUB_PREFIXES: Final = ("hf-hub:", "hf_hub:")

_EMBEDDED_ROOT = Path(__file__).parent.parent / "phantoms" / "weights"


_EMBEDDED: Final = {
    "phantom-siglip": "evaluator of the embedded world",
    "phantom-medsiglip": "training critic of the embedded world",
    "phantom-metaclip": "out-of-family check of the embedded world",
    "phantom-dino": "memorization in the embedded world",
}


@dataclass(frozen=True)
class Source:
    """Where an encoder's files are to come from.

    Attributes:
        name: What scores and summaries call the encoder.
        revision: Commit or branch of the hub, ``local`` or ``embedded``.
        directory: The files, when they are on this machine already.
        hub_id: The repository, when they are not.
        openclip: Architecture that open_clip is asked for by name.
        weights: The file of weights of ``openclip:MODEL@FILE``.
    """

    name: str
    revision: str
    directory: Path | None = None
    hub_id: str | None = None
    openclip: str | None = None
    weights: Path | None = None


def list_encoders() -> list[EncoderInfo]:
    """Every named encoder: the evaluator, others of the hub, the embedded ones.

    Examples:
        >>> [info.alias for info in list_encoders() if info.purpose == "evaluator of the protocol"]
        ['siglip']
    """
    named = [info for family in families() for info in family.encoders]
    named.sort(key=lambda info: (info.alias != EVALUATOR, info.alias))
    embedded = (_embedded_info(alias) for alias in _EMBEDDED)
    return [*named, *(info for info in embedded if info is not None)]


def embedded_like(hub_id: str) -> str:
    """The embedded encoder that does what an encoder of the hub does, for trying things out."""
    info = next((one for one in list_encoders() if one.hub_id == hub_id), None)
    if info is not None and not info.token_limit:
        return "phantom-dino"
    return {"medsiglip": "phantom-medsiglip", "metaclip2": "phantom-metaclip"}.get(
        info.alias if info else "", "phantom-siglip"
    )


def resolve(spec: str | Path, revision: str | None = None) -> Source:
    """Say where the encoder ``spec`` comes from, without loading or downloading anything.

    Args:
        spec: An alias, a hub id (``hf-hub:`` may stand before it), a local directory,
            ``openclip:MODEL/TAG`` or ``openclip:MODEL@weights.safetensors``.
        revision: Commit, tag or branch instead of the alias's own; hub ids default to ``main``.

    Raises:
        InputError: A file, or nothing of the kind; the message names the nearest alias.
        ModelUnavailable: A path that does not exist, or an embedded model that is not installed.
    """
    text = str(spec)
    if text in _EMBEDDED:
        directory = _EMBEDDED_ROOT / text
        if not directory.is_dir():
            raise ModelUnavailable(
                f"the embedded encoder {text!r} is not installed: {directory} does not exist",
                fix="reinstall cas-metric, or train it with `python -m benchmarks.phantoms`",
            )
        return Source(name=text, revision="embedded", directory=directory)
    if text.startswith(OPENCLIP_PREFIX):
        return _resolve_openclip(text, revision)
    for prefix in _HUB_PREFIXES:
        text = text.removeprefix(prefix)
    named = _named(text)
    if named is not None:
        return Source(named.hub_id, revision or named.revision, hub_id=named.hub_id)
    _refuse_openclip_spellings(text)
    path = Path(text).expanduser()
    if path.is_dir():
        return Source(name=path.resolve().name, revision="local", directory=path)
    if path.is_file():
        raise InputError(
            f"{text} is a file, and an encoder is a directory in the hub's format",
            fix=f"give the directory that holds it, or openclip:MODEL@{text} for weights of "
            "open_clip",
        )
    if path.is_absolute() or text.startswith((".", "~")):
        raise ModelUnavailable(
            f"no such directory: {text}", fix="point at a directory that holds config.json"
        )
    from cas_metric.encoders.hub import HUB_ID

    if HUB_ID.fullmatch(text):
        return Source(name=text, revision=revision or "main", hub_id=text)
    raise _unknown(text)


def _named(text: str) -> EncoderInfo | None:
    """The encoder of this alias or hub id; other distributions are asked last."""
    own = [info for family in own_families() for info in family.encoders]
    for info in own:
        if text in (info.alias, info.hub_id):
            return info
    if Path(text).expanduser().exists():
        return None
    foreign = (info for family in families() for info in family.encoders if info not in own)
    return next((info for info in foreign if text in (info.alias, info.hub_id)), None)


def _refuse_openclip_spellings(text: str) -> None:
    for spelling in _OPENCLIP_SPELLINGS:
        if text.startswith(spelling):
            meant = OPENCLIP_PREFIX + text.removeprefix(spelling)
            raise InputError(f"unknown encoder {text!r}", fix=f"did you mean {meant!r}?")


def _resolve_openclip(text: str, revision: str | None) -> Source:
    """``openclip:MODEL@FILE`` to a file, ``openclip:MODEL/TAG`` to the hub repository behind it."""
    from cas_metric.encoders.families.openclip import hub_repository

    model, at, file = text.removeprefix(OPENCLIP_PREFIX).partition("@")
    if at:
        return Source(text, "local", openclip=model, weights=Path(file).expanduser())
    return Source(text, revision or "main", hub_id=hub_repository(model), openclip=model)


def _unknown(text: str) -> InputError:
    aliases = [info.alias for info in list_encoders()]
    nearest = difflib.get_close_matches(text, aliases, n=1)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    return InputError(
        f"unknown encoder {text!r}",
        fix=f"{hint}take one of {', '.join(aliases)}, a hub id such as owner/name, "
        "openclip:MODEL/TAG, or a directory in the hub's format",
    )


def _embedded_info(alias: str) -> EncoderInfo | None:
    directory = _EMBEDDED_ROOT / alias
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    text = config.get("text_config") or {}
    vision = config.get("vision_config") or config
    return EncoderInfo(
        alias,
        config["model_type"],
        str(directory),
        "embedded",
        "Apache-2.0",
        int(text.get("max_position_embeddings", 0)),
        int(vision["image_size"]),
        0,
        embedded=True,
        purpose=_EMBEDDED[alias],
    )
