"""DiffusionNFT: learn from scored samples through the forward process alone.

Zheng et al. 2025, "DiffusionNFT: Online Diffusion Reinforcement with Forward Process". Images are
drawn by an older copy of the adapter with any sampler, and scored; no gradient passes through the
sampler, the decoder or whoever scores. With the predictions v of the model and v_old of the older
copy at a noisy version of such an image, v⁺ = β v + (1 − β) v_old and v⁻ = (1 + β) v_old − β v,
and the clean latents ẑ⁺ and ẑ⁻ that these amount to, the loss is

(r ‖ẑ⁺ − z‖² / w⁺ + (1 − r) ‖ẑ⁻ − z‖² / w⁻) · A / β,

with w the mean absolute error of an image, held constant, and r in [0, 1] the score relative to
those of the same prompt, or of the batch: ½ + ½ clip((score − mean) / deviation, −A, A) / A, where
A = 5. While the older copy is the model itself, as in the first step, the gradient is that of the
scores alone; the farther they part, the more both terms pull the model back to it, and the more so,
the larger A. The older copy follows the model as a moving average, closely at first. A and how it
follows are the authors' (https://github.com/NVlabs/DiffusionNFT).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from cas_metric.errors import InputError
from craft_trainer.config.stage import Kept, TrainedStage
from craft_trainer.methods.base import Loss, Method, Setup
from craft_trainer.methods.craft_settings import Prefix, Share

if TYPE_CHECKING:
    from torch import Tensor

    from cas_metric.encoders import Encoder
    from craft_trainer.bases.base import DiffusionModel
    from craft_trainer.config.schema import Config
    from craft_trainer.config.sections import Sampling
    from craft_trainer.data.dataset import Batch
    from craft_trainer.diffusion.conditions import Conditions
    from craft_trainer.diffusion.forward_process import Corrupted, ForwardProcess
    from craft_trainer.diffusion.prefix import FastPrefix
    from craft_trainer.diffusion.sampling import Guidance, Scheduler
    from craft_trainer.rewards.scores import Score


#: A: deviations from the mean at which a score counts no further.
CLIP: Final = 5.0
#: What stays of the older copy grows by this much a step.
SLOWING: Final = 1e-3


class NftStage(TrainedStage):
    """LoRA with DiffusionNFT, from a score that need not have a gradient.

    Attributes:
        score: ``dd`` (0 or 1, as it is evaluated), ``cas``, or an entry point of the group
            ``craft_trainer.scores``.
        group: Images a prompt, which are scored against each other.
        baseline: Whose mean a score is compared with. That of the ``prompt`` is the original's: a
            prompt whose images all score alike teaches nothing. That of the ``batch`` also tells
            easy prompts from hard ones, which no image can be blamed for. Either is scaled by the
            deviation of all images of a forward pass, so that half the ``batch_size`` with twice
            the ``accumulate`` is another training.
        draws: Noisy versions of each image in a step.
        beta: β, how far the two predictions lie apart.
        old_decay: Most of the older copy that stays in a step. The first step keeps nothing of it,
            each further one :data:`SLOWING` more; 0 always draws from the model itself.
        guidance: Of the images that are drawn; the original takes none. A guidance-distilled model
            is always told ``sampling.guidance``.
        prefix: How they are drawn; by default by every step of the sampler.
        kl_to_base: As of a ``lora`` stage, on the noisy versions.

    Examples:
        >>> import yaml
        >>> text = "{method: nft, steps: 200, score: cas}"
        >>> sorted(NftStage.model_validate(yaml.safe_load(text)).rewarded())
        ['ccs', 'dd', 'sfs', 'vdc']
    """

    method: Literal["nft"]
    score: str = "dd"
    group: Annotated[int, Field(ge=2)] = 4
    baseline: Literal["prompt", "batch"] = "prompt"
    draws: PositiveInt = 2
    beta: PositiveFloat = 1.0
    old_decay: Share = 0.5
    guidance: Annotated[float, Field(ge=1)] = 1.0
    prefix: Prefix | None = None
    kl_to_base: NonNegativeFloat = 0.0

    title: ClassVar[str] = "DiffusionNFT"
    first_values: ClassVar[Mapping[str, Any]] = {"steps": 200}

    def rewarded(self) -> dict[str, float]:
        """Of the scores of this package, the primitives that they are made of."""
        from craft_trainer.rewards.scores import OWN

        return dict.fromkeys(OWN.get(self.score, ()), 1.0)

    def judged_by(self, config: Config) -> str:
        """The critic, or the entry point that scores."""
        return super().judged_by(config) if self.rewarded() else f"the score {self.score}"

    def sampling(self, config: Config) -> Sampling:
        """With a guidance of its own."""
        return config.sampling.model_copy(update={"guidance": self.guidance})

    @property
    def copies(self) -> int:
        """The older copy."""
        return 1

    def require(self, config: Config, family: type[DiffusionModel]) -> None:
        """A solver is one of DDPM's betas; a buffer of prefixes is CRAFT's."""
        from craft_trainer.rewards.scores import require_score

        require_score(self.score)
        if self.guidance > 1 and not family.unconditional_branch:
            raise InputError(
                f"guidance of an nft stage is not offered for {family.pipeline_name}, which is "
                "told sampling.guidance",
                fix="leave it out of the nft stage",
            )
        if self.prefix is None:
            return
        self.prefix.require(family)
        for name, used in (
            ("replay", self.prefix.replay),
            ("own_steps", self.prefix.own_steps > 1),
        ):
            if used:
                raise InputError(
                    f"prefix.{name} is a setting of craft alone",
                    fix="leave it out of the nft stage",
                )

    def require_times(self, times: Sequence[float]) -> None:
        """A solver takes its steps between noise and the last step."""
        from craft_trainer.diffusion.prefix import solver_times

        if self.prefix is not None and self.prefix.solver is not None:
            solver_times(times, len(times) - 1, self.prefix.steps)

    def build(self, setup: Setup) -> Method:
        """The score, the sampler, and the older copy, which starts as the model does."""
        from accelerate.utils import reduce

        from craft_trainer.rewards.scores import load_score

        model, config, own = setup.model, setup.config, self.prefix or Prefix()
        return Nft(
            model=model,
            forward=model.forward_process(setup.latent),
            sampler=model.sampler(config.sampling, setup.latent),
            guidance=model.guidance(self.guidance),
            fast=model.fast_prefix(own.solver, own.steps),
            score=load_score(self.score, setup),
            old={name: value.detach().clone() for name, value in model.trainable.items()},
            stage=self,
            over_processes=partial(reduce, reduction="mean") if setup.processes > 1 else _alone,
        )

    def forwards_per_image(self, differentiated: float, branches: int, steps: int) -> float:
        """A trajectory an image of the group, and three predictions of each noisy version."""
        prefix = self.prefix or Prefix()
        drawn = prefix.forwards(steps - 1, branches, self.group, shared=False)
        drawn += self.group * branches
        learned = differentiated + 1 + float(self.kl_to_base > 0)
        return drawn + self.group * self.draws * learned

    def kept_bytes(self, kept: Kept) -> int:
        """One prediction of each noisy version."""
        return super().kept_bytes(kept) * self.group * self.draws


@dataclass(frozen=True)
class Nft(Method):
    """Make what scores well likelier, and what scores badly less likely, than the older copy does.

    Attributes:
        model: With LoRA attached.
        forward: The process that the base model reverses.
        sampler: Scheduler of a trajectory.
        guidance: Of the trajectories.
        fast: Solver of the trajectories, where the stage has one.
        score: Of images.
        old: Weights of the older copy.
        stage: The settings.
        over_processes: The mean of a value over the processes.
    """

    model: DiffusionModel
    forward: ForwardProcess
    sampler: Scheduler
    guidance: Guidance
    fast: FastPrefix | None
    score: Score
    old: dict[str, Tensor]
    stage: NftStage
    over_processes: Callable[[Tensor], Tensor]

    reward: ClassVar[str] = "reward/score"

    @property
    def critics(self) -> tuple[Encoder, ...]:
        """Gives the score, where an encoder does."""
        return () if self.score.critic is None else (self.score.critic,)

    def loss(self, batch: Batch, step: int) -> Loss:
        """Draw a group of images a prompt, score them, learn from their noisy versions."""
        import torch
        from torch.nn import functional as F

        from craft_trainer.bases.lora import base_only, with_weights
        from craft_trainer.methods.denoising import conditions_of

        conditions = conditions_of(batch, self.model).repeat(self.stage.group)
        with with_weights(self.model, self.old):
            latents = self._drawn(batch, conditions)
            images = self.model.decode(latents)
            scores = self.score.of(images, batch.rows * self.stage.group).to(latents.device)
            each = self.stage.group if self.stage.baseline == "prompt" else None
            wanted = relative(scores.float(), each, self.over_processes)
        clean = latents.repeat(self.stage.draws, 1, 1, 1)
        every = conditions.repeat(self.stage.draws)
        noisy = self._noisy(batch, clean)
        with with_weights(self.model, self.old):
            before = self.model.denoise(noisy.noisy, noisy.timesteps, every)
        base = None
        if self.stage.kl_to_base > 0:
            with base_only(self.model):
                base = self.model.denoise(noisy.noisy, noisy.timesteps, every)
        after = self.model.denoise(noisy.noisy, noisy.timesteps, every)
        sides = []
        for sign in (1.0, -1.0):
            moved = before + sign * self.stage.beta * (after - before)
            sides.append(self.forward.clean(noisy.noisy, noisy.timesteps, moved) - clean)
        good, bad = (_weighted(side) for side in sides)
        share = wanted.repeat(self.stage.draws)
        total = (share * good + (1 - share) * bad).mean() * CLIP / self.stage.beta
        logs = {
            "loss/nft": total.detach(),
            self.reward: scores.float().mean(),
            "nft/undecided": (wanted == 0.5).float().mean(),
        }
        if base is not None:
            distance = F.mse_loss(after, base)
            total = total + self.stage.kl_to_base * distance
            logs["loss/kl_to_base"] = distance.detach()
        return Loss(total, {name: torch.as_tensor(value) for name, value in logs.items()})

    def after_step(self, step: int) -> None:
        """The older copy follows the model."""
        kept = min(SLOWING * step, self.stage.old_decay)
        for name, parameter in self.model.trainable.items():
            self.old[name].lerp_(parameter.detach(), 1 - kept)

    def state(self) -> dict[str, Tensor]:
        """The older copy."""
        return self.old

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue with the older copy of a checkpoint."""
        for name, value in state.items():
            self.old[name].copy_(value)

    def _drawn(self, batch: Batch, conditions: Conditions) -> Tensor:
        """``(B * group, C, h, w)`` clean latents of the older copy, without a graph."""
        from craft_trainer.diffusion.sampling import initial_noise, sample_prefix

        generators = batch.generators("trajectory", self.stage.group)
        noise = initial_noise(batch.latent_shape, generators, like=conditions.embeddings)
        own, steps, start = self.stage.prefix or Prefix(), len(self.sampler.timesteps), noise
        if self.fast is not None:
            start = self.fast(
                self.model.denoise,
                noise,
                conditions,
                self.sampler,
                generators,
                guidance=self.guidance,
                after=steps - 1,
                unguided=own.unguided,
            )
        return sample_prefix(
            self.model.denoise,
            start,
            conditions,
            self.sampler,
            generators,
            guidance=self.guidance,
            steps=steps,
            unguided=own.unguided if self.fast is None else 0.0,
            first=0 if self.fast is None else steps - 1,
        )

    def _noisy(self, batch: Batch, clean: Tensor) -> Corrupted:
        """Each image at ``draws`` times, which are spread over the whole process."""
        import torch

        from craft_trainer.methods.denoising import noise_like

        count = self.stage.group * self.stage.draws
        generators = batch.generators("nft", count)
        noise = noise_like(clean, generators)
        drawn = torch.cat([torch.rand(1, generator=one, device=one.device) for one in generators])
        part = torch.arange(self.stage.draws).repeat_interleave(len(clean) // self.stage.draws)
        level = (part + drawn.cpu()) / self.stage.draws
        return self.forward.mix(clean, noise, level.to(clean.device, clean.dtype))


def _alone(value: Tensor) -> Tensor:
    """The mean over one process."""
    return value


def relative(
    scores: Tensor, group: int | None, over_processes: Callable[[Tensor], Tensor] = _alone
) -> Tensor:
    """``(B * group,)`` scores, group by group, to r in [0, 1]: ½ where a prompt's are all equal.

    They are held against the mean of their prompt, or without ``group`` of all. That mean and the
    deviation are those of a forward pass on all processes, each of as many images.

    Examples:
        >>> import torch
        >>> relative(torch.tensor([1.0, 0.0, 0.0, 0.0]), group=2)  # two prompts, two images each
        tensor([0.6414, 0.5000, 0.3586, 0.5000])
    """
    own = scores.reshape(group or len(scores), -1)
    mean = own.mean(dim=0)
    centred = own - (over_processes(mean) if group is None else mean)
    spread = over_processes(centred.square().mean()).sqrt().clamp(min=1e-6)
    return (0.5 + 0.5 * (centred / spread).clamp(-CLIP, CLIP) / CLIP).flatten()


def _weighted(error: Tensor) -> Tensor:
    """``(N,)`` mean squares over the mean absolute value of each, which is held constant."""
    flat = error.flatten(1)
    return flat.square().mean(dim=1) / flat.abs().mean(dim=1).detach().clamp(min=1e-5)
