"""What flow-matching transformers over image and text together have in common.

Textual inversion is not offered: diffusers reads learned tokens into none of their pipelines.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from craft_trainer.bases.base import DiffusionModel
from craft_trainer.config.sections import Sampling
from craft_trainer.diffusion.flow_matching import FlowSampler, flow_process, flow_sampler
from craft_trainer.diffusion.forward_process import ForwardProcess


class FlowTransformer(DiffusionModel):
    """Flow matching with the noise levels of the family's own pipeline."""

    trunk_name: ClassVar[str] = "transformer"
    noise_schedule: ClassVar[bool] = False

    @classmethod
    def draws_noise(cls, sampling: Sampling) -> bool:
        """Euler steps draw none."""
        return sampling.flow_sampler == "ancestral"

    def forward_process(self, latent: Sequence[int]) -> ForwardProcess:
        """Flow matching with the base model's shift."""
        return flow_process(self._scheduler_config, self._patches(latent))

    def sampler(self, sampling: Sampling, latent: Sequence[int]) -> FlowSampler:
        """The noise levels of the pipeline; ``sampling.flow_sampler`` chooses the step."""
        return flow_sampler(
            self._scheduler_config,
            sampling.steps,
            sampling.flow_sampler,
            tokens=self._patches(latent),
            first_level=self.first_level,
        )

    @property
    def first_level(self) -> float | None:
        """σ, before the shift, of the first of T evenly spaced levels; None: the scheduler's."""
        return None

    @property
    def _scheduler_config(self) -> dict[str, Any]:
        return dict(self.pipeline.scheduler.config)

    def _patches(self, latent: Sequence[int]) -> int:
        _, height, width = latent
        return (height // self.latent_multiple) * (width // self.latent_multiple)
