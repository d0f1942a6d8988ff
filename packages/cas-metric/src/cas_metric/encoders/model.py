"""The :class:`~cas_metric.encoders.base.Encoder` that every family is loaded as."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cas_metric.encoders.base import TextEmbeddings
from cas_metric.encoders.devices import find_device
from cas_metric.encoders.loading import LoadOptions
from cas_metric.encoders.memory import digest_of
from cas_metric.encoders.precision import own_precision
from cas_metric.encoders.preprocessing import Pixels
from cas_metric.encoders.text import TextTower, embed_with_policy
from cas_metric.errors import InputError


@dataclass(frozen=True)
class Towers:
    """What a family hands over: the model and the two ways into it.

    Attributes:
        model: The module that owns the parameters.
        image_features: ``(B, …)`` model input to ``(B, D)``, not normalised.
        text: Tokenizer and text tower; ``None`` for an image-only family.
        dim: Length of an embedding.
        preprocessing: From pixels to model input.
        pooling: How the family makes one vector of an image; part of the fingerprint.
        content: sha256 of the files behind the model, part of the fingerprint.
    """

    model: nn.Module
    image_features: Callable[[Tensor], Tensor]
    text: TextTower | None
    dim: int
    preprocessing: Pixels
    pooling: str
    content: str


class ModelEncoder:
    """The :class:`~cas_metric.encoders.Encoder` that every family is loaded as.

    It never changes, so copies share it. It is pickled by what it was loaded from: the weights are
    read again where it is unpickled.

    Attributes:
        files: sha256 of the files that it was made from, by name.
        device_description: ``device`` for people, with the name of a GPU.
    """

    #: Loads it again; set by :func:`cas_metric.encoders.load_encoder`.
    again: partial[ModelEncoder] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        if self.again is None:
            raise TypeError(f"the encoder {self.name!r} was not loaded by name: it has no pickle")
        return self.again, ()

    def __deepcopy__(self, memo: object) -> ModelEncoder:
        return self

    def __init__(
        self,
        name: str,
        revision: str,
        towers: Towers,
        options: LoadOptions,
        files: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.revision = revision
        self.files = files or {}
        self.dim = towers.dim
        self.device, self.device_description = find_device(options.device)
        self.image_size = towers.preprocessing.size
        self.token_limit = towers.text.limit if towers.text else 0
        self.fingerprint = fingerprint(towers, options)
        self.preprocessing = towers.preprocessing
        self.dtype = options.dtype
        self.text_policy = options.text_policy
        self.pooling = towers.pooling
        self._text = towers.text
        self._dtype: torch.dtype = getattr(torch, options.dtype)
        self._finish = Tensor.float if options.raw else unit_norm
        self.model = towers.model.requires_grad_(False).eval()
        self.model.to(device=self.device, dtype=self._dtype)
        features = towers.image_features
        self._image_features = torch.compile(features) if options.compile else features

    def preprocess(self, images: Tensor) -> Tensor:
        """See :meth:`Encoder.preprocess`."""
        return self.preprocessing.differentiable(images)

    def official_preprocess(self, images: Sequence[np.ndarray]) -> Tensor:
        """See :meth:`Encoder.official_preprocess`."""
        return self.preprocessing.official(images)

    def embed_images(self, images: Tensor) -> Tensor:
        """See :meth:`Encoder.embed_images`."""
        with own_precision(self.device, self._dtype):
            return self.embed_pixels(self.preprocess(images.to(self.device)))

    def embed_pixels(self, inputs: Tensor) -> Tensor:
        """See :meth:`Encoder.embed_pixels`."""
        inputs = inputs.to(device=self.device, dtype=self._dtype)
        with own_precision(self.device, self._dtype):
            return self._finish(self._image_features(inputs))

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> TextEmbeddings:
        """See :meth:`Encoder.embed_texts`."""
        text = self._require_text()
        with own_precision(self.device, self._dtype):
            embeddings, truncated = embed_with_policy(text, texts, self.text_policy, self.dim)
        unique = list(dict.fromkeys(texts))
        counts = dict(zip(unique, text.count(unique), strict=True))
        return TextEmbeddings(
            embeddings=embeddings.to(self.device),
            tokens=torch.tensor([counts[item] for item in texts], dtype=torch.int64),
            truncated=torch.tensor(truncated, dtype=torch.bool),
        )

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """See :meth:`Encoder.count_tokens`."""
        return self._require_text().count(texts)

    def show_tokens(self, text: str) -> list[str]:
        """See :meth:`Encoder.show_tokens`."""
        return self._require_text().tokens(text)

    def _require_text(self) -> TextTower:
        if self._text is None:
            raise InputError(
                f"encoder {self.name!r} has no text tower: it embeds images only",
                fix="take an image-text encoder such as siglip for prompts and checklists",
            )
        return self._text


def fingerprint(towers: Towers, options: LoadOptions) -> str:
    """sha256, as hex, of everything that decides an embedding."""
    description: dict[str, Any] = {
        "content": towers.content,
        "preprocessing": towers.preprocessing.describe(),
        "pooling": towers.pooling,
        "dtype": options.dtype,
        "text": towers.text.describe() if towers.text else None,
        "text_policy": options.text_policy if towers.text else None,
        **({"raw": True} if options.raw else {}),  # of unit norm unless this is said
    }
    return digest_of(description)


def unit_norm(features: Tensor) -> Tensor:
    """``(B, D)`` of any dtype to float32 of unit norm: a bfloat16 norm has two decimals."""
    return F.normalize(features.float(), dim=-1)
