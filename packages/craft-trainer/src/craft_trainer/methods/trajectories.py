"""The trajectories of a ``craft`` stage: their prefix by the stage's settings, and their tail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from craft_trainer.bases.lora import base_only
from craft_trainer.diffusion.conditions import Conditions
from craft_trainer.diffusion.prefix import FastPrefix
from craft_trainer.diffusion.sampling import (
    Guidance,
    Scheduler,
    draft_prefix,
    initial_noise,
    sample_chosen,
    sample_tail,
)

if TYPE_CHECKING:
    from craft_trainer.bases.base import DiffusionModel
    from craft_trainer.data.dataset import Batch
    from craft_trainer.methods.craft import CraftStage


class Prefixed(NamedTuple):
    """Latents that the differentiated steps begin with.

    Attributes:
        latents: ``(B * M, C, h, w)``, repeat by repeat.
        rows: ``B`` positions in the examples.
        conditions: Of length ``B``.
    """

    latents: Tensor
    rows: tuple[int, ...]
    conditions: Conditions


@dataclass
class Replay:
    """A buffer of the latest prefixes, used again at random.

    Attributes:
        uses: Further times that a prefix is used, on average.
        kept: Prefixes in the buffer.
        seed: Of the run; with the turn, that of the batch, it decides which one is used.
    """

    uses: int
    kept: int
    seed: int
    buffer: list[Prefixed] = field(default_factory=list)

    def due(self, turn: int) -> bool:
        """Whether a new prefix is to be drawn."""
        return not self.buffer or turn % (1 + self.uses) == 0

    def pick(self, turn: int) -> Prefixed:
        """A prefix of the buffer."""
        return self.buffer[int(np.random.default_rng((self.seed, turn)).integers(len(self.buffer)))]

    def add(self, prefix: Prefixed) -> None:
        """Keep a new one, and let the oldest go."""
        self.buffer = [*self.buffer, prefix][-self.kept :]

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs of it."""
        if not self.buffer:
            return {}
        latents, rows, conditions = zip(*self.buffer, strict=True)
        found = {
            "latents": torch.stack(latents),
            "rows": torch.tensor(rows),
            "embeddings": torch.stack([one.embeddings for one in conditions]),
        }
        if conditions[0].pooled is not None:
            found["pooled"] = torch.stack([one.pooled for one in conditions])
        return found

    def restore(self, state: Mapping[str, Tensor], device: torch.device) -> None:
        """Continue with what :meth:`state` kept."""
        self.buffer = []
        for index in range(len(state.get("latents", ()))):
            own = {name: value[index].to(device) for name, value in state.items()}
            rows = tuple(int(row) for row in own["rows"])
            conditions = Conditions(own["embeddings"], own.get("pooled"))
            self.buffer.append(Prefixed(own["latents"], rows, conditions))


@dataclass(frozen=True)
class Trajectories:
    """Draws ``M`` trajectories a prompt, differentiable in K steps.

    Attributes:
        model: With LoRA attached.
        sampler: Scheduler of a trajectory.
        guidance: Classifier-free guidance.
        stage: K, M, and how prefix and tail are taken.
        fast: Solver of the prefix, where the stage has one.
        replay: Buffer of prefixes, where the stage has one.
    """

    model: DiffusionModel
    sampler: Scheduler
    guidance: Guidance
    stage: CraftStage
    fast: FastPrefix | None = None
    replay: Replay | None = None

    def draw(
        self, batch: Batch, conditions: Conditions
    ) -> tuple[Tensor, tuple[int, ...], dict[str, Tensor]]:
        """Clean latents ``(B * M, C, h, w)``, the rows of their prompts, and terms of the loss."""
        settings, generators = self.stage, batch.generators("trajectory", self.stage.repeats)
        if settings.guarded.whole_trajectory:
            return self._whole(batch, conditions, generators), batch.rows, {}
        if self.replay is None or self.replay.due(batch.turn):
            latents = self._prefix(batch, conditions, generators)
            start = Prefixed(latents, batch.rows, conditions)
            if self.replay is not None:
                self.replay.add(start)
        else:
            start = self.replay.pick(batch.turn)
        terms = {}
        if settings.guarded.trajectory_kl > 0:
            terms["kl_on_trajectory"] = self._distance(start)
        latents = sample_tail(
            self.model.denoise,
            start.latents,
            start.conditions.repeat(settings.repeats),
            self.sampler,
            generators,
            guidance=self.guidance,
            steps=settings.gradient_steps,
        )
        return latents, start.rows, terms

    def _prefix(
        self, batch: Batch, conditions: Conditions, generators: list[torch.Generator]
    ) -> Tensor:
        """Latents before the last K steps."""
        stage = self.stage
        own = stage.cheaper
        if self.fast is None:
            return draft_prefix(
                self.model.denoise,
                conditions,
                self.sampler,
                generators,
                shape=batch.latent_shape,
                guidance=self.guidance,
                gradient_steps=stage.gradient_steps,
                repeats=stage.repeats,
                mode=stage.repeat_mode,
                own_steps=own.own_steps,
                unguided=own.unguided,
            )
        noise = initial_noise(batch.latent_shape, generators, like=conditions.embeddings)
        return self.fast(
            self.model.denoise,
            noise,
            conditions.repeat(stage.repeats),
            self.sampler,
            generators,
            guidance=self.guidance,
            after=len(self.sampler.timesteps) - stage.gradient_steps,
            unguided=own.unguided,
        )

    def _whole(
        self, batch: Batch, conditions: Conditions, generators: list[torch.Generator]
    ) -> Tensor:
        """Trajectories with a gradient in chosen steps, the last of them perhaps the base's."""
        guarded, last = self.stage.guarded, self.stage.guarded.base_steps

        def base(latents: Tensor, timestep: Tensor, own: Conditions) -> Tensor:
            with base_only(self.model):
                return self.model.denoise(latents, timestep, own)

        return sample_chosen(
            self.model.denoise,
            initial_noise(batch.latent_shape, generators, like=conditions.embeddings),
            conditions.repeat(self.stage.repeats),
            self.sampler,
            generators,
            guidance=self.guidance,
            chosen=chosen_steps(
                guarded.differentiate,
                self.stage.gradient_steps,
                len(self.sampler.timesteps) - last,
                np.random.default_rng((batch.seed, batch.turn)),
            ),
            last=base,
            last_steps=last,
        )

    def _distance(self, start: Prefixed) -> Tensor:
        """Mean squared difference from the base model where the differentiated steps begin."""
        stage = self.stage
        position = len(self.sampler.timesteps) - stage.gradient_steps
        timestep = self.sampler.timesteps[position].to(start.latents.device)
        conditions = start.conditions.repeat(stage.repeats)
        with base_only(self.model):
            base = self.model.denoise(start.latents, timestep, conditions)
        return F.mse_loss(self.model.denoise(start.latents, timestep, conditions), base)


def chosen_steps(kind: str, count: int, steps: int, rng: np.random.Generator) -> tuple[int, ...]:
    """Positions of the ``count`` differentiated steps among ``steps``.

    Examples:
        >>> chosen_steps("last", 2, 20, np.random.default_rng(0))
        (18, 19)
    """
    if kind == "random":
        return tuple(sorted(int(one) for one in rng.choice(steps, count, replace=False)))
    if kind == "spread":
        offset = rng.uniform(0, steps / count)
        return tuple(int(offset + index * steps / count) for index in range(count))
    return tuple(range(steps - count, steps))
