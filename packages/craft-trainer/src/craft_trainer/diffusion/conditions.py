"""What a prompt becomes for the denoiser, whatever the family of the base model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Conditions:
    """Encodings of ``B`` prompts.

    Attributes:
        embeddings: ``(B, L, D)``, one vector a token.
        pooled: ``(B, P)``, one vector a prompt, where the family uses one.
    """

    embeddings: Tensor
    pooled: Tensor | None = None

    def __len__(self) -> int:
        return len(self.embeddings)

    def __getitem__(self, rows: slice | list[int]) -> Conditions:
        return self.each(lambda part: part[rows])

    def put(self, row: int, one: Conditions) -> None:
        """Overwrite a row by conditions of length 1."""
        self.embeddings[row] = one.embeddings[0]
        if self.pooled is not None and one.pooled is not None:
            self.pooled[row] = one.pooled[0]

    def to(self, *target: Any) -> Conditions:
        """On another device or in another dtype; arguments as of ``Tensor.to``."""
        return self.each(lambda part: part.to(*target))

    def repeat(self, times: int) -> Conditions:
        """``(B * times, …)``: all prompts, then all again."""
        return self.each(lambda part: part.repeat(times, *[1] * (part.ndim - 1)))

    def where(self, chosen: Tensor, other: Conditions) -> Conditions:
        """``other``, of length 1, in place of those that ``(B,)`` truth values name."""
        embeddings = torch.where(chosen[:, None, None], other.embeddings, self.embeddings)
        if self.pooled is None or other.pooled is None:
            return Conditions(embeddings)
        return Conditions(embeddings, torch.where(chosen[:, None], other.pooled, self.pooled))

    @staticmethod
    def cat(parts: Sequence[Conditions]) -> Conditions:
        """One after the other."""
        pooled = [part.pooled for part in parts if part.pooled is not None]
        return Conditions(
            torch.cat([part.embeddings for part in parts]), torch.cat(pooled) if pooled else None
        )

    def each(self, change: Callable[[Tensor], Tensor]) -> Conditions:
        """Something else in the place of each tensor."""
        return Conditions(
            change(self.embeddings), None if self.pooled is None else change(self.pooled)
        )
