"""An encoder that is known before it is loaded, and without importing torch.

A run whose images are all in the embedding cache needs an encoder's facts and nothing else of it;
importing torch and reading gigabytes of weights would be most of such a run. The facts of an
encoder that was loaded once are remembered by the content of its files, and the model is loaded
when it is first asked to embed something.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cas_metric.encoders.family import ENTRY_POINTS
from cas_metric.encoders.memory import Memory, digest_of, distribution_version
from cas_metric.errors import CasError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from cas_metric.encoders.base import TextEmbeddings
    from cas_metric.encoders.devices import Device
    from cas_metric.encoders.loading import LoadOptions
    from cas_metric.encoders.model import ModelEncoder

#: Packages whose version may change how a checkpoint is read.
_READERS: Final = ("transformers", "tokenizers", "open_clip_torch", "timm", "cas-metric")


@dataclass(frozen=True)
class Facts:
    """What is known of an encoder without its model; see :class:`~cas_metric.encoders.Encoder`.

    Attributes:
        identity: What a protocol calls it (:class:`~cas_metric.encoders.Identity`); empty until
            somebody asks.
    """

    dim: int
    fingerprint: str
    token_limit: int
    image_size: int
    identity: str = field(default="", compare=False)

    @classmethod
    def of(cls, encoder: ModelEncoder) -> Facts:
        """The facts of a loaded encoder."""
        return cls(encoder.dim, encoder.fingerprint, encoder.token_limit, encoder.image_size)


def facts_memory(
    name: str, revision: str, files: Mapping[str, str], options: LoadOptions
) -> Memory:
    """Where the facts of an encoder are remembered.

    Args:
        name: What the encoder goes by; open_clip's names an architecture.
        revision: Commit, ``local`` or ``embedded``.
        files: sha256 of every file that it may be made from, by name.
        options: How it is loaded; neither device nor compilation changes a fact.
    """
    key = {
        "name": [name, revision],
        "files": dict(files),
        "code": _code_digest(),
        "versions": [distribution_version(package) for package in _READERS],
        "options": [options.dtype, options.text_policy, *(["raw"] if options.raw else [])],
        "families": _foreign_families(),
    }
    return Memory("encoders", key)


def recall_facts(memory: Memory) -> Facts | None:
    """The facts, where files of this content were loaded before."""
    with suppress(TypeError):
        return Facts(**memory.recall())
    return None


class DeferredEncoder:
    """An :class:`~cas_metric.encoders.Encoder` whose model is loaded when it is first needed.

    Args:
        name: See :class:`~cas_metric.encoders.Encoder`, as for ``revision``.
        revision: Commit, ``local`` or ``embedded``.
        options: How the model is loaded.
        device: Where it will live.
        facts: What is known of it.
        memory: Where that is remembered.
        load: Loads it.
        files: sha256 of the files that it is made from, by name.
        model: The model where it is loaded already.
    """

    def __init__(
        self,
        name: str,
        revision: str,
        options: LoadOptions,
        device: Device,
        facts: Facts,
        memory: Memory,
        load: Callable[[], ModelEncoder],
        *,
        files: Mapping[str, str],
        model: ModelEncoder | None = None,
    ) -> None:
        self.name = name
        self.revision = revision
        self.dim = facts.dim
        self.fingerprint = facts.fingerprint
        self.token_limit = facts.token_limit
        self.image_size = facts.image_size
        self.dtype = options.dtype
        self.text_policy = options.text_policy
        self.files = files
        self.device, self.device_description = device
        self._facts = facts
        self._memory = memory
        self._load = load
        self._model = model
        self._lock = threading.Lock()  # worker threads ask for preprocessing at the same time

    @property
    def loaded(self) -> bool:
        """Whether the model was needed so far."""
        return self._model is not None

    @property
    def identity(self) -> str:
        """What a protocol calls it, told by the content of its files once, and remembered."""
        if not self._facts.identity:
            from cas_metric.encoders.identity import identify

            self._facts = replace(self._facts, identity=identify(self).description)
            self._memory.keep(vars(self._facts))
        return self._facts.identity

    def model(self) -> ModelEncoder:
        """The model itself, loaded now if it was not before.

        Raises:
            CasError: Its files have changed since the encoder was opened.
        """
        with self._lock:
            if self._model is None:
                model = self._load()
                if Facts.of(model) != self._facts:
                    raise CasError(
                        f"the files of {self.name} have changed since the encoder was opened",
                        fix="run the same command again",
                    )
                self._model = model
            return self._model

    def preprocess(self, images: Tensor) -> Tensor:
        """See :meth:`Encoder.preprocess`."""
        return self.model().preprocess(images)

    def official_preprocess(self, images: Sequence[np.ndarray]) -> Tensor:
        """See :meth:`Encoder.official_preprocess`."""
        return self.model().official_preprocess(images)

    def embed_images(self, images: Tensor) -> Tensor:
        """See :meth:`Encoder.embed_images`."""
        return self.model().embed_images(images)

    def embed_pixels(self, inputs: Tensor) -> Tensor:
        """See :meth:`Encoder.embed_pixels`."""
        return self.model().embed_pixels(inputs)

    def embed_texts(self, texts: Sequence[str]) -> TextEmbeddings:
        """See :meth:`Encoder.embed_texts`."""
        return self.model().embed_texts(texts)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """See :meth:`Encoder.count_tokens`."""
        return self.model().count_tokens(texts)

    def show_tokens(self, text: str) -> list[str]:
        """See :meth:`Encoder.show_tokens`."""
        return self.model().show_tokens(text)


@cache
def _code_digest() -> str:
    """sha256 of the code of this room: what it makes of the same files may change with it."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    state: dict[str, Any] = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }
    return digest_of(state)


def _foreign_families() -> dict[str, str]:
    """Version of each distribution that brings a family, by the name of the entry point."""
    return {
        point.name: f"{point.dist.name} {point.dist.version}" if point.dist else ""
        for point in entry_points(group=ENTRY_POINTS)
    }
