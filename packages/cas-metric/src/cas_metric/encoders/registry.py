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

from cas_metric.encoders.hub import HUB_ID
from cas_metric.errors import InputError, ModelUnavailable

#: Prefix of specs that open_clip loads.
OPENCLIP_PREFIX: Final = "openclip:"

_EMBEDDED_ROOT = Path(__file__).parent.parent / "phantoms" / "weights"


@dataclass(frozen=True)
class EncoderInfo:
    """One named encoder.

    Attributes:
        alias: The spec that users write.
        family: ``siglip``, ``clip``, ``metaclip_2`` or ``dinov2``.
        hub_id: Repository on the hub, or the directory of an embedded model.
        revision: Commit that is loaded unless another is asked for.
        licence: Licence of the weights; read it before publishing what they made.
        token_limit: Longest text in tokens with special tokens; 0 for image-only families.
        image_size: Side of the model input in pixels.
        download_mb: Size of the weights in MB, rounded; 0 for embedded ones.
        gated: Whether the hub asks for an account and an accepted licence.
        embedded: Whether the weights come with this package (phantom world only).
        purpose: What the protocol uses it for.
    """

    alias: str
    family: str
    hub_id: str
    revision: str
    licence: str
    token_limit: int
    image_size: int
    download_mb: int
    gated: bool = False
    embedded: bool = False
    purpose: str = ""


_HUB_ENCODERS: Final = (
    EncoderInfo(
        "siglip",
        "siglip",
        "google/siglip-so400m-patch14-384",
        "9fdffc58afc957d1a03a25b10dba0329ab15c2a3",
        "Apache-2.0",
        64,
        384,
        3510,
        purpose="evaluator of the protocol",
    ),
    EncoderInfo(
        "siglip2",
        "siglip",
        "google/siglip2-so400m-patch14-384",
        "e8e487298228002f3d8a82e0cd5c8ea9c567f57f",
        "Apache-2.0",
        64,
        384,
        4540,
    ),
    EncoderInfo(
        "medsiglip",
        "siglip",
        "google/medsiglip-448",
        "9cea28a1a1195f665105faa6e8544c112fd960a4",
        "HAI-DEF terms",
        64,
        448,
        3510,
        gated=True,
        purpose="training critic",
    ),
    EncoderInfo(
        "metaclip2",
        "metaclip_2",
        "facebook/metaclip-2-worldwide-huge-quickgelu",
        "2431b607fc8e05dd43b73797ba1a7a042514bcf4",
        "CC-BY-NC-4.0",
        77,
        224,
        7440,
        purpose="out-of-family check",
    ),
    EncoderInfo(
        "clip",
        "clip",
        "openai/clip-vit-large-patch14",
        "32bd64288804d66eefd0ccbe215aa642df71cc41",
        "MIT",
        77,
        224,
        1710,
    ),
    EncoderInfo(
        "dinov2",
        "dinov2",
        "facebook/dinov2-base",
        "f9e44c814b77203eaa57a6bdbbd535f21ede1415",
        "Apache-2.0",
        0,
        224,
        346,
        purpose="memorization",
    ),
    EncoderInfo(
        "rad-dino",
        "dinov2",
        "microsoft/rad-dino",
        "110cbc18d5133582e320b43d53bf5c44e410c936",
        "MIT",
        0,
        518,
        346,
        purpose="memorization of radiographs",
    ),
)

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
    """Every named encoder: those of the hub, then the embedded ones that are installed."""
    embedded = (_embedded_info(alias) for alias in _EMBEDDED)
    return [*_HUB_ENCODERS, *(info for info in embedded if info is not None)]


def resolve(spec: str | Path, revision: str | None = None) -> Source:
    """Say where the encoder ``spec`` comes from, without loading or downloading anything.

    Args:
        spec: An alias, a hub id, a local directory, ``openclip:MODEL/TAG`` or
            ``openclip:MODEL@weights.safetensors``.
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
    for info in _HUB_ENCODERS:
        if text in (info.alias, info.hub_id):
            return Source(name=info.hub_id, revision=revision or info.revision, hub_id=info.hub_id)
    if text.startswith(OPENCLIP_PREFIX):
        return _resolve_openclip(text, revision)
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
    if HUB_ID.fullmatch(text):
        return Source(name=text, revision=revision or "main", hub_id=text)
    raise _unknown(text)


def _resolve_openclip(text: str, revision: str | None) -> Source:
    """``openclip:MODEL@FILE`` to a file, ``openclip:MODEL/TAG`` to the hub repository behind it."""
    from cas_metric.encoders.openclip import hub_repository

    model, at, file = text.removeprefix(OPENCLIP_PREFIX).partition("@")
    if at:
        return Source(text, "local", openclip=model, weights=Path(file).expanduser())
    return Source(text, revision or "main", hub_id=hub_repository(model), openclip=model)


def _unknown(text: str) -> InputError:
    aliases = [info.alias for info in _HUB_ENCODERS] + list(_EMBEDDED)
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
