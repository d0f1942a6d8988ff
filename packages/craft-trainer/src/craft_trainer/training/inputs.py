"""What a stage learns from: encoded once, and handed out by position in the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from accelerate import Accelerator
from torch import Tensor

from cas_metric.embedding.cache import EmbeddingCache
from craft_trainer.bases.base import DiffusionModel
from craft_trainer.bases.weights import encoding_hash
from craft_trainer.config.schema import Config
from craft_trainer.config.stage import TrainedStage
from craft_trainer.data.dataset import Batch, Examples, conditioning_texts, row_at
from craft_trainer.data.encoding import Encodings, Texts, encode_latents, encode_texts
from craft_trainer.runtime.telling import tell_noted, tell_truncated

if TYPE_CHECKING:
    from craft_trainer.runtime import Progress


class Inputs:
    """Latents and conditions of the examples of a stage.

    Args:
        config: Of the run.
        stage: Whose examples and texts they are.
        train: Training images.
        model: Encodes them.
        cache: Store of what was encoded before.
        accelerator: The processes, which share the work.
        progress: Told what is being encoded.
    """

    def __init__(
        self,
        config: Config,
        stage: TrainedStage,
        train: Examples,
        model: DiffusionModel,
        cache: EmbeddingCache,
        accelerator: Accelerator,
        progress: Progress,
    ) -> None:
        self.seed, self.world = config.seed, accelerator.num_processes
        examples, rejected = stage.examples(train)
        self.count = len(examples)
        self.texts = conditioning_texts(examples, stage.prompt, model.tokens)
        base = encoding_hash(config.base, config.revision, offline=config.offline)
        self.encodings = Encodings(cache, base, model)

        def told(what: str) -> Callable[[int, int], None]:
            return lambda done, total: progress(f"encoding {what}", done, total)

        def latents(of: Examples) -> Tensor:
            return encode_latents(
                of,
                self.encodings,
                config.data.resolution,
                told("images"),
                accelerator,
            )

        tell_truncated(model, self.texts)
        self.moments = latents(examples)
        tell_noted(self.encodings.noted, self.count)
        self.rejected = None if rejected is None else latents(rejected)
        self.conditions: Texts | None = None
        if stage.learns != "tokens":  # which change what a text becomes
            self.conditions = encode_texts(self.texts, self.encodings, told("texts"), accelerator)

    def batch(self, positions: tuple[int, ...]) -> Batch:
        """The examples at some positions of the run."""
        rows = tuple(row_at(position, self.count, self.seed) for position in positions)
        prompts = tuple(self.texts[row] for row in rows)
        conditions = rejected = None
        if self.conditions is not None:
            conditions = self.conditions.of(prompts)
        if self.rejected is not None:
            rejected = self.rejected[list(rows)]
        moments = self.moments[list(rows)]
        turn = positions[0] // (len(positions) * self.world)
        return Batch(rows, positions, self.seed, moments, prompts, conditions, rejected, turn)
