"""Encoders: images and texts to unit vectors of one space, each as its authors intend."""

from __future__ import annotations

from pathlib import Path

from cas_metric.encoders import siglip
from cas_metric.encoders.base import (
    Encoder,
    LoadOptions,
    ModelEncoder,
    TextEmbeddings,
    resolve_device,
)
from cas_metric.encoders.weights import read_config
from cas_metric.protocol import SCORE_DTYPE, TEXT_POLICY

__all__ = ["Encoder", "TextEmbeddings", "load_encoder"]


def load_encoder(
    spec: str | Path,
    *,
    device: str = "auto",
    dtype: str = SCORE_DTYPE,
    offline: bool = False,
    revision: str | None = None,
    text_policy: str = TEXT_POLICY,
    compile: bool = False,  # noqa: A002 - torch's own name for it
) -> Encoder:
    """Load an encoder."""
    options = LoadOptions(resolve_device(device), dtype, text_policy, compile)
    directory = Path(spec)
    towers = siglip.load(directory, read_config(directory))
    return ModelEncoder(directory.name, "local", towers, options)
