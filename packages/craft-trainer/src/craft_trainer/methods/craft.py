"""CRAFT: Eq. 1, the diffusion loss minus the clinical reward of sampled images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from cas_metric.errors import InputError
from craft_trainer.config.stage import DenoisingStage, Kept
from craft_trainer.methods.base import Loss, Method, Setup
from craft_trainer.methods.craft_settings import (
    Prefix,
    RewardWeights,
    Safeguards,
    Trajectory,
)

if TYPE_CHECKING:
    from torch import Tensor

    from cas_metric.encoders import Encoder
    from craft_trainer.bases.base import DiffusionModel
    from craft_trainer.config.schema import Config
    from craft_trainer.config.sections import Sampling
    from craft_trainer.data.dataset import Batch, Examples
    from craft_trainer.diffusion.conditions import Conditions
    from craft_trainer.methods.denoising import Denoising
    from craft_trainer.methods.judging import Judge
    from craft_trainer.methods.trajectories import Trajectories
    from craft_trainer.rewards.clinical_alignment import ClinicalAlignmentModule, Targets


#: In the curves: the norm of the gradient of λ_cam r_cam over that of λ_diff times the diffusion
#: loss, without the KL terms.
RATIO: Final = "gradient/reward_over_diffusion"


class CraftStage(DenoisingStage):
    """LoRA with Eq. 1: the diffusion loss minus the clinical reward of sampled images.

    Attributes:
        lambda_diff: Weight of the diffusion loss in Eq. 1.
        lambda_cam: Weight of the reward in Eq. 1.
        rewards: Weights within the reward.
        gradient_steps: K, the last steps that the reward's gradient flows through.
        repeats: M, trajectories a prompt.
        repeat_mode: ``resample`` draws M independent ones, ``renoise`` shares their prefix.
        unconditional_gradient: Whether the gradient also flows through the unconditional branch
            of guidance (``full``) or not (``stop``).
        micro_batch: Images that decoder and critic see at once. Their gradient at the latents is
            found first, and then goes through the K steps as a whole: the same gradient but for
            rounding, with the graph of so many images kept. By default all, in one graph.
        kl_to_base: As of a ``lora`` stage; it is added to Eq. 1.
        trajectory: Steps and guidance in training; by default those of ``sampling``.
        prefix: A cheaper way through the steps without a gradient; by default the paper's.
        safeguards: Switches against reward hacking; by default none.
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
    trajectory: Trajectory | None = None
    prefix: Prefix | None = None
    safeguards: Safeguards | None = None

    title: ClassVar[str] = "CRAFT"
    without_effect: ClassVar[tuple[str, ...]] = (
        *DenoisingStage.without_effect,
        "reward_gradients_every",
    )

    @model_validator(mode="after")
    def _has_a_loss(self) -> CraftStage:
        if self.lambda_diff == self.lambda_cam == self.kl_to_base == 0:
            raise ValueError("lambda_diff, lambda_cam and kl_to_base are all 0: nothing is learned")
        if not any(self.rewards.weights().values()):
            raise ValueError("every reward is switched off: give one a weight above 0")
        own = (self.drawn, self.cheaper, self.guarded)
        if self.lambda_cam == 0 and own != (Trajectory(), Prefix(), Safeguards()):
            raise ValueError(
                "lambda_cam is 0: leave trajectory, prefix and safeguards, which are its own, out"
            )
        return self

    @property
    def drawn(self) -> Trajectory:
        """Of the trajectories; as all images where nothing is set."""
        return self.trajectory or Trajectory()

    @property
    def cheaper(self) -> Prefix:
        """Of the prefix; the paper's where nothing is set."""
        return self.prefix or Prefix()

    @property
    def guarded(self) -> Safeguards:
        """The switches; all off where nothing is set."""
        return self.safeguards or Safeguards()

    @property
    def period(self) -> int:
        """A prefix is drawn in one step, and used again in others."""
        return 1 + self.cheaper.replay * (self.lambda_cam > 0)

    def sampling(self, config: Config) -> Sampling:
        """With the steps and the guidance of its trajectories."""
        return self.drawn.of(config.sampling)

    def check(self, config: Config) -> None:
        """K steps are within T, and settings do not contradict each other."""
        steps, guarded, own = self.sampling(config).steps, self.guarded, self.cheaper
        if steps > config.sampling.steps:
            raise ValueError(
                f"trajectory.steps {steps} exceeds sampling.steps {config.sampling.steps}, by "
                "which images are drawn"
            )
        if self.gradient_steps + guarded.base_steps > steps:
            name = "sampling" if steps == config.sampling.steps else "trajectory"
            raise ValueError(
                f"gradient_steps {self.gradient_steps} exceeds {name}.steps {steps}"
                + (f" less {guarded.base_steps} base_steps" if guarded.base_steps else "")
            )
        if guarded.whole_trajectory and (
            self.prefix is not None or guarded.trajectory_kl > 0 or self.repeat_mode == "renoise"
        ):
            raise ValueError(
                "differentiate and base_steps take whole trajectories: leave prefix, "
                "trajectory_kl and repeat_mode: renoise out"
            )
        if own.solver is not None and self.repeat_mode == "renoise":
            raise ValueError(
                "prefix.solver takes steps of its own, and repeat_mode: renoise draws the noise of "
                "the sampler's anew"
            )
        if own.own_steps > 1 and self.repeat_mode != "renoise":
            raise ValueError("prefix.own_steps are those of repeat_mode: renoise: leave them out")
        if config.critic.encoder in guarded.critics:
            raise ValueError("safeguards.critics names the critic itself")
        if len(set(guarded.critics)) < len(guarded.critics):
            raise ValueError("safeguards.critics names an encoder twice, which would count twice")
        if config.validation.encoder in guarded.critics:
            raise ValueError("safeguards.critics names the held-out validation.encoder")

    def require(self, config: Config, family: type[DiffusionModel]) -> None:
        """A sampler that draws noise, where the last noise is to be drawn anew."""
        if self.repeat_mode == "renoise" and not family.draws_noise(config.sampling):
            steps, way = "Euler steps of a flow model", "flow_sampler: ancestral"
            if family.noise_schedule:
                steps = f"steps of sampler: {config.sampling.sampler}"
                way = "sampler: ddpm or dpmpp_2m_sde"
            raise InputError(
                "repeat_mode: renoise draws the last noise of a trajectory anew, and "
                f"{steps} draw none",
                fix=f"set sampling.{way}, or repeat_mode: resample",
            )
        self.cheaper.require(family)
        self.drawn.require(family)

    def require_times(self, times: Sequence[float]) -> None:
        """A solver takes its steps between noise and the first of the K steps."""
        from craft_trainer.diffusion.prefix import solver_times

        if self.cheaper.solver is not None and self.lambda_cam > 0:
            solver_times(times, len(times) - self.gradient_steps, self.cheaper.steps)

    def require_examples(self, config: Config, examples: Examples) -> None:
        """A contrast needs the checklists of all classes of the probe."""
        from cas_metric.scoring.probe import Probe
        from craft_trainer.rewards.targets import rival_texts

        rewarded, saved = self.rewarded(), config.critic.probe
        if self.guarded.ccs_contrast and "ccs" in rewarded:
            own = saved is not None and "dd" in rewarded
            if own:
                rival_texts(examples, Probe.read(str(saved)).classes)
            if not own or self.guarded.critics:  # whose probes are fitted
                rival_texts(examples, examples.classes)

    def rewarded(self) -> dict[str, float]:
        """The primitives with a weight, where r_cam has one."""
        weights = self.rewards.weights() if self.lambda_cam > 0 else {}
        return {name: weight for name, weight in weights.items() if weight > 0}

    def encoders(self, config: Config) -> tuple[str, ...]:
        """The critics, the one of the configuration first."""
        return (config.critic.encoder, *self.guarded.critics) if self.rewarded() else ()

    def build(self, setup: Setup) -> Method:
        """Critics, targets and sampler; what the critics see beforehand is embedded once."""
        from craft_trainer.methods.denoising import Denoising
        from craft_trainer.methods.judging import Judge, prepared_critic
        from craft_trainer.methods.trajectories import Replay, Trajectories

        config, model, own = setup.config, setup.model, self.cheaper
        sampling = self.sampling(config)
        prepared = [prepared_critic(setup, self, spec) for spec in self.encoders(config)]
        replay = None
        if own.replay and self.lambda_cam > 0:
            setup.require_one_process("prefix.replay")
            replay = Replay(own.replay, own.kept, config.seed)
        return Craft(
            model=model,
            real=Denoising.of(self, model, setup.latent, self.kl_to_base),
            trajectories=Trajectories(
                model=model,
                sampler=model.sampler(sampling, setup.latent),
                guidance=model.guidance(sampling.guidance, self.unconditional_gradient),
                stage=self,
                fast=model.fast_prefix(own.solver, own.steps),
                replay=replay,
            ),
            judge=Judge(
                model=model,
                cams=tuple(cam for cam, _ in prepared),
                repeats=self.repeats,
                micro_batch=self.micro_batch,
                augment=self.guarded.augment,
                grey=self.guarded.grey,
                balance=self.guarded.balance,
            ),
            targets=tuple(targets for _, targets in prepared),
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
        before = steps - self.gradient_steps
        shared = self.repeat_mode == "renoise" and before > 0
        prefix = self.cheaper.forwards(before, branches, self.repeats, shared=shared)
        kept = self.repeats * (differentiated + 1) * (self.guarded.trajectory_kl > 0)
        return prefix + kept + float(self.repeats * tail * self.gradient_steps)

    def kept_bytes(self, kept: Kept) -> int:
        """The diffusion term's prediction, K steps, the decoder and the critic."""
        trajectories = self.batch_size * self.repeats * (self.lambda_cam > 0)
        both = 1 if self.unconditional_gradient == "stop" else kept.branches
        later = kept.denoiser if self.guarded.whole_trajectory else kept.later
        tail = kept.denoiser + (self.gradient_steps - 1) * later
        judged = min(self.micro_batch or trajectories, trajectories)
        again = max(both * kept.block * trajectories, kept.decoder_block * judged)
        diffusion = self.batch_size * (self.lambda_diff > 0 or self.kl_to_base > 0)
        alone = kept.denoiser * (diffusion + trajectories * (self.guarded.trajectory_kl > 0))
        rewarded = trajectories * both * tail + judged * (kept.decoder + kept.critic)
        return alone + rewarded + again


@dataclass(frozen=True)
class Craft(Method):
    """λ_diff ‖ε − ε_θ‖² − λ_cam r_cam, with r_cam the mean over M trajectories (Eqs. 1 and 6).

    Attributes:
        model: With LoRA attached.
        real: The diffusion term, of real images.
        trajectories: Draws M of them a prompt.
        judge: Rewards of their images.
        targets: For each critic, what each training image's samples are judged against. On the
            CPU: a step takes its rows from there.
        stage: λ, K, M and how the repeats are drawn.
    """

    model: DiffusionModel
    real: Denoising
    trajectories: Trajectories
    judge: Judge
    targets: tuple[Targets, ...]
    stage: CraftStage

    reward: ClassVar[str] = "reward/r_cam"

    @property
    def cam(self) -> ClinicalAlignmentModule:
        """Of the configuration's critic."""
        return self.judge.cams[0]

    @property
    def critics(self) -> tuple[Encoder, ...]:
        """Give the rewards."""
        return tuple(cam.critic for cam in self.judge.cams)

    def loss(self, batch: Batch, step: int) -> Loss:
        """Both terms; a weight of 0 leaves a term's computation out."""
        import torch

        from craft_trainer.methods.denoising import conditions_of

        conditions = conditions_of(batch, self.model)
        diffusion = kept = torch.zeros((), device=self.model.device)
        logs: dict[str, Tensor] = {}
        if self.stage.lambda_diff > 0 or self.stage.kl_to_base > 0:
            error, distance = self.real.of_batch(batch, conditions)
            diffusion = self.stage.lambda_diff * error
            logs["loss/diffusion"] = error.detach()
            if distance is not None:
                kept = self.stage.kl_to_base * distance
                logs["loss/kl_to_base"] = distance.detach()
        total = diffusion + kept
        if self.stage.lambda_cam > 0:
            reward, terms, own = self._rewarded(batch, conditions, step)
            rewarded = -self.stage.lambda_cam * reward
            every = self.stage.reward_gradients_every
            if self.stage.lambda_diff > 0 and every and step % every == 0:
                logs |= self._balance(diffusion, rewarded)
            total = total + rewarded
            for name, term in terms.items():
                total = total + self.stage.guarded.trajectory_kl * term
                logs[f"loss/{name}"] = term.detach()
            logs |= own
        return Loss(total, {"loss/total": total.detach(), **logs})

    def _balance(self, diffusion: Tensor, reward: Tensor) -> dict[str, Tensor]:
        """How the weighted terms of Eq. 1 pull at the trained parameters; both graphs are kept."""
        import torch

        trained = list(self.model.trainable.values())
        pulls = []
        for term in (diffusion, reward):
            found = torch.autograd.grad(term, trained, retain_graph=True, allow_unused=True)
            own = [
                torch.zeros_like(p) if g is None else g for p, g in zip(trained, found, strict=True)
            ]
            pulls.append(torch.cat([one.flatten() for one in own]))
        cosine = torch.cosine_similarity(pulls[0], pulls[1], dim=0)
        return {
            RATIO: pulls[1].norm() / pulls[0].norm().clamp(min=1e-12),
            "gradient/cosine_reward_diffusion": cosine,
        }

    def _rewarded(
        self, batch: Batch, conditions: Conditions, step: int
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """r_cam over the batch and its repeats, the KL term on the trajectory, and logs."""
        repeats, every = self.stage.repeats, self.stage.reward_gradients_every
        latents, rows, terms = self.trajectories.draw(batch, conditions)
        reward, logs = self.judge(
            latents,
            [one.at(rows).to(self.model.device).repeat(repeats) for one in self.targets],
            batch.generators("augment", repeats) if self.judge.augment else (),
            look=bool(every) and step % every == 0,
        )
        return reward, terms, logs

    def state(self) -> dict[str, Tensor]:
        """The buffer of prefixes."""
        replay = self.trajectories.replay
        return {} if replay is None else replay.state()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue with the buffer of prefixes."""
        if self.trajectories.replay is not None:
            self.trajectories.replay.restore(state, self.model.device)
