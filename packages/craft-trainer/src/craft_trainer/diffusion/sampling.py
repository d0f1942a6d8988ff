"""Differentiable sampling: a prefix without a graph, then the last K steps with one.

DRaFT-K (§3.3 of the paper; Clark et al. 2023, "Directly Fine-Tuning Diffusion Models on
Differentiable Rewards") truncates the reward's gradient at the last ``K`` of ``T`` steps. Building
the graph of the first ``T - K`` steps only to detach it costs memory and gives the same gradient,
so they run under ``no_grad``.

Shapes: ``B`` trajectories; latents ``(B, C, h, w)``; conditions of length ``B``. Every trajectory
has a random generator of its own, so that what is drawn for one does not depend on the others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Protocol

import torch
from diffusers import DDIMScheduler, DDPMScheduler
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from cas_metric.errors import InputError
from craft_trainer.diffusion.conditions import Conditions
from craft_trainer.diffusion.multistep import ALGORITHMS, MultistepSampler, Steps

#: ``(latents, timestep, conditions)`` to the model's prediction, shaped as the latents.
Denoiser = Callable[[Tensor, Tensor, Conditions], Tensor]
Generators = Sequence[torch.Generator]

#: diffusers declares no types of what it inherits.
_SCHEDULERS: Final[dict[str, Any]] = {"ddpm": DDPMScheduler, "ddim": DDIMScheduler}

UnconditionalGradient = Literal["full", "stop"]
Repeats = Literal["resample", "renoise"]


class Scheduler(Protocol):
    """What sampling needs of a diffusers scheduler."""

    timesteps: Tensor

    def step(
        self,
        model_output: Tensor,
        timestep: Tensor,
        sample: Tensor,
        generator: list[torch.Generator],
    ) -> Any:
        """One step back in diffusion time."""


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance: prediction = u + scale (c - u).

    Attributes:
        scale: 1 leaves the unconditional branch out altogether.
        unconditional: Of length 1, the encoding of the empty prompt.
        gradient: ``full`` differentiates both branches; ``stop`` treats the unconditional one as
            a constant, which is cheaper and gives another gradient.

    Examples:
        >>> Guidance(1.0, None).gradient
        'full'
    """

    scale: float
    unconditional: Conditions
    gradient: UnconditionalGradient = "full"


def guided_at(guidance: Guidance, index: int, steps: int, unguided: float) -> Guidance:
    """Guidance of a step: none in the first ``unguided`` share of the ``steps``."""
    return replace(guidance, scale=1.0) if index < round(unguided * steps) else guidance


def sampling_scheduler(
    config: dict[str, Any], steps: int, spacing: str, device: torch.device, kind: str = "ddpm"
) -> Scheduler:
    """Scheduler of a trajectory, from the base model's own scheduler configuration.

    A configuration that does not mention ``clip_sample`` means no clipping: it belongs to a latent
    model, while the default of the class is for pixels. The alphas live on ``device``, or every
    step would wait for a copy.

    Args:
        config: ``scheduler.config`` of the base model: betas, prediction type, offset.
        steps: T.
        spacing: ``leading``, ``trailing`` or ``linspace``: which timesteps the T steps visit, and
            with it how noisy the last one is.
        device: Where the latents live.
        kind: ``ddpm`` or ``dpmpp_2m_sde``, whose steps draw noise, or ``ddim`` or ``dpmpp_2m``,
            whose do not.

    Raises:
        InputError: The base model does not know as many timesteps.
    """
    known = int(config.get("num_train_timesteps", 1000))
    found = _scheduler(config, steps, spacing, device, kind) if steps <= known else None
    # An offset can lead past the last one, and coarse spacing visit one twice.
    times = [] if found is None else found.timesteps.tolist()
    if found is None or max(times) >= known or len(set(times)) < steps:
        raise InputError(
            f"sampling.steps {steps} is more than the {known} timesteps of the base model allow",
            fix="take fewer steps",
        )
    return found


def _scheduler(
    config: dict[str, Any], steps: int, spacing: str, device: torch.device, kind: str
) -> Scheduler:
    """On the CPU the timesteps index without a transfer; the model gets each as a tensor."""
    if kind in ALGORITHMS:
        return MultistepSampler(config, steps, spacing, kind)
    clip = bool(config.get("clip_sample", False))
    scheduler = _SCHEDULERS[kind].from_config(config, clip_sample=clip, timestep_spacing=spacing)
    for name in ("alphas_cumprod", "one", "final_alpha_cumprod"):
        if hasattr(scheduler, name):
            setattr(scheduler, name, getattr(scheduler, name).to(device))
    scheduler.set_timesteps(steps, device=torch.device("cpu"))
    made: Scheduler = scheduler
    return made


def initial_noise(shape: Sequence[int], generators: Generators, like: Tensor) -> Tensor:
    """Standard normal latents ``(B, C, h, w)``, one generator a trajectory."""
    noise: Tensor = randn_tensor(
        (len(generators), *shape),
        generator=list(generators),
        device=like.device,
        dtype=like.dtype,
    )
    return noise


def predict(
    denoiser: Denoiser,
    latents: Tensor,
    timestep: Tensor,
    conditions: Conditions,
    guidance: Guidance,
) -> Tensor:
    """The guided prediction of the model for ``(B, C, h, w)`` latents at one timestep."""
    if guidance.scale == 1.0:
        return denoiser(latents, timestep, conditions)
    nothing = guidance.unconditional.repeat(len(latents))
    if guidance.gradient == "stop":
        with torch.no_grad():
            unconditional = denoiser(latents, timestep, nothing)
        conditional = denoiser(latents, timestep, conditions)
    else:
        twice = Conditions.cat([nothing, conditions])
        both = denoiser(torch.cat([latents, latents]), timestep, twice)
        unconditional, conditional = both.chunk(2)
    return unconditional + guidance.scale * (conditional - unconditional)


@torch.no_grad()
def sample_prefix(
    denoiser: Denoiser,
    latents: Tensor,
    conditions: Conditions,
    scheduler: Scheduler,
    generators: Generators,
    *,
    guidance: Guidance,
    steps: int,
    branches: int = 1,
    own_steps: int = 1,
    unguided: float = 0.0,
    first: int = 0,
) -> Tensor:
    """The first ``steps`` steps, without a graph.

    Args:
        denoiser: The model.
        latents: ``(B, C, h, w)`` noise.
        conditions: Of length ``B``.
        scheduler: With its timesteps set.
        generators: ``B * branches`` of them, branch by branch: those of branch 0 first.
        guidance: Classifier-free guidance.
        steps: T - K; 0 hands the latents back, repeated.
        branches: M continuations of one prefix. They part at one of its steps, whose noise is
            drawn anew for each: every branch has the distribution that a trajectory of its own
            would have, at the cost of one prefix up to there.
        own_steps: Steps from there on, the one whose noise is drawn anew included.
        unguided: Share of the steps, the noisiest ones, without guidance.
        first: Steps that were taken otherwise.

    Returns:
        ``(B * branches, C, h, w)`` without a graph.
    """
    if steps == 0:
        return latents.repeat(branches, 1, 1, 1)
    parting = max(steps - own_steps, 0)
    drawing, own = generators[: len(latents)], conditions
    on_device, stepped = scheduler.timesteps.to(latents.device), Steps(scheduler)
    for index, timestep in enumerate(scheduler.timesteps[first:steps], start=first):
        strength = guided_at(guidance, index, steps, unguided)
        prediction = predict(denoiser, latents, on_device[index], own, strength)
        if index == parting:
            prediction, latents = (x.repeat(branches, 1, 1, 1) for x in (prediction, latents))
            drawing, own = generators, conditions.repeat(branches)
        latents = stepped(prediction, timestep, latents, drawing)
    return latents


def sample_tail(
    denoiser: Denoiser,
    latents: Tensor,
    conditions: Conditions,
    scheduler: Scheduler,
    generators: Generators,
    *,
    guidance: Guidance,
    steps: int,
) -> Tensor:
    """The last ``steps`` steps, with a graph through all of them: K of DRaFT-K.

    Args:
        denoiser: The model.
        latents: ``(B, C, h, w)`` at the timestep before the last ``steps``.
        conditions: Of length ``B``.
        scheduler: With its timesteps set.
        generators: One a trajectory.
        guidance: Classifier-free guidance.
        steps: K, at least 1.

    Returns:
        ``(B, C, h, w)`` clean latents. Of a multistep sampler the first of these steps is of first
        order, since the prefix hands its latents on alone; the last one always is.
    """
    on_device, stepped = scheduler.timesteps.to(latents.device), Steps(scheduler)
    for timestep, told in zip(scheduler.timesteps[-steps:], on_device[-steps:], strict=True):
        prediction = predict(denoiser, latents, told, conditions, guidance)
        latents = stepped(prediction, timestep, latents, generators)
    return latents


def draft(
    denoiser: Denoiser,
    conditions: Conditions,
    scheduler: Scheduler,
    generators: Generators,
    *,
    shape: Sequence[int],
    guidance: Guidance,
    gradient_steps: int,
    repeats: int = 1,
    mode: Repeats = "resample",
) -> Tensor:
    """Clean latents of ``repeats`` trajectories a condition, differentiable in the last K steps.

    ``resample`` draws M independent trajectories (Eq. 6). ``renoise`` shares one prefix and draws
    M continuations from the last noise that it adds: M times the tail but one prefix, after the
    idea of DRaFT-LV (Clark et al. 2023). They re-noise the clean sample; here the sampler's own
    last noise is drawn again, so that each continuation has exactly the distribution of a
    trajectory and the gradient stays unbiased for any model. With K = T there is no prefix to
    share, and both are the same.

    Args:
        denoiser: The model.
        conditions: Of length ``B``.
        scheduler: With its timesteps set.
        generators: ``B * repeats``, repeat by repeat.
        shape: ``(C, h, w)`` of one latent.
        guidance: Classifier-free guidance.
        gradient_steps: K.
        repeats: M.
        mode: How the repeats are drawn.

    Returns:
        ``(B * repeats, C, h, w)``, repeat by repeat.

    Examples:
        >>> import torch
        >>> from craft_trainer.artifact.folder import load_base
        >>> from craft_trainer.config.schema import resolve
        >>> model = load_base(config := resolve(settings), torch.device("cpu"))
        >>> latents = draft(
        ...     model.denoise,
        ...     model.encode_prompts(["a chest film"]),
        ...     model.sampler(config.sampling, model.latent_shape(64)),
        ...     [torch.Generator().manual_seed(seed) for seed in range(2)],
        ...     shape=model.latent_shape(64),
        ...     guidance=model.guidance(config.sampling.guidance),
        ...     gradient_steps=1,
        ...     repeats=2,
        ... )
        >>> model.decode(latents).shape  # two trajectories of one prompt
        torch.Size([2, 3, 64, 64])
    """
    every = conditions.repeat(repeats)
    latents = draft_prefix(
        denoiser,
        conditions,
        scheduler,
        generators,
        shape=shape,
        guidance=guidance,
        gradient_steps=gradient_steps,
        repeats=repeats,
        mode=mode,
    )
    return sample_tail(
        denoiser, latents, every, scheduler, generators, guidance=guidance, steps=gradient_steps
    )


def draft_prefix(
    denoiser: Denoiser,
    conditions: Conditions,
    scheduler: Scheduler,
    generators: Generators,
    *,
    shape: Sequence[int],
    guidance: Guidance,
    gradient_steps: int,
    repeats: int = 1,
    mode: Repeats = "resample",
    own_steps: int = 1,
    unguided: float = 0.0,
) -> Tensor:
    """``(B * repeats, C, h, w)`` latents before the last K steps; arguments as of :func:`draft`.

    ``own_steps`` and ``unguided`` are those of :func:`sample_prefix`.
    """
    prefix = len(scheduler.timesteps) - gradient_steps
    branches = repeats if mode == "renoise" and prefix > 0 else 1
    started = generators[: len(generators) // branches]
    noise = initial_noise(shape, started, like=conditions.embeddings)
    return sample_prefix(
        denoiser,
        noise,
        conditions.repeat(repeats // branches),
        scheduler,
        generators,
        guidance=guidance,
        steps=prefix,
        branches=branches,
        own_steps=own_steps,
        unguided=unguided,
    )


def sample_chosen(
    denoiser: Denoiser,
    latents: Tensor,
    conditions: Conditions,
    scheduler: Scheduler,
    generators: Generators,
    *,
    guidance: Guidance,
    chosen: Collection[int],
    last: Denoiser | None = None,
    last_steps: int = 0,
) -> Tensor:
    """A whole trajectory whose gradient flows through the predictions of some of its steps.

    What the denoiser is given is held constant, so that no gradient passes through a second
    prediction: the truncation of DRTune (Wu et al. 2024, "Deep Reward Supervisions for Tuning
    Text-to-Image Diffusion Models"). With the last step alone it is DRaFT-1.

    Args:
        denoiser: The model.
        latents: ``(B, C, h, w)`` noise.
        conditions: Of length ``B``.
        scheduler: With its timesteps set.
        generators: One a trajectory.
        guidance: Classifier-free guidance.
        chosen: Positions of the differentiated steps.
        last: Takes the last ``last_steps`` steps in the model's place.
        last_steps: How many these are; none of them can be chosen.

    Returns:
        ``(B, C, h, w)`` clean latents.
    """
    on_device, stepped = scheduler.timesteps.to(latents.device), Steps(scheduler)
    parting = len(on_device) - last_steps
    for index, timestep in enumerate(scheduler.timesteps):
        model = last if last is not None and index >= parting else denoiser
        with torch.set_grad_enabled(index in chosen):
            seen = latents.detach()
            prediction = predict(model, seen, on_device[index], conditions, guidance)
        latents = stepped(prediction, timestep, latents, generators)
    return latents
