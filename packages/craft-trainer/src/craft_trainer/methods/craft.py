"""CRAFT: Eq. 1, the diffusion loss minus the clinical reward of sampled images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from craft_trainer.bases import DiffusionModel
from craft_trainer.bases.conditions import Conditions
from craft_trainer.config.schema import CraftStage
from craft_trainer.data.examples import Batch
from craft_trainer.diffusion.draft import Guidance, Scheduler, draft
from craft_trainer.diffusion.forward import ForwardProcess
from craft_trainer.guards import monitoring
from craft_trainer.methods.base import Loss
from craft_trainer.methods.denoising import conditions_of, denoising_loss
from craft_trainer.rewards.cam import ClinicalAlignmentModule, Targets


@dataclass(frozen=True)
class Craft:
    """λ_diff ‖ε − ε_θ‖² − λ_cam r_cam, with r_cam the mean over M trajectories (Eqs. 1 and 6).

    Attributes:
        model: With LoRA attached.
        forward: Of the diffusion term.
        sampler: Scheduler of a trajectory, its T timesteps set.
        cam: Rewards of an image.
        targets: What each training image's samples are judged against, one row an example.
        guidance: Classifier-free guidance of the trajectories.
        stage: λ, K, M and how the repeats are drawn.
    """

    model: DiffusionModel
    forward: ForwardProcess
    sampler: Scheduler
    cam: ClinicalAlignmentModule
    targets: Targets
    guidance: Guidance
    stage: CraftStage

    def loss(self, batch: Batch, step: int) -> Loss:
        """Both terms; a weight of 0 leaves a term's computation out."""
        conditions = conditions_of(batch, self.model)
        total = torch.zeros((), device=self.model.device)
        logs: dict[str, Tensor] = {}
        diffusion, distance = self.stage.lambda_diff, self.stage.kl_to_base
        if diffusion > 0 or distance > 0:
            term = denoising_loss(
                self.model, self.forward, batch, conditions, distance, weight=diffusion
            )
            total = total + term.total
            logs |= term.logs
        if self.stage.lambda_cam > 0:
            reward, reward_logs = self._reward(batch, conditions, step)
            total = total - self.stage.lambda_cam * reward
            logs |= reward_logs
        return Loss(total, {"loss/total": total.detach(), **logs})

    def _reward(
        self, batch: Batch, conditions: Conditions, step: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """r_cam averaged over the batch and its repeats, and its logs."""
        repeats = self.stage.repeats
        latents = draft(
            self.model.denoise,
            conditions,
            self.sampler,
            batch.generators("trajectory", repeats),
            shape=self._latent_shape(batch),
            guidance=self.guidance,
            gradient_steps=self.stage.gradient_steps,
            repeats=repeats,
            mode=self.stage.repeat_mode,
        )
        images = self.model.decode(latents)
        rewards = self.cam.rewards(images, self.targets.at(batch.rows).repeat(repeats))
        logs = {f"reward/{name}": value.mean().detach() for name, value in rewards.terms.items()}
        logs["reward/r_cam"] = rewards.r_cam.mean().detach()
        logs |= monitoring.image_statistics(images.detach(), repeats)
        every = self.stage.reward_gradients_every
        if every and step % every == 0:
            logs |= monitoring.reward_gradients(rewards.terms, images)
        return rewards.r_cam.mean(), logs

    @staticmethod
    def _latent_shape(batch: Batch) -> tuple[int, int, int]:
        _, channels, height, width = batch.moments.shape
        return channels // 2, height, width
