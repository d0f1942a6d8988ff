"""What an encoder is, and what a directory must hold to become one.

An encoder maps images, and where its family has a text tower also texts, to unit vectors of one
space. Every family is loaded from a local directory in the hub's format; a hub id is only a way
of getting such a directory. What it must hold:

=========================  ======================================================================
``config.json``            with a ``model_type`` that a family takes (see
                           :mod:`cas_metric.encoders.families`), or timm's own
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

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


class TextEmbeddings(NamedTuple):
    """Embedded texts and what the encoder could see of them.

    Attributes:
        embeddings: ``(N, D)`` float32 of unit norm, on the encoder's device.
        tokens: ``(N,)`` int64 on the CPU: tokens of the whole text with its special tokens,
            before anything was cut.
        truncated: ``(N,)`` bool on the CPU: whether some of the text was not seen by the model.

    Examples:
        >>> from cas_metric.encoders import load_encoder
        >>> encoder = load_encoder("phantom-siglip", device="cpu")
        >>> encoder.embed_texts(["edema", "edema " * 500]).truncated.tolist()
        [False, True]
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
        dtype: Of weights and activations, ``float32``, ``bfloat16`` or ``float16``.
        text_policy: How texts beyond the limit are treated, one of ``protocol.TEXT_POLICIES``.
        device: Where the model lives, as torch names it (``cpu``, ``cuda``, ``cuda:1``, …).

    Examples:
        >>> from cas_metric.encoders import load_encoder
        >>> import torch
        >>> encoder = load_encoder("phantom-siglip", device="cpu")
        >>> images = torch.rand(2, 3, 80, 80, requires_grad=True)
        >>> encoder.embed_images(images).norm(dim=-1).sum().backward()
        >>> images.grad.shape
        torch.Size([2, 3, 80, 80])
    """

    name: str
    revision: str
    dim: int
    fingerprint: str
    token_limit: int
    image_size: int
    dtype: str
    text_policy: str
    device: str

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
