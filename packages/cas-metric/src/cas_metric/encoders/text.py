"""From a text to one vector: counting, cutting and the named text policies.

What happens to a text beyond the encoder's limit is a choice that changes scores, so it has a
name, is part of the fingerprint, and results under different policies are never mixed:

``truncate``
    The text is cut at the limit; EOS stays where the family has one. Comparable with the paper.
``chunk-mean``
    The text is divided at word boundaries into the fewest nearly equal parts that fit.
``per-attribute-mean``
    A checklist ``"Condition. Attribute: description; Attribute: description"`` is divided at its
    semicolons, one part an attribute; a part beyond the limit is cut.

Parts are embedded on their own, and the mean of their unit vectors is scaled to unit norm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

#: Texts in one forward pass, at least, and tokens, where texts are short. Every pass over texts of
#: one length has the same number of rows (the last is filled up), so that a text's embedding does
#: not depend on which other texts are asked for with it.
PASS_TEXTS = 8
PASS_TOKENS = 512

#: Texts of a causal tower are padded to a multiple of so many tokens: few lengths, few passes
#: that are not full.
LENGTH_STEP = 8


class Tokenizer(Protocol):
    """A family's tokenizer as the policies need it."""

    @property
    def limit(self) -> int:
        """Longest text in tokens, special tokens included."""
        ...

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each whole text, special tokens included."""
        ...

    def encode(self, texts: Sequence[str]) -> Tensor:
        """``(N, limit)`` int64 token ids, cut and padded as the family was trained."""
        ...

    def tokens(self, text: str) -> list[str]:
        """The tokens that are left of ``text`` after normalisation and cutting, unpadded."""
        ...

    def describe(self) -> dict[str, Any]:
        """What the fingerprint records of it."""
        ...


@dataclass(frozen=True)
class TextTower:
    """A tokenizer and the tower behind it.

    Attributes:
        tokenizer: The family's.
        features: ``(N, L)`` token ids to ``(N, D)``; L is the limit, or less in a causal tower.
        causal: Whether a position attends to none after it, and EOS is what is pooled. Padding
            behind EOS then changes nothing, and most of it is left away. A tower that sees its
            padding, as SigLIP's does, must see all that it was trained with.
    """

    tokenizer: Tokenizer
    features: Callable[[Tensor], Tensor]
    causal: bool = False

    @property
    def limit(self) -> int:
        """Longest text in tokens, special tokens included."""
        return self.tokenizer.limit

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each whole text, special tokens included."""
        return self.tokenizer.count(texts)

    def tokens(self, text: str) -> list[str]:
        """The tokens that the model sees of ``text``."""
        return self.tokenizer.tokens(text)

    def describe(self) -> dict[str, Any]:
        """What the fingerprint records."""
        return self.tokenizer.describe()

    def embed(self, texts: Sequence[str]) -> Tensor:
        """``(N, D)`` float32 of unit norm, each text cut at the limit."""
        ids = self.tokenizer.encode(texts)
        rows: dict[int, Tensor] = {}
        for length, members in self._by_length(texts).items():
            size = max(PASS_TEXTS, PASS_TOKENS // length)
            for start in range(0, len(members), size):
                some = members[start : start + size]
                filled = [*some, *[some[-1]] * (size - len(some))]
                features = self.features(ids[filled, :length]).float()
                rows.update(zip(some, features, strict=False))
        return F.normalize(torch.stack([rows[index] for index in range(len(texts))]), dim=-1)

    def _by_length(self, texts: Sequence[str]) -> dict[int, list[int]]:
        """Which texts are padded to which length; that of a text depends on no other text."""
        if not self.causal:
            return {self.limit: list(range(len(texts)))}
        members: dict[int, list[int]] = {}
        for index, tokens in enumerate(self.count(texts)):
            length = min(self.limit, -(-tokens // LENGTH_STEP) * LENGTH_STEP)
            members.setdefault(length, []).append(index)
        return members


@dataclass(frozen=True)
class HubTokenizer:
    """A tokenizer of transformers, padded to its limit without an attention mask.

    Args:
        tokenizer: As ``AutoTokenizer`` loads it.
        limit: Positions of the text tower.
        lowercase: Whether the family was trained on lower-case text that its tokenizer does not
            make by itself (SigLIP 2 with the Gemma tokenizer).
    """

    tokenizer: Any
    limit: int
    lowercase: bool = False

    def count(self, texts: Sequence[str]) -> list[int]:
        """See :meth:`Tokenizer.count`."""
        if not texts:
            return []
        ids = self.tokenizer(self._normalise(texts), truncation=False, verbose=False)["input_ids"]
        return [len(row) for row in ids]

    def encode(self, texts: Sequence[str]) -> Tensor:
        """See :meth:`Tokenizer.encode`."""
        batch = self.tokenizer(
            self._normalise(texts),
            padding="max_length",
            max_length=self.limit,
            truncation=True,
            padding_side="right",
            return_tensors="pt",
        )
        return batch["input_ids"]

    def tokens(self, text: str) -> list[str]:
        """See :meth:`Tokenizer.tokens`."""
        ids = self.tokenizer(
            self._normalise([text]), truncation=True, max_length=self.limit, padding=False
        )["input_ids"][0]
        return list(self.tokenizer.convert_ids_to_tokens(ids))

    def describe(self) -> dict[str, Any]:
        """See :meth:`Tokenizer.describe`."""
        return {"limit": self.limit, "padding": "max_length", "lowercase": self.lowercase}

    def _normalise(self, texts: Sequence[str]) -> list[str]:
        return [text.lower() if self.lowercase else text for text in texts]


def embed_with_policy(
    tower: TextTower, texts: Sequence[str], policy: str, dim: int
) -> tuple[Tensor, list[bool]]:
    """Embed texts under a named policy.

    Args:
        tower: Tokenizer and text tower.
        texts: Any number of texts; equal ones are embedded once.
        policy: ``truncate``, ``chunk-mean`` or ``per-attribute-mean``.
        dim: Length of an embedding.

    Returns:
        ``(N, D)`` float32 of unit norm, and for each text whether some of it was not seen.
    """
    if not texts:
        return torch.zeros(0, dim), []
    parts_of = {text: _parts(tower.tokenizer, text, policy) for text in dict.fromkeys(texts)}
    parts = list(dict.fromkeys(part for group in parts_of.values() for part in group))
    vectors = dict(zip(parts, tower.embed(parts), strict=True))
    cut = dict(zip(parts, (n > tower.limit for n in tower.count(parts)), strict=True))
    embeddings = torch.stack([_mean([vectors[p] for p in parts_of[text]]) for text in texts])
    return embeddings, [any(cut[part] for part in parts_of[text]) for text in texts]


def split_attributes(text: str) -> list[str]:
    """Split a checklist at its semicolons, e.g. ``"C. A: x; B: y"`` to ``["C. A: x", "B: y"]``."""
    return [part.strip() for part in text.split(";") if part.strip()] or [text]


def split_chunks(tokenizer: Tokenizer, text: str) -> list[str]:
    """Divide a text at word boundaries into the fewest nearly equal parts within the limit.

    A single word beyond the limit stays one part and will be cut.
    """
    words = text.split()
    fewest = max(1, -(-tokenizer.count([text])[0] // tokenizer.limit))
    for pieces in range(fewest, len(words) + 1):
        parts = [" ".join(part) for part in np.array_split(np.array(words, dtype=object), pieces)]
        if pieces == len(words) or max(tokenizer.count(parts)) <= tokenizer.limit:
            return parts
    return [text]


def _parts(tokenizer: Tokenizer, text: str, policy: str) -> list[str]:
    if policy == "per-attribute-mean":
        return split_attributes(text)
    if policy == "chunk-mean" and tokenizer.count([text])[0] > tokenizer.limit:
        return split_chunks(tokenizer, text)
    return [text]


def _mean(vectors: Iterable[Tensor]) -> Tensor:
    stacked = torch.stack(list(vectors))
    # A single part is handed out as it is: normalising it again would change its last bits.
    return stacked[0] if len(stacked) == 1 else F.normalize(stacked.mean(dim=0), dim=-1)
