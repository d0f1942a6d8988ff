"""How fast, and in how much memory, is a CRAFT step beside common practice?

``python -m benchmarks.performance.training [--gradient-steps 1 2 5] [--repeats 2] [--rounds 3]``

*Ours* is :class:`craft_trainer.methods.craft.Craft`: the prefix of T − K steps without a graph, all
M trajectories in one batch, latents, prompts, checklists and references embedded once before
training. *Common practice* is transcribed below from what public trainers of this kind do: a graph
over every step, cut by detaching the prediction before the last K; M trajectories one after the
other; the real image and all texts encoded anew in every step. Both draw the same noise, so their
losses and gradients must agree, and the script says by how much they do not. ``renoise`` is ours as
well, with one prefix for all M: another, equally unbiased, estimate of the same gradient.

Time is the median of the rounds, in which the sides take turns: wall time on a GPU, processor time
on a CPU. Memory is, on a GPU, the peak of
the allocator above the models; on a CPU, the peak of the bytes that autograd keeps for the backward
pass. Full size, on a GPU:

``python -m benchmarks.performance.training --device cuda --dtype bfloat16 --base sd21-random``
``--critic medsiglip-random --resolution 512``
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import DDPMScheduler
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from torch.nn import functional as F

from benchmarks.performance.diffusion import add_options, prepared_run
from cas_metric import primitives
from craft_trainer.data.dataset import Batch, load_square
from craft_trainer.training.trainer import StageRun


class Measured(NamedTuple):
    """One side: median seconds of a step, peak bytes, loss and gradient."""

    seconds: float
    peak: int
    loss: float
    gradient: Tensor


def main() -> None:
    """Measure every K, and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_options(parser)
    parser.add_argument("--gradient-steps", type=int, nargs="+", default=[1, 2, 5], help="K")
    parser.add_argument("--repeats", type=int, default=2, help="M")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scratch", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = options.scratch or Path(name)
        print(_heading(options))
        for k in options.gradient_steps:
            for line in compare(root, options, k):
                print(line, flush=True)


def compare(root: Path, options: argparse.Namespace, gradient_steps: int) -> list[str]:
    """Lines of the table for one K."""
    settings = {"gradient_steps": gradient_steps, "repeats": options.repeats}
    run = prepared_run(root, options, **settings)
    shared = prepared_run(root, options, **settings, repeat_mode="renoise")
    sides: dict[str, tuple[StageRun, Callable[[], float]]] = {
        "ours": (run, lambda: ours(run)),
        "common practice": (run, lambda: common_practice(run)),
        "… a backward each": (run, lambda: common_practice(run, backward_each=True)),
        "ours, renoise": (shared, lambda: ours(shared)),
    }
    found = measure(sides, options.rounds)
    own, theirs = found["ours"], found["common practice"]
    error = (own.gradient - theirs.gradient).norm() / theirs.gradient.norm()
    lines = [
        f"| {gradient_steps} | {name} | {one.seconds:.3f} | {theirs.seconds / one.seconds:.2f} | "
        f"{one.peak / 1e6:.1f} | {one.peak / theirs.peak:.2f} |"
        for name, one in found.items()
    ]
    agreement = (
        f"K = {gradient_steps}: losses {own.loss:.6f} and {theirs.loss:.6f}, relative difference "
        f"of the gradients {error:.1e}"
    )
    return [*lines, f"<!-- {agreement} -->"]


def measure(
    sides: dict[str, tuple[StageRun, Callable[[], float]]], rounds: int
) -> dict[str, Measured]:
    """Run all sides in turn: once for gradient and memory, then for time."""
    results: dict[str, tuple[int, float, Tensor]] = {}
    for name, (run, step) in sides.items():
        _clear(run)
        peak = Peak(run.accelerator.device)
        with peak:
            loss = step()
        grads = [parameter.grad for parameter in run.parameters if parameter.grad is not None]
        gradient = torch.cat([grad.flatten().double().cpu() for grad in grads])
        results[name] = (peak.bytes, loss, gradient)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, (run, step) in sides.items():
            _clear(run)
            now = clock(run.accelerator.device)
            started = now()
            step()
            wait(run.accelerator.device)
            seconds[name].append(now() - started)
    return {name: Measured(statistics.median(seconds[name]), *results[name]) for name in sides}


def ours(run: StageRun) -> float:
    """Loss and backward of the trainer's own method."""
    loss = run.method.loss(_batch(run), 1).total
    loss.backward()
    return float(loss.detach())


def common_practice(run: StageRun, *, backward_each: bool = False) -> float:
    """Loss and backward as they are usually written.

    Args:
        run: Gives models, data, noise and settings, and no cached input.
        backward_each: Whether every trajectory has a backward of its own, so that no two graphs
            are held at once.
    """
    batch, stage = _batch(run), run.stage
    model: Any = run.model
    unet, device = model.pipeline.unet, model.device
    empty = _texts(model, [""] * len(batch.rows))
    conditions = _texts(model, batch.prompts)
    pixels = torch.stack(
        [
            load_square(run.examples.paths[row], run.config.data.resolution, run.examples.manifest)
            for row in batch.rows
        ]
    ).to(device)
    error = _diffusion_error(run, batch, pixels, conditions)
    total = stage.lambda_diff * error
    if backward_each:
        total.backward()
    value = float(total.detach())
    scheduler = _scheduler(run)
    generators = batch.generators("trajectory", stage.repeats)
    count = len(batch.rows)
    for repeat in range(stage.repeats):
        own = generators[repeat * count : (repeat + 1) * count]
        latents = randn_tensor(
            (count, *_latent(batch)), generator=own, device=device, dtype=conditions.dtype
        )
        for index, timestep in enumerate(scheduler.timesteps):
            both = torch.cat([latents, latents]).to(model.dtype)
            text = torch.cat([empty, conditions]).to(model.dtype)
            predicted = unet(both, timestep, text).sample.to(latents.dtype)
            if index < len(scheduler.timesteps) - stage.gradient_steps:
                predicted = predicted.detach()  # the graph was built, and is thrown away
            without, with_text = predicted.chunk(2)
            guided = without + run.config.sampling.guidance * (with_text - without)
            latents = scheduler.step(guided, timestep, latents, generator=own).prev_sample
        term = -stage.lambda_cam * _reward(run, batch, model.decode(latents)) / stage.repeats
        value += float(term.detach())
        if backward_each:
            term.backward()
        else:
            total = total + term
    if not backward_each:
        total.backward()
    return value


def _reward(run: StageRun, batch: Batch, images: Tensor) -> Tensor:
    """r_cam, with prompts, checklists and reference images embedded anew."""
    critic, examples, cam = run.method.cam.critic, run.examples, run.method.cam
    labels = [examples.labels[row] for row in batch.rows]
    prompt = critic.embed_texts([examples.prompts[row] for row in batch.rows]).embeddings
    checklist = critic.embed_texts([examples.checklist(label) for label in labels]).embeddings
    with torch.no_grad():
        files = [
            load_square(examples.paths[row], run.config.data.resolution, examples.manifest)
            for row in batch.rows
        ]
        arrays = [(image.permute(1, 2, 0) * 255).round().byte().numpy() for image in files]
        reference = critic.embed_pixels(critic.official_preprocess(arrays))
    embedded = critic.embed_images(images)
    target = torch.tensor([cam.probe.classes.index(label) for label in labels])
    terms = {
        "vdc": primitives.vdc(embedded, prompt),
        "ccs": primitives.ccs(embedded, checklist),
        "dd": primitives.dd_log_likelihood(cam.probe.logits(embedded), target.to(images.device)),
        "sfs": primitives.sfs(embedded, reference),
    }
    return sum(cam.weights[name] * term for name, term in terms.items()).mean()


def _diffusion_error(run: StageRun, batch: Batch, pixels: Tensor, conditions: Tensor) -> Tensor:
    """‖ε − ε_θ‖² of the real images, encoded anew."""
    model: Any = run.model
    moments = model.encode_images(pixels).float()
    shape = (len(batch.rows), *_latent(batch))

    def drawn(purpose: str) -> Tensor:
        return randn_tensor(shape, generator=batch.generators(purpose), device=model.device)

    latents = model.latents_of(moments, drawn("latent")).float()
    noise = drawn("noise")
    forward = DDPMScheduler.from_config(model.pipeline.scheduler.config)
    total = forward.config.num_train_timesteps
    times = [torch.randint(total, (1,), generator=one) for one in batch.generators("timestep")]
    timestep = torch.cat(times).to(model.device)
    noisy = forward.add_noise(latents, noise, timestep)
    target = noise
    if forward.config.prediction_type == "v_prediction":
        target = forward.get_velocity(latents, noise, timestep)
    inputs = noisy.to(model.dtype), timestep, conditions.to(model.dtype)
    return F.mse_loss(model.pipeline.unet(*inputs).sample.float(), target)


def _scheduler(run: StageRun) -> Any:
    config = dict(run.model.pipeline.scheduler.config)
    sampling = run.config.sampling
    scheduler = DDPMScheduler.from_config(
        config, clip_sample=False, timestep_spacing=sampling.timestep_spacing
    )
    scheduler.set_timesteps(sampling.steps)
    return scheduler


@torch.no_grad()
def _texts(model: Any, prompts: Any) -> Tensor:
    encoded = model.encode_prompts(list(prompts))
    return getattr(encoded, "embeddings", encoded)


def _batch(run: StageRun) -> Batch:
    """The first batch of the run, as the trainer makes it."""
    (positions,) = run._positions(0)
    return run.inputs.batch(positions)


def _latent(batch: Batch) -> tuple[int, int, int]:
    _, channels, height, width = batch.moments.shape
    return channels // 2, height, width


def _clear(run: StageRun) -> None:
    for parameter in run.parameters:
        parameter.grad = None


def clock(device: torch.device) -> Callable[[], float]:
    """Wall time on a GPU; on a CPU the processor's, which other programs do not disturb."""
    return time.perf_counter if device.type == "cuda" else time.process_time


def wait(device: torch.device) -> None:
    """Until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


class Peak:
    """Peak bytes within a block: of the allocator on a GPU, kept by autograd on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self.bytes = 0
        self._live: dict[int, list[int]] = {}
        self._now = 0
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda kept: kept.tensor)

    def __enter__(self) -> Peak:
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        else:
            self._hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self.cuda:
            self.bytes = torch.cuda.max_memory_allocated() - self._before
        else:
            self._hooks.__exit__(*error)

    def _pack(self, tensor: Tensor) -> Any:
        key = tensor.untyped_storage()._cdata
        uses = self._live.setdefault(key, [0, 0])
        if not uses[0] and not isinstance(tensor, torch.nn.Parameter):
            uses[1] = tensor.untyped_storage().nbytes()
            self._now += uses[1]
            self.bytes = max(self.bytes, self._now)
        uses[0] += 1
        # Detached: a graph that holds its own outputs through a hook would never be freed.
        return _Kept(tensor.detach(), lambda: self._drop(key))

    def _drop(self, key: int) -> None:
        uses = self._live[key]
        uses[0] -= 1
        if not uses[0]:
            self._now -= uses[1]
            del self._live[key]


class _Kept:
    """A tensor that autograd keeps; says when it is let go."""

    def __init__(self, tensor: Tensor, dropped: Callable[[], None]) -> None:
        self.tensor = tensor
        self._dropped = dropped

    def __del__(self) -> None:
        self._dropped()


def _heading(options: argparse.Namespace) -> str:
    device = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    return (
        f"{options.base}, {options.critic}, {options.resolution} pixels, batch "
        f"{options.batch_size}, T = {options.steps}, M = {options.repeats}, {options.dtype}, "
        f"{device}, {torch.get_num_threads()} threads\n\n"
        "| K | side | seconds / step | times as fast | MB kept | of common practice |\n"
        "| ---: | --- | ---: | ---: | ---: | ---: |"
    )


if __name__ == "__main__":
    main()
