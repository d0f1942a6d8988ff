"""An encoder that is known before it is loaded.

A run whose images are all in the embedding cache needs an encoder's fingerprint and nothing else of
it. Importing transformers and reading gigabytes of weights would be most of such a run, so the
facts of an encoder that was loaded once are remembered, by the path, size and modification time of
its files, and the model is loaded when it is first asked to embed something.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import numpy as np
from torch import Tensor

from cas_metric.encoders.base import Encoder, LoadOptions, TextEmbeddings
from cas_metric.encoders.weights import digest_of, user_cache
from cas_metric.errors import CasError

#: Packages whose version may change how a checkpoint is read.
_READERS: Final = ("transformers", "tokenizers", "open_clip_torch", "cas-metric")


@dataclass(frozen=True)
class Facts:
    """What is known of an encoder without its model; see :class:`~cas_metric.encoders.Encoder`."""

    dim: int
    fingerprint: str
    token_limit: int
    image_size: int

    @classmethod
    def of(cls, encoder: Encoder) -> Facts:
        """The facts of a loaded encoder."""
        return cls(encoder.dim, encoder.fingerprint, encoder.token_limit, encoder.image_size)


class Memory:
    """The remembered facts of one encoder under one set of options; in the user's cache directory.

    Args:
        spec: What the encoder was asked for as; open_clip's name an architecture.
        files: Every file that the encoder is made from.
        options: How it is loaded; the device does not matter.
    """

    def __init__(self, spec: str, files: Sequence[Path], options: LoadOptions) -> None:
        key = {
            "spec": spec,
            "files": [_state(path) for path in files],
            "code": [_state(path) for path in sorted(Path(__file__).parent.glob("*.py"))],
            "versions": [_version(name) for name in _READERS],
            "options": [options.dtype, options.text_policy, options.compile, options.channels_last],
        }
        self.path = user_cache() / "encoders" / f"{digest_of(key)}.json"

    def recall(self) -> Facts | None:
        """The facts, where these very files were loaded before."""
        with suppress(OSError, ValueError, TypeError):
            return Facts(**json.loads(self.path.read_text(encoding="utf-8")))
        return None

    def keep(self, facts: Facts) -> None:
        """Remember; a cache directory that cannot be written to costs time, not correctness."""
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial = self.path.with_suffix(f".{os.getpid()}")
            partial.write_text(json.dumps(asdict(facts)), encoding="utf-8")
            partial.replace(self.path)

    def forget(self) -> None:
        """Remove what is remembered."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


class DeferredEncoder:
    """An :class:`~cas_metric.encoders.Encoder` whose model is loaded when it is first needed."""

    def __init__(
        self,
        name: str,
        revision: str,
        options: LoadOptions,
        memory: Memory,
        facts: Facts,
        load: Callable[[], Encoder],
    ) -> None:
        self.name = name
        self.revision = revision
        self.dim = facts.dim
        self.fingerprint = facts.fingerprint
        self.token_limit = facts.token_limit
        self.image_size = facts.image_size
        self.dtype = options.dtype
        self.text_policy = options.text_policy
        self.device = options.device
        self._memory = memory
        self._facts = facts
        self._load = load
        self._model: Encoder | None = None
        self._lock = threading.Lock()  # worker threads ask for preprocessing at the same time

    @property
    def loaded(self) -> bool:
        """Whether the model was needed so far."""
        return self._model is not None

    def model(self) -> Encoder:
        """The model itself, loaded now if it was not before.

        Raises:
            CasError: It is not what its files were when they were last loaded.
        """
        with self._lock:
            if self._model is None:
                model = self._load()
                if Facts.of(model) != self._facts:
                    self._memory.forget()
                    raise CasError(
                        f"{self.name} is not the encoder that its files were when last loaded",
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


def _state(path: Path) -> list[str | int]:
    real = path.resolve()
    status = real.stat()
    return [str(path.absolute()), str(real), status.st_size, status.st_mtime_ns]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
