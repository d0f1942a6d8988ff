"""The diffusion loss of held-out images: whether a stage learns the images or by heart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch

from craft_trainer.config.schema import Config
from craft_trainer.config.stage import DenoisingStage, Stage
from craft_trainer.data.dataset import Batch, Examples, conditioning_texts
from craft_trainer.data.encoding import Encodings, Texts, encode_latents, encode_texts
from craft_trainer.guards.heldout import held_out_examples
from craft_trainer.methods.denoising import Denoising

#: Noises and timesteps of an image; the same at every look.
_DRAWS: Final = 4


@dataclass(frozen=True)
class HeldOutLoss:
    """Mean squared error on the same images, with the same noise and timesteps, at every look.

    Attributes:
        method: The plain diffusion loss of the model that is trained.
        moments: ``(N, 2C, h, w)`` of the images.
        texts: ``N`` conditioning texts.
        conditions: Of the texts; None where what they become is learned.
        seed: Of the noise.
        together: Images in one pass.
    """

    method: Denoising
    moments: torch.Tensor
    texts: tuple[str, ...]
    conditions: Texts | None
    seed: int
    together: int

    @classmethod
    def of(
        cls, config: Config, stage: Stage, train: Examples, encodings: Encodings
    ) -> HeldOutLoss | None:
        """As the configuration wants it; None of a stage without such a loss, or without images."""
        validation = config.validation
        if validation.manifest is None or not isinstance(stage, DenoisingStage):
            return None
        examples = held_out_examples(config, train)
        model, resolution = encodings.model, config.data.resolution
        texts = conditioning_texts(examples, stage.prompt, model.tokens)
        known = None if stage.learns == "tokens" else encode_texts(texts, encodings)
        forward = model.forward_process(model.latent_shape(resolution))
        moments = encode_latents(examples, encodings, resolution)
        own = Denoising(model, forward)
        return cls(own, moments, texts, known, validation.seed, validation.batch_size)

    @torch.no_grad()
    def __call__(self) -> float:
        """The mean over images and draws."""
        count, total = len(self.texts), 0.0
        for draw in range(_DRAWS):
            for start in range(0, count, self.together):
                rows = tuple(range(start, min(start + self.together, count)))
                batch = self._batch(rows, draw * count)
                total += len(rows) * float(self.method.loss(batch, 0).total)
        return total / (_DRAWS * count)

    def _batch(self, rows: tuple[int, ...], first: int) -> Batch:
        texts = tuple(self.texts[row] for row in rows)
        known = self.conditions
        conditions = None if known is None else known.of(texts)
        positions = tuple(first + row for row in rows)
        return Batch(rows, positions, self.seed, self.moments[list(rows)], texts, conditions)
