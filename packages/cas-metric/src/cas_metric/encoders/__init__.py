"""Encoders: images and texts to unit vectors of one space, each as its authors intend.

Names are imported on use, so that listing encoders does not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cas_metric.encoders.base import Encoder, TextEmbeddings
    from cas_metric.encoders.family import EncoderInfo, Family
    from cas_metric.encoders.identity import Identity, identify
    from cas_metric.encoders.loading import load_encoder, open_encoder
    from cas_metric.encoders.model import ModelEncoder
    from cas_metric.encoders.registry import list_encoders

__all__ = [
    "Encoder",
    "EncoderInfo",
    "Family",
    "Identity",
    "ModelEncoder",
    "TextEmbeddings",
    "identify",
    "list_encoders",
    "load_encoder",
    "open_encoder",
]

_HOME = {
    "Encoder": "base",
    "EncoderInfo": "family",
    "Family": "family",
    "Identity": "identity",
    "ModelEncoder": "model",
    "TextEmbeddings": "base",
    "identify": "identity",
    "list_encoders": "registry",
    "load_encoder": "loading",
    "open_encoder": "loading",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
