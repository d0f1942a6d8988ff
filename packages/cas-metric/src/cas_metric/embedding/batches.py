"""Forward passes over images in batches of one size: what needs a model, and so torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import Tensor

from cas_metric.errors import CasError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cas_metric.encoders import Encoder


class FixedBatches:
    """The image tower behind batches of one size, which is halved when memory runs out."""

    def __init__(self, encoder: Encoder, size: int) -> None:
        self.encoder = encoder
        self.size = size

    def embed(self, inputs: Sequence[Tensor]) -> NDArray[np.float32]:
        """``(n, D)`` of ``n`` model inputs ``(3, S, S)``, any number of them."""
        while True:
            try:
                parts = [
                    self._forward(inputs[start : start + self.size])
                    for start in range(0, len(inputs), self.size)
                ]
            except RuntimeError as error:
                full = isinstance(error, torch.OutOfMemoryError)
                if not (full or should_reduce_batch_size(error)):
                    raise
                self._halve(error)
            else:
                empty = np.empty((0, self.encoder.dim), dtype=np.float32)
                return np.concatenate([empty, *parts])

    def _forward(self, inputs: Sequence[Tensor]) -> NDArray[np.float32]:
        filled = torch.stack([*inputs, *[inputs[-1]] * (self.size - len(inputs))])
        with torch.inference_mode():
            return self.encoder.embed_pixels(filled)[: len(inputs)].cpu().numpy()

    def _halve(self, error: RuntimeError) -> None:
        if self.size == 1:
            raise CasError(
                f"{self.encoder.device} has no memory for a single image of this encoder",
                fix="free memory, choose a smaller encoder, or --device cpu",
            ) from error
        self.size = (self.size + 1) // 2
        clear_device_cache()
