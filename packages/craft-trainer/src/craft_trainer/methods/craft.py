"""CRAFT: Eq. 1, the diffusion loss minus the clinical reward of sampled images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from cas_metric.errors import InputError
from cas_metric.protocol import PRIMITIVES
from craft_trainer.config.stage import Kept, Section, TrainedStage
from craft_trainer.methods.base import Loss, Method, Setup

if TYPE_CHECKING:
    from torch import Tensor

    from cas_metric.encoders import Encoder
    from cas_metric.scoring.probe import Probe
    from craft_trainer.bases.base import DiffusionModel
    from craft_trainer.config.schema import Config
    from craft_trainer.data.dataset import Batch
    from craft_trainer.diffusion.conditions import Conditions
    from craft_trainer.diffusion.forward_process import ForwardProcess
    from craft_trainer.diffusion.sampling import Guidance, Scheduler
    from craft_trainer.rewards.clinical_alignment import ClinicalAlignmentModule, Targets


class RewardWeights(Section):
    """Weight of each reward within r_cam; 0 switches it off (Eq. 6, Tables 4 and 15).

    Examples:
        >>> RewardWeights(dd=0).weights()
        {'vdc': 0.25, 'ccs': 0.25, 'dd': 0.0, 'sfs': 0.25}
    """

    vdc: NonNegativeFloat = 0.25
    ccs: NonNegativeFloat = 0.25
    dd: NonNegativeFloat = 0.25
    sfs: NonNegativeFloat = 0.25

    def weights(self) -> dict[str, float]:
        """Primitive to weight."""
        return {name: getattr(self, name) for name in PRIMITIVES}


class CraftStage(TrainedStage):
    """LoRA with Eq. 1: the diffusion loss minus the clinical reward of sampled images.

    Attributes:
        gradient_steps: K, the last steps that the reward's gradient flows through.
        repeats: M, trajectories a prompt.
        repeat_mode: ``resample`` draws M independent ones, ``renoise`` shares their prefix.
        unconditional_gradient: Whether the gradient also flows through the unconditional branch
            of guidance (``full``) or not (``stop``).
        micro_batch: Images that decoder and critic see at once. Their gradient at the latents is
            found first, and then goes through the K steps as a whole: the same gradient but for
            rounding, with the graph of so many images kept. By default all, in one graph.
        kl_to_base: As of a ``lora`` stage; it is added to Eq. 1.
        reward_gradients_every: Steps between two logs of each reward's gradient; 0 for never.

    Examples:
        >>> import yaml
        >>> text = "{method: craft, steps: 200, gradient_steps: 2, rewards: {dd: 0}}"
        >>> CraftStage.model_validate(yaml.safe_load(text)).rewarded()
        {'vdc': 0.25, 'ccs': 0.25, 'sfs': 0.25}
    """

    method: Literal["craft"]
    lambda_diff: NonNegativeFloat = 0.2
    lambda_cam: NonNegativeFloat = 0.8
    rewards: RewardWeights = RewardWeights()
    gradient_steps: PositiveInt = 1
    repeats: PositiveInt = 2
    repeat_mode: Literal["resample", "renoise"] = "resample"
    unconditional_gradient: Literal["full", "stop"] = "full"
    micro_batch: PositiveInt | None = None
    kl_to_base: NonNegativeFloat = 0.0
    reward_gradients_every: NonNegativeInt = 50

    title: ClassVar[str] = "CRAFT"
    without_effect: ClassVar[tuple[str, ...]] = ("checkpoint_every", "reward_gradients_every")

    @model_validator(mode="after")
    def _has_a_loss(self) -> CraftStage:
        if self.lambda_diff == self.lambda_cam == self.kl_to_base == 0:
            raise ValueError("lambda_diff, lambda_cam and kl_to_base are all 0: nothing is learned")
        if not any(self.rewards.weights().values()):
            raise ValueError("every reward is switched off: give one a weight above 0")
        return self

    def check(self, config: Config) -> None:
        """K steps are within T."""
        if self.gradient_steps > config.sampling.steps:
            raise ValueError(
                f"gradient_steps {self.gradient_steps} exceeds sampling.steps "
                f"{config.sampling.steps}"
            )

    def require(self, config: Config, family: type[DiffusionModel]) -> None:
        """A sampler that draws noise, where the last noise is to be drawn anew."""
        if self.repeat_mode == "renoise" and not family.draws_noise(config.sampling):
            raise InputError(
                "repeat_mode: renoise draws the last noise of a trajectory anew, and Euler steps "
                "of a flow model draw none",
                fix="set sampling.flow_sampler: ancestral, or repeat_mode: resample",
            )

    def rewarded(self) -> dict[str, float]:
        """The primitives with a weight, where r_cam has one."""
        weights = self.rewards.weights() if self.lambda_cam > 0 else {}
        return {name: weight for name, weight in weights.items() if weight > 0}

    def build(self, setup: Setup) -> Method:
        """Critic, targets and sampler; what the critic sees beforehand is embedded once."""
        from cas_metric.encoders import load_encoder
        from craft_trainer.rewards.clinical_alignment import ClinicalAlignmentModule
        from craft_trainer.rewards.targets import prepare_targets

        config, model = setup.config, setup.model
        critic = load_encoder(
            config.critic.encoder,
            device=str(model.device),
            offline=config.offline,
            text_policy=config.critic.text_policy,
        )
        weights = self.rewards.weights()

        def prepare() -> tuple[Targets, Probe | None]:
            targets, probe = prepare_targets(
                setup.examples, critic, setup.cache, weights, config.critic.probe
            )
            return targets.to("cpu"), probe

        targets, probe = setup.once(prepare)
        return Craft(
            model=model,
            forward=model.forward_process(setup.latent),
            sampler=model.sampler(config.sampling, setup.latent),
            cam=ClinicalAlignmentModule(critic, probe, weights),
            targets=targets.to(critic.device),
            guidance=model.guidance(config.sampling.guidance, self.unconditional_gradient),
            stage=self,
        )

    def forwards_per_image(self, differentiated: float, branches: int, steps: int) -> float:
        """The diffusion term, and the trajectories."""
        kept = float(self.kl_to_base > 0)
        one = differentiated * (self.lambda_diff > 0 or kept > 0) + kept
        if self.lambda_cam > 0:
            one += self.reward_forwards(differentiated, branches, steps)
        return one

    def reward_forwards(self, differentiated: float, branches: int, steps: int) -> float:
        """Forwards of M trajectories: with guidance 2(T − K) + 2cK, c being ``differentiated``.

        A shared prefix counts once, and an unconditional branch that is held constant has no
        backward.
        """
        tail = differentiated * branches
        if branches == 2 and self.unconditional_gradient == "stop":
            tail = differentiated + 1
        shared = 1 if self.repeat_mode == "renoise" else self.repeats
        prefix = shared * branches * (steps - self.gradient_steps)
        return float(prefix + self.repeats * tail * self.gradient_steps)

    def kept_bytes(self, kept: Kept) -> int:
        """The diffusion term's prediction, K steps, the decoder and the critic."""
        trajectories = self.batch_size * self.repeats * (self.lambda_cam > 0)
        both = 1 if self.unconditional_gradient == "stop" else kept.branches
        tail = kept.denoiser + (self.gradient_steps - 1) * kept.later
        judged = min(self.micro_batch or trajectories, trajectories)
        again = max(both * kept.block * trajectories, kept.decoder_block * judged)
        diffusion = kept.denoiser * self.batch_size * (self.lambda_diff > 0)
        rewarded = trajectories * both * tail + judged * (kept.decoder + kept.critic)
        return diffusion + rewarded + again


@dataclass(frozen=True)
class Craft(Method):
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

    @property
    def critic(self) -> Encoder:
        """Gives the rewards."""
        return self.cam.critic

    def loss(self, batch: Batch, step: int) -> Loss:
        """Both terms; a weight of 0 leaves a term's computation out."""
        import torch

        from craft_trainer.methods.denoising import conditions_of, denoising_loss

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
        from craft_trainer.diffusion.sampling import draft

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
        targets = self.targets.at(batch.rows).repeat(repeats)
        every = self.stage.reward_gradients_every
        look = bool(every) and step % every == 0
        if self.stage.micro_batch is None:
            return self._judged(latents, targets, look)
        return self._judged_in_parts(latents, targets, look, self.stage.micro_batch)

    def _judged(
        self, latents: Tensor, targets: Targets, look: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean reward of ``(N, C, h, w)`` latents with one graph, and its logs."""
        from craft_trainer.guards.statistics import image_statistics, reward_gradients

        images = self.model.decode(latents)
        rewards = self.cam.unchecked(images, targets)
        logs = {f"reward/{name}": value.mean().detach() for name, value in rewards.terms.items()}
        logs["reward/r_cam"] = rewards.r_cam.mean().detach()
        logs |= image_statistics(images.detach(), self.stage.repeats)
        if look:
            logs |= reward_gradients(rewards.terms, images)
        return rewards.r_cam.mean(), logs

    def _judged_in_parts(
        self, latents: Tensor, targets: Targets, look: bool, size: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """As :meth:`_judged`, with the graph of decoder and critic for ``size`` images at a time.

        The reward's gradient at the latents is summed up first. What is returned has the value of
        the mean reward, and that gradient.
        """
        import torch

        from craft_trainer.guards.statistics import (
            gradient_logs,
            image_gradients,
            image_statistics,
        )

        count = len(latents)
        leaf = latents.detach().requires_grad_()
        drawn, values, gradients = [], [], []
        for start in range(0, count, size):
            rows = range(start, min(start + size, count))
            images = self.model.decode(leaf[rows.start : rows.stop])
            rewards = self.cam.unchecked(images, targets.at(rows))
            if look:
                gradients.append(image_gradients(rewards.terms, images, count))
            (rewards.r_cam.sum() / count).backward(inputs=[leaf])
            drawn.append(images.detach())
            terms = {**rewards.terms, "r_cam": rewards.r_cam}
            values.append({name: value.detach() for name, value in terms.items()})
        logs = {
            f"reward/{name}": torch.cat([one[name] for one in values]).mean() for name in values[0]
        }
        logs |= image_statistics(torch.cat(drawn), self.stage.repeats)
        if look:
            whole = {name: torch.cat([one[name] for one in gradients]) for name in gradients[0]}
            logs |= gradient_logs(whole)
        assert leaf.grad is not None
        carried = (latents * leaf.grad).sum()
        return logs["reward/r_cam"] + (carried - carried.detach()), logs

    @staticmethod
    def _latent_shape(batch: Batch) -> tuple[int, int, int]:
        _, channels, height, width = batch.moments.shape
        return channels // 2, height, width
