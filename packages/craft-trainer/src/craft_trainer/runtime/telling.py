"""What a person should know of images and prompts before a model learns from them, on stderr."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cas_metric.images import Note
from craft_trainer.runtime.ranks import is_first

_LOG = logging.getLogger(__name__)


def tell_notes(notes: Sequence[str]) -> None:
    """How a manifest was read where it was not quite in order."""
    if is_first():
        for note in notes:
            _LOG.warning("%s", note)


def tell_truncated(model: Any, texts: Sequence[str]) -> None:
    """How many texts are longer than what a base model, a ``DiffusionModel``, reads."""
    if not is_first():
        return
    long = [text for text in texts if model.count_tokens(text) > model.token_limit]
    if long:
        first = textwrap.shorten(long[0], 60, placeholder=" …")
        _LOG.warning(
            "%d of %d texts are cut at %d tokens: what is beyond is not seen (first: %r)",
            *(len(long), len(texts), model.token_limit, first),
        )


def tell_noted(noted: Mapping[Note, Sequence[Path]], total: int) -> None:
    """Images in which nothing or little can be seen, and that are learned all the same."""
    if not is_first():
        return
    for note, paths in noted.items():
        first = paths[0].name
        _LOG.warning("%d of %d images are %s (first: %s)", len(paths), total, note, first)
