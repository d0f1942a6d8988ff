"""What an encoder is, and what a directory must hold to become one.

An encoder maps images, and where its family has a text tower also texts, to unit vectors of one
space. Every family is loaded from a local directory in the hub's format; a hub id is only a way
of getting such a directory. What it must hold:

=========================  ======================================================================
``config.json``            with ``model_type``: ``siglip``, ``clip``, ``metaclip_2`` or ``dinov2``
``model.safetensors``      or ``model.safetensors.index.json`` and its shards; pickles are refused
``preprocessor_config.json``  with ``image_processor_type`` (``SiglipImageProcessor``,
                           ``CLIPImageProcessor``, ``BitImageProcessor``), ``size``, ``resample``,
                           ``image_mean``, ``image_std`` and, where it crops, ``crop_size``
``tokenizer_config.json``  and ``tokenizer.json`` (any tokenizer of the ``tokenizers`` library,
                           saved by ``PreTrainedTokenizerFast``) or ``spiece.model``; not for
                           image-only families. The post-processor must end a text with EOS, and
                           for CLIP and MetaCLIP 2 ``text_config.eos_token_id`` must be its id,
                           because the model pools there
=========================  ======================================================================

Texts are cut at ``text_config.max_position_embeddings`` (64 for SigLIP, 77 for CLIP), and padded
to it where the text tower sees its padding. A directory with ``open_clip_config.json`` and
``open_clip_model.safetensors`` instead is loaded by open_clip.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cas_metric.encoders.preprocessing import Preprocessing
from cas_metric.encoders.text import TextTower, embed_with_policy
from cas_metric.encoders.weights import digest_of
from cas_metric.errors import InputError
from cas_metric.protocol import SCORE_DTYPE, TEXT_POLICIES, TEXT_POLICY

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TextEmbeddings(NamedTuple):
    """Embedded texts and what the encoder could see of them.

    Attributes:
        embeddings: ``(N, D)`` float32 of unit norm, on the encoder's device.
        tokens: ``(N,)`` int64 on the CPU: tokens of the whole text with its special tokens,
            before anything was cut.
        truncated: ``(N,)`` bool on the CPU: whether some of the text was not seen by the model.
    """

    embeddings: Tensor
    tokens: Tensor
    truncated: Tensor


class Encoder(Protocol):
    """Images and texts to unit vectors. Frozen; gradients flow to the images only.

    Attributes:
        name: Hub id, ``openclip:…`` or name of the directory that it was loaded from.
        revision: Commit of the hub, ``local`` for a directory, ``embedded`` for a phantom model.
        dim: Length of an embedding.
        fingerprint: sha256 of everything that decides an embedding: weights, configuration,
            tokenizer, preprocessing, pooling, dtype and text policy.
        token_limit: Longest text in tokens, special tokens included; 0 without a text tower.
        image_size: Side of the square that the model looks at, in pixels.
        dtype: Of weights and activations, one of :data:`DTYPES`.
        text_policy: How texts beyond the limit are treated, one of ``protocol.TEXT_POLICIES``.
        device: Where the model lives.
    """

    name: str
    revision: str
    dim: int
    fingerprint: str
    token_limit: int
    image_size: int
    dtype: str
    text_policy: str
    device: torch.device

    def preprocess(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` in [0, 1] to ``(B, 3, S, S)`` model input, differentiable."""
        ...

    def official_preprocess(self, images: Sequence[np.ndarray]) -> Tensor:
        """``(H, W, 3)`` uint8 arrays of any sizes to ``(B, 3, S, S)``, as the authors do it."""
        ...

    def embed_images(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` in [0, 1] to ``(B, D)`` float32 of unit norm; gradients flow."""
        ...

    def embed_pixels(self, inputs: Tensor) -> Tensor:
        """Preprocessed ``(B, 3, S, S)`` to ``(B, D)`` float32 of unit norm; gradients flow.

        In batches of one size the bits of a row depend neither on its partners nor on its
        position (tested on the CPU). A batch of another size may differ in the last bits, a batch
        of one does: whoever wants reproducible bytes fills the last batch up.
        """
        ...

    def embed_texts(self, texts: Sequence[str]) -> TextEmbeddings:
        """Embed texts under the encoder's text policy. InputError without a text tower."""
        ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each whole text with special tokens, before anything is cut."""
        ...

    def show_tokens(self, text: str) -> list[str]:
        """The tokens that the model sees of ``text``, padding left out."""
        ...


@dataclass(frozen=True)
class LoadOptions:
    """How to load an encoder, whatever its family.

    Attributes:
        device: Where the model goes.
        dtype: ``float32``, ``bfloat16`` or ``float16`` for weights and activations; embeddings
            are normalised in float32 in any case.
        text_policy: One of ``protocol.TEXT_POLICIES``.
        compile: Whether ``torch.compile`` compiles the image tower.
        channels_last: Whether pixels and the patch convolution use the channels-last layout.
    """

    device: torch.device
    dtype: str = SCORE_DTYPE
    text_policy: str = TEXT_POLICY
    compile: bool = False
    channels_last: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise InputError(f"unknown dtype {self.dtype!r}", fix=f"one of {', '.join(DTYPES)}")
        if self.text_policy not in TEXT_POLICIES:
            raise InputError(
                f"unknown text policy {self.text_policy!r}",
                fix=f"one of {', '.join(TEXT_POLICIES)}",
            )

    @property
    def torch_dtype(self) -> torch.dtype:
        """``dtype`` as torch names it."""
        return DTYPES[self.dtype]


@dataclass(frozen=True)
class Towers:
    """What a family hands over: the model and the two ways into it.

    Attributes:
        model: The module that owns the parameters.
        image_features: ``(B, 3, S, S)`` to ``(B, D)``, not normalised.
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
    preprocessing: Preprocessing
    pooling: str
    content: str


class ModelEncoder:
    """The :class:`Encoder` that every family is loaded as."""

    def __init__(self, name: str, revision: str, towers: Towers, options: LoadOptions) -> None:
        self.name = name
        self.revision = revision
        self.dim = towers.dim
        self.device = options.device
        self.image_size = towers.preprocessing.size
        self.token_limit = towers.text.limit if towers.text else 0
        self.fingerprint = fingerprint(towers, options)
        self.preprocessing = towers.preprocessing
        self.dtype = options.dtype
        self.text_policy = options.text_policy
        self.pooling = towers.pooling
        self._text = towers.text
        self._dtype = options.torch_dtype
        self._layout = torch.channels_last if options.channels_last else torch.contiguous_format
        self.model = towers.model.requires_grad_(False).eval()
        self.model.to(device=self.device, dtype=self._dtype)
        if options.channels_last:
            self.model.to(memory_format=torch.channels_last)
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
        return self.embed_pixels(self.preprocess(images.to(self.device)))

    def embed_pixels(self, inputs: Tensor) -> Tensor:
        """See :meth:`Encoder.embed_pixels`."""
        inputs = inputs.to(device=self.device, dtype=self._dtype, memory_format=self._layout)
        with exact_float32(inputs):
            return unit_norm(self._image_features(inputs))

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> TextEmbeddings:
        """See :meth:`Encoder.embed_texts`."""
        text = self._require_text()
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
    }
    return digest_of(description)


def unit_norm(features: Tensor) -> Tensor:
    """``(B, D)`` of any dtype to float32 of unit norm: a bfloat16 norm has two decimals."""
    return F.normalize(features.float(), dim=-1)


def exact_float32(inputs: Tensor) -> Any:
    """Context in which a float32 convolution on a GPU is not silently done in TF32."""
    return torch.backends.cudnn.flags(
        enabled=torch.backends.cudnn.enabled,
        deterministic=True,
        benchmark=False,
        allow_tf32=inputs.dtype != torch.float32,
    )


def resolve_device(device: str | torch.device) -> torch.device:
    """``auto`` to the best device of this machine; anything else as torch understands it.

    Raises:
        InputError: torch knows no such device, or this machine has none.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise InputError(
            f"unknown device {device!r}", fix="auto, cpu, cuda, cuda:1, mps, …"
        ) from error
    try:
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:  # the latter from a torch built without CUDA
        cause = str(error).split("\n")[0]
        raise InputError(
            f"the device {device} cannot be used here: {cause}",
            fix="--device auto takes what there is; `cas doctor` lists it",
        ) from error
    return chosen
