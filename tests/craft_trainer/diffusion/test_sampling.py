"""Sampling against formulas written out here, and against the graph over all steps."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, PNDMScheduler
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from cas_metric.errors import InputError
from craft_trainer.diffusion.conditions import Conditions
from craft_trainer.diffusion.sampling import (
    Guidance,
    Scheduler,
    draft,
    initial_noise,
    predict,
    sample_prefix,
    sample_tail,
    sampling_scheduler,
)

SHAPE = (2, 3, 3)
CPU = torch.device("cpu")


class Toy(nn.Module):
    """A denoiser small enough for float64 and thousands of trajectories."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.mix = nn.Conv2d(2, 2, 3, padding=1).double()
        self.read = nn.Linear(4, 2).double()
        self.calls: list[tuple[int, bool]] = []

    def forward(self, latents: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
        self.calls.append((len(latents), torch.is_grad_enabled()))
        bias = self.read(conditions.embeddings.mean(dim=1))[:, :, None, None]
        return torch.tanh(self.mix(latents) + bias + timestep / 1000)


def configuration(prediction_type: str = "epsilon") -> dict:
    return {
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "prediction_type": prediction_type,
        "steps_offset": 1,
    }


def exact_scheduler(kind: str, steps: int, spacing: str = "leading") -> Scheduler:
    """The scheduler with its float32 alphas as float64, so that rounding hides nothing."""
    scheduler = sampling_scheduler(configuration(kind), steps, spacing, CPU)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()  # type: ignore[attr-defined]
    return scheduler


def generators(count: int, offset: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(offset + index) for index in range(count)]


def conditions(batch: int) -> Conditions:
    drawn = torch.randn(batch, 5, 4, generator=torch.Generator().manual_seed(9))
    return Conditions(drawn.double())


def guidance(gradient: str = "full", scale: float = 3.0) -> Guidance:
    return Guidance(scale, Conditions(torch.zeros(1, 5, 4).double()), gradient)  # type: ignore[arg-type]


def oracle(
    toy: Toy, texts: Conditions, steps: int, kind: str, detach_before: int, *, stop: bool = False
) -> Tensor:
    """DDPM with guidance, written out; the graph is cut before step ``detach_before``."""
    scheduler = sampling_scheduler(configuration(kind), steps, "leading", CPU)
    times = [int(t) for t in scheduler.timesteps]
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alpha_bar = torch.cumprod(1 - betas, 0).double()
    noise = generators(len(texts))
    x = torch.cat([torch.randn(1, *SHAPE, generator=g, dtype=torch.float64) for g in noise])
    for index, t in enumerate(times):
        if index == detach_before:
            x = x.detach()
        u = toy(x, torch.tensor(t), Conditions(torch.zeros_like(texts.embeddings)))
        u = u.detach() if stop else u
        out = u + 3.0 * (toy(x, torch.tensor(t), texts) - u)
        now = alpha_bar[t]
        before = (
            alpha_bar[times[index + 1]] if index + 1 < len(times) else torch.tensor(1.0).double()
        )
        alpha = now / before
        if kind == "epsilon":
            clean = (x - (1 - now).sqrt() * out) / now.sqrt()
        else:
            clean = now.sqrt() * x - (1 - now).sqrt() * out
        x = (before.sqrt() * (1 - alpha) * clean + alpha.sqrt() * (1 - before) * x) / (1 - now)
        variance = ((1 - before) / (1 - now) * (1 - alpha)).clamp(min=1e-20)
        drawn = torch.cat([torch.randn(1, *SHAPE, generator=g, dtype=torch.float64) for g in noise])
        x = x + variance.sqrt() * drawn
    return x


def gradients(toy: Toy, latents: Tensor) -> Tensor:
    parts = torch.autograd.grad(latents.sin().sum(), list(toy.parameters()))
    return torch.cat([part.flatten() for part in parts])


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("last", [1, 2, 5])
def test_gradient_equals_the_written_out_truncation(kind: str, last: int) -> None:
    toy, texts = Toy(), conditions(3)
    scheduler = exact_scheduler(kind, 5)
    ours = draft(
        toy, texts, scheduler, generators(3), shape=SHAPE, guidance=guidance(), gradient_steps=last
    )
    theirs = oracle(toy, texts, 5, kind, detach_before=5 - last if last < 5 else -1)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
    difference = (gradients(toy, ours) - gradients(toy, theirs)).abs().max()
    assert difference < 1e-8


def test_truncation_matters_in_this_problem() -> None:
    toy, texts = Toy(), conditions(3)
    one = gradients(toy, oracle(toy, texts, 5, "epsilon", 4))
    every = gradients(toy, oracle(toy, texts, 5, "epsilon", -1))
    assert (one - every).abs().max() > 0.1


def test_stopping_the_unconditional_gradient_keeps_the_value_and_changes_the_gradient() -> None:
    toy, texts = Toy(), conditions(2)
    scheduler = exact_scheduler("epsilon", 4)
    full, stop = (
        draft(
            toy,
            texts,
            scheduler,
            generators(2),
            shape=SHAPE,
            guidance=guidance(gradient),
            gradient_steps=2,
        )
        for gradient in ("full", "stop")
    )
    torch.testing.assert_close(full, stop)
    independent = gradients(toy, oracle(toy, texts, 4, "epsilon", 2, stop=True))
    ours = gradients(toy, stop)
    torch.testing.assert_close(ours, independent, atol=1e-6, rtol=1e-5)
    assert (ours - gradients(toy, full)).abs().max() > 1e-3


def test_prefix_builds_no_graph_and_tail_builds_one_of_k_steps() -> None:
    toy, texts = Toy(), conditions(2)
    scheduler = sampling_scheduler(configuration(), 6, "leading", CPU)
    noise = initial_noise(SHAPE, generators(2), like=texts.embeddings)
    start = sample_prefix(toy, noise, texts, scheduler, generators(2), guidance=guidance(), steps=4)
    assert start.grad_fn is None
    assert not start.requires_grad
    assert toy.calls == [(4, False)] * 4
    toy.calls.clear()
    end = sample_tail(toy, start, texts, scheduler, generators(2), guidance=guidance(), steps=2)
    assert end.requires_grad
    assert toy.calls == [(4, True)] * 2


def test_guidance_of_one_leaves_the_unconditional_branch_out() -> None:
    toy, texts = Toy(), conditions(2)
    x = torch.ones(2, *SHAPE).double()
    got = predict(toy, x, torch.tensor(10), texts, guidance(scale=1.0))
    assert toy.calls == [(2, True)]
    torch.testing.assert_close(got, toy(x, torch.tensor(10), texts))


@pytest.mark.parametrize("mode", ["resample", "renoise"])
def test_a_trajectory_does_not_depend_on_its_partners(mode: str) -> None:
    toy, texts = Toy(), conditions(3)
    scheduler = sampling_scheduler(configuration(), 4, "leading", CPU)
    options = {"shape": SHAPE, "guidance": guidance(), "gradient_steps": 1, "mode": mode}
    seeds = generators(6)
    together = draft(toy, texts, scheduler, seeds, repeats=2, **options)
    pair = [generators(6)[1], generators(6)[4]]
    alone = draft(toy, texts[1:2], scheduler, pair, repeats=2, **options)
    torch.testing.assert_close(together[[1, 4]], alone)


def test_renoising_costs_one_prefix_and_resampling_one_a_repeat() -> None:
    texts = conditions(2)
    scheduler = sampling_scheduler(configuration(), 5, "leading", CPU)
    forwards = {}
    for mode in ("resample", "renoise"):
        toy = Toy()
        draft(
            toy,
            texts,
            scheduler,
            generators(6),
            shape=SHAPE,
            guidance=guidance(),
            gradient_steps=1,
            repeats=3,
            mode=mode,
        )
        forwards[mode] = sum(count for count, _ in toy.calls)
    assert forwards == {"resample": 2 * 2 * 3 * 5, "renoise": 2 * 2 * (4 + 3)}


def _gradient_samples(mode: str, count: int, offset: int) -> Tensor:
    """``(count, parameters of read.bias)`` last-step gradients, each averaged over two repeats."""
    toy = Toy()
    scheduler = sampling_scheduler(configuration(), 4, "trailing", CPU)
    texts = conditions(1).repeat(count)
    bias = toy.read.bias
    toy.read.bias = None
    # One bias a trajectory, so that one backward pass gives every trajectory's own gradient.
    own = bias.detach().repeat(2 * count, 1).requires_grad_()

    def denoiser(latents: Tensor, timestep: Tensor, condition: Conditions) -> Tensor:
        added = own[: len(latents)][:, :, None, None]
        read = toy.read(condition.embeddings.mean(dim=1))[:, :, None, None]
        return torch.tanh(toy.mix(latents) + read + added + timestep / 1000)

    latents = draft(
        denoiser,
        texts,
        scheduler,
        generators(2 * count, offset),
        shape=SHAPE,
        guidance=guidance(scale=1.0),
        gradient_steps=1,
        repeats=2,
        mode=mode,  # type: ignore[arg-type]
    )
    (gradient,) = torch.autograd.grad(latents.sum(), own)
    return gradient.reshape(2, count, 2).mean(dim=0)


def test_renoising_is_unbiased_for_the_last_step_gradient() -> None:
    count = 500
    shared = _gradient_samples("renoise", count, 0)
    independent = _gradient_samples("resample", count, 10**6)
    error = ((shared.var(dim=0) + independent.var(dim=0)) / count).sqrt()
    assert ((shared.mean(dim=0) - independent.mean(dim=0)).abs() < 4 * error).all()
    assert (independent.mean(dim=0).abs() > 8 * error).any()


@pytest.mark.parametrize("source", [DDIMScheduler, PNDMScheduler])
def test_clipping_comes_from_the_models_configuration(
    source: type,
) -> None:
    bare = {"num_train_timesteps": 1000, "prediction_type": "v_prediction"}
    scheduler = sampling_scheduler(bare, 20, "leading", CPU)
    assert scheduler.config.clip_sample is False
    assert scheduler.config.prediction_type == "v_prediction"
    stated = source.from_config({**bare, "clip_sample": False}).config
    assert sampling_scheduler(stated, 20, "leading", CPU).config.clip_sample is False


def test_spacing_decides_how_noisy_the_last_step_is() -> None:
    last = {
        spacing: int(sampling_scheduler(configuration(), 20, spacing, CPU).timesteps[-1])
        for spacing in ("leading", "trailing", "linspace")
    }
    assert last == {"leading": 1, "trailing": 49, "linspace": 0}


def test_the_schedule_lives_where_the_latents_do() -> None:
    """A schedule on the CPU makes every step of a GPU wait; ``meta`` stands for one here."""
    device = torch.device("meta")
    scheduler = sampling_scheduler(configuration(), 5, "leading", device)
    # The timesteps index it: on the CPU, where reading one waits for nothing.
    assert scheduler.timesteps.device == CPU
    latents = torch.zeros(2, *SHAPE, device=device)
    mixed: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            if {one.device for one in args if isinstance(one, Tensor)} == {CPU, device}:
                mixed.append(str(func))
            return func(*args, **(kwargs or {}))

    with Watch():
        for timestep in scheduler.timesteps:
            step = scheduler.step(latents, timestep, latents, generator=generators(2))
            assert step.prev_sample.device == device
    assert mixed == []


@pytest.mark.parametrize(("steps", "spacing"), [(1001, "trailing"), (1000, "leading")])
def test_more_steps_than_timesteps_are_refused(steps: int, spacing: str) -> None:
    config = {"num_train_timesteps": 1000, "steps_offset": 1}
    with pytest.raises(InputError, match=f"sampling.steps {steps} is more than the 1000"):
        sampling_scheduler(config, steps, spacing, torch.device("cpu"))
    sampling_scheduler(config, 999, spacing, torch.device("cpu"))
