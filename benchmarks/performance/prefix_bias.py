"""Is the gradient of a cheaper prefix that of the paper's, and what does each setting cost?

``python -m benchmarks.performance.prefix_bias --base phantom-sd [--draws 400] [--against exact]
--out runs/prefix``

The reward's gradient of the same few images is drawn many times at fixed weights: with the paper's
prefix, and with the same noise by each cheaper setting of a ``craft`` stage. With p the paper's
draws, s those of a setting and d = s − p, and means taken over pairs of *different* draws, so that
noise adds nothing,

- *along* is ⟨d, p⟩ / ⟨p, p⟩: by how much the setting's mean gradient is too long in the direction
  of the paper's mean gradient;
- *apart* is √⟨d, d⟩ / √⟨p, p⟩: the norm of the difference of the means, relative to the paper's
  (the mean over pairs of different draws is that over all ways of splitting the draws in halves);
- *p* is that of their difference, by signs of the paired differences drawn at random;
- *variance* is the trace of the covariance of one draw over that of the paper's.

``stale 3`` is the paper's prefix as the model drew it three optimizer steps before: the oldest that
``prefix: {replay: 3, replay_age: 4}`` uses. ``renoise 5`` has two trajectories a prompt.
``--against exact`` holds all against the sampler's equation solved in :data:`FINE` steps, which the
paper's T approximate too. Stopped, the same command goes on; ``--draws 0`` prints what is there.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.performance.diffusion import add_options, prepared_run
from cas_metric.statistics.tables import markdown_table
from craft_trainer.bases.lora import with_weights
from craft_trainer.config.sections import Sampling
from craft_trainer.cost.estimate import cost_of
from craft_trainer.data.dataset import Batch
from craft_trainer.diffusion.conditions import Conditions
from craft_trainer.diffusion.sampling import draft_prefix
from craft_trainer.methods.craft import Craft
from craft_trainer.training.trainer import StageRun

PLAIN: Final = "plain"
#: A prefix that was drawn so many optimizer steps before.
STALE: Final = {"stale 3": 3, "stale 7": 7, "stale 30": 30}
EXACT: Final = "exact"
#: Steps of a trajectory whose prefix counts as exact.
FINE: Final = 200
#: Changes of the stage.
SETTINGS: Final[dict[str, dict[str, Any]]] = {
    PLAIN: {},
    "dpmpp 6": {"prefix": {"solver": "dpmpp_2m", "steps": 6}},
    "dpmpp 12": {"prefix": {"solver": "dpmpp_2m", "steps": 12}},
    "sde 6": {"prefix": {"solver": "dpmpp_2m_sde", "steps": 6}},
    "sde 10": {"prefix": {"solver": "dpmpp_2m_sde", "steps": 10}},
    "unguided .5": {"prefix": {"unguided": 0.5}},
    **{name: {} for name in STALE},
    EXACT: {},
    "renoise 5": {"prefix": {"own_steps": 5}, "repeats": 2, "repeat_mode": "renoise"},
}
#: Draws of a setting before it is the next one's turn.
TOGETHER: Final = 20
Gradients = NDArray[np.float64]


class Compared(NamedTuple):
    """A setting beside the plain prefix; the first two with their 95% intervals."""

    along: tuple[float, float, float]
    apart: tuple[float, float, float]
    p: float
    variance: float


def compare(plain: Gradients, other: Gradients, resamples: int = 2000) -> Compared:
    """Paired draws ``(N, P)`` of both sides; see the module."""
    both = np.concatenate([plain, other])
    count, rng = len(plain), np.random.default_rng(0)
    products = both @ both.T
    pp, sp, ss = products[:count, :count], products[count:, :count], products[count:, count:]
    dp, dd = sp - pp, pp + ss - sp - sp.T
    weights = rng.multinomial(count, np.full(count, 1 / count), size=resamples).astype(float)
    ratio = _apart(dp, weights) / _apart(pp, weights)
    once = np.ones((1, count))
    length, along, distance = (float(_apart(one, once)[0]) for one in (pp, dp, dd))
    low, high = np.percentile(ratio, [2.5, 97.5])
    squared = distance / length
    half = half_width(dd - squared * pp) / length
    signs = rng.choice([-1.0, 1.0], size=(resamples, count))
    by_chance = ((signs @ dd) * signs).sum(axis=1)
    p = (1 + np.sum(by_chance >= dd.sum())) / (1 + resamples)
    spread = [np.trace(one) - one.sum() / count for one in (pp, ss)]
    roots = np.sqrt(np.maximum([squared, squared - half, squared + half], 0))
    return Compared(
        (along / length, float(low), float(high)),
        (float(roots[0]), float(roots[1]), float(roots[2])),
        float(p),
        float(spread[1] / spread[0]),
    )


def _apart(products: Gradients, weights: Gradients) -> Gradients:
    """Mean of ``(N, N)`` products over pairs of different draws, counted by ``(R, N)`` weights."""
    same = weights**2
    total = ((weights @ products) * weights).sum(axis=1) - same @ np.diag(products)
    found: Gradients = total / (weights.sum(axis=1) ** 2 - same.sum(axis=1))
    return found


def half_width(kernel: Gradients) -> float:
    """Of the 95% interval of the mean of ``(N, N)`` values over pairs of different draws.

    A U-statistic of order two: with ζ₁ the variance of the mean over the second draw, and ζ₂ that
    of what is left, its variance is 4 ζ₁ / n + 2 ζ₂ / n (n − 1) (Serfling 1980, "Approximation
    Theorems of Mathematical Statistics", section 5.2.1).
    """
    count = len(kernel)
    different = ~np.eye(count, dtype=bool)
    centred = kernel - kernel.mean(axis=0)
    centred -= centred.mean(axis=1, keepdims=True)
    left = (centred[different] ** 2).mean()
    rows = (kernel.sum(axis=1) - np.diag(kernel)) / (count - 1)
    linear = max(rows.var(ddof=1) - left / (count - 1), 0.0)
    return float(1.96 * np.sqrt(4 * linear / count + 2 * left / (count * (count - 1))))


def variant(method: Craft, changes: dict[str, Any]) -> Craft:
    """The method with another prefix."""
    stage = type(method.stage).model_validate(
        {**method.stage.model_dump(), "prefix": None, **changes}
    )
    fast = method.model.fast_prefix(stage.cheaper.solver, stage.cheaper.steps)
    trajectories = dataclasses.replace(method.trajectories, stage=stage, fast=fast)
    judge = dataclasses.replace(method.judge, repeats=stage.repeats)
    return dataclasses.replace(method, stage=stage, trajectories=trajectories, judge=judge)


def gradient(run: StageRun, method: Craft, draw: int) -> Gradients:
    """Of the reward of the first images, with the noise of a draw."""
    size = run.stage.batch_size
    batch = run.inputs.batch(tuple(range(size)))
    positions = tuple(range(draw * size, (draw + 1) * size))
    for parameter in run.parameters:
        parameter.grad = None
    method.loss(dataclasses.replace(batch, positions=positions, turn=draw), draw).total.backward()
    found = [one.grad for one in run.parameters if one.grad is not None]
    return torch.cat([one.flatten() for one in found]).float().cpu().numpy()


def stale(method: Craft, weights: dict[str, torch.Tensor]) -> Craft:
    """The method whose prefixes are drawn with earlier ``weights``."""

    class Earlier(type(method.trajectories)):  # type: ignore[misc]  # a class found at run time
        def _prefix(self, *arguments: Any) -> torch.Tensor:
            with with_weights(self.model, weights):
                return super()._prefix(*arguments)

    fields = vars(method.trajectories)
    return dataclasses.replace(method, trajectories=Earlier(**fields))


def exact(method: Craft, sampling: Sampling) -> Craft:
    """The method whose prefixes arrive at the same timestep in many small steps."""

    class Fine(type(method.trajectories)):  # type: ignore[misc]  # a class found at run time
        def _prefix(self, batch: Batch, conditions: Conditions, generators: Any) -> torch.Tensor:
            arrival = self.sampler.timesteps[-self.stage.gradient_steps]
            fine = sampling.model_copy(update={"steps": FINE})
            sampler = self.model.sampler(fine, batch.latent_shape)
            (reached,) = torch.nonzero(sampler.timesteps == arrival).flatten().tolist()
            return draft_prefix(
                self.model.denoise,
                conditions,
                sampler,
                generators,
                shape=batch.latent_shape,
                guidance=self.guidance,
                gradient_steps=FINE - reached,
                repeats=self.stage.repeats,
            )

    fields = vars(method.trajectories)
    return dataclasses.replace(method, trajectories=Fine(**fields))


def aged(run: StageRun) -> dict[str, dict[str, torch.Tensor]]:
    """Take as many optimizer steps as the oldest of :data:`STALE`; the weights of each before."""
    oldest, before = max(STALE.values()), {}
    for step in range(oldest):
        for name, age in STALE.items():
            if step == oldest - age:
                weights = run.model.trainable.items()
                before[name] = {key: one.detach().clone() for key, one in weights}
        run._step(step)
    return before


def main() -> None:
    """Draw what is missing, a few of every setting in turn, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_options(parser)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--rate", type=float, default=1e-4, help="of the steps before the draws")
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--against", choices=(PLAIN, EXACT), default=PLAIN)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    first = {"repeats": 1, "lambda_diff": 0.0, "learning_rate": options.rate}
    first |= SETTINGS["dpmpp 6"]
    with tempfile.TemporaryDirectory() as scratch:
        run = prepared_run(Path(scratch), options, **first)
        earlier = aged(run)
        assert isinstance(run.method, Craft)
        sides = {name: variant(run.method, SETTINGS[name]) for name in SETTINGS}
        sides |= {name: stale(sides[PLAIN], weights) for name, weights in earlier.items()}
        sides[EXACT] = exact(sides[PLAIN], run.config.sampling)
        for start in range(0, options.draws, TOGETHER):
            for name in options.settings:
                path = options.out / f"{name.replace(' ', '_')}-{start:04d}.npy"
                if not path.is_file():
                    draws = range(start, start + TOGETHER)
                    np.save(path, np.stack([gradient(run, sides[name], one) for one in draws]))
            print(f"{start + TOGETHER} draws", file=sys.stderr, flush=True)
        print(table(options.out, sides, lambda one: forwards(run, one), options.against))


def forwards(run: StageRun, method: Craft) -> float:
    """Of one image, with its backward, by the trainer's own account."""
    return cost_of(run.config, method.stage, 1).forwards_per_image


def drawn(folder: Path, name: str) -> Gradients:
    """The draws of a setting that are there."""
    files = sorted(folder.glob(f"{name.replace(' ', '_')}-????.npy"))
    return np.concatenate([np.load(one) for one in files] or [np.zeros((0, 0))]).astype(float)


def table(
    folder: Path, sides: dict[str, Craft], cost: Callable[[Craft], float], against: str
) -> str:
    """A line for each setting that was drawn."""
    plain, lines = drawn(folder, against), []
    for name, method in sides.items():
        other = drawn(folder, name)[: len(plain)]
        work, count = "" if name == EXACT else f"{cost(method):g}", len(other)
        if name == against or not count:
            lines.append([name, str(count), work, "", "", "", "1.00" if count else ""])
            continue
        found = compare(plain[:count], other)
        intervals = ["{:+.3f} ({:+.3f} to {:+.3f})".format(*found.along)]
        intervals.append("{:.3f} ({:.3f} to {:.3f})".format(*found.apart))
        lines.append([name, str(count), work, *intervals, f"{found.p:.4f}"])
        lines[-1].append(f"{found.variance:.2f}")
    heads = ["prefix", "draws", "forwards", "along", "apart", "p", "variance"]
    return markdown_table(heads, lines)


if __name__ == "__main__":
    main()
