"""Is the gradient of a cheaper prefix that of the paper's, and what does each setting cost?

``python -m benchmarks.performance.prefix_bias --base phantom-sd [--draws 120] --out runs/prefix``

The reward's gradient is drawn many times, with the same images and the same noise by every setting
of ``craft.prefix``: one draw is a batch at weights that stay fixed. With p the plain draws, s those
of a setting, and the mean taken over pairs of *different* draws, so that noise adds nothing,

- *along* is ⟨s, p⟩ / ⟨p, p⟩: how long the setting's mean gradient is in the plain one's direction;
- *cosine* is ⟨s, p⟩ / √(⟨s, s⟩ ⟨p, p⟩): that of the two mean gradients, noise taken out;
- *p* is that of their difference, by signs of the paired differences drawn at random;
- *variance* is the trace of the covariance of one draw over that of the plain one.

Intervals are 95% percentiles of a bootstrap over draws; a bias of 5% is seen where *along* is known
to less than that. ``stale`` is the plain prefix as the model drew it ``--age`` optimizer steps
before: the oldest that ``prefix.replay`` uses. Stopped, the same command goes on; ``--draws 0``
prints what is there.
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
from craft_trainer.cost.estimate import cost_of
from craft_trainer.methods.craft import Craft
from craft_trainer.methods.craft_settings import Prefix
from craft_trainer.training.trainer import StageRun

PLAIN: Final = "plain"
STALE: Final = "stale"
SETTINGS: Final[dict[str, dict[str, Any]]] = {
    PLAIN: {},
    "unguided .5": {"unguided": 0.5},
    "dpmpp 6": {"solver": "dpmpp_2m", "steps": 6},
    "dpmpp 6, unguided .5": {"solver": "dpmpp_2m", "steps": 6, "unguided": 0.5},
    "dpmpp 4": {"solver": "dpmpp_2m", "steps": 4},
}
#: Draws of a setting before it is the next one's turn.
TOGETHER: Final = 10
Gradients = NDArray[np.float32]


class Compared(NamedTuple):
    """A setting beside the plain prefix; the first two with their 95% intervals."""

    along: tuple[float, float, float]
    cosine: tuple[float, float, float]
    p: float
    variance: float


def compare(plain: Gradients, other: Gradients, resamples: int = 2000) -> Compared:
    """Paired draws ``(N, P)`` of both sides; see the module."""
    products = [
        a.astype(np.float64) @ b.T for a, b in ((plain, plain), (other, plain), (other, other))
    ]
    count, rng = len(plain), np.random.default_rng(0)

    def means(chosen: NDArray[np.int_]) -> NDArray[np.float64]:
        apart = chosen[:, None] != chosen[None]
        return np.array([one[np.ix_(chosen, chosen)][apart].mean() for one in products])

    found = np.array([means(rng.integers(count, size=count)) for _ in range(resamples)])
    whole = means(np.arange(count))
    intervals = []
    for ratio in (
        lambda m: m[..., 1] / m[..., 0],
        lambda m: m[..., 1] / np.sqrt(abs(m[..., 0] * m[..., 2])),
    ):
        low, high = np.percentile(ratio(found), [2.5, 97.5])
        intervals.append((float(ratio(whole)), float(low), float(high)))
    difference = products[0] + products[2] - products[1] - products[1].T
    signs = rng.choice([-1.0, 1.0], size=(resamples, count))
    by_chance = np.einsum("ri,ij,rj->r", signs, difference, signs)
    p = (1 + np.sum(by_chance >= difference.sum())) / (1 + resamples)
    spread = [np.trace(one) - one.sum() / count for one in (products[0], products[2])]
    return Compared(intervals[0], intervals[1], float(p), float(spread[1] / spread[0]))


def variant(method: Craft, values: dict[str, Any]) -> Craft:
    """The method with another prefix."""
    prefix = Prefix(**values)
    stage = method.stage.model_copy(update={"prefix": prefix if values else None})
    fast = method.model.fast_prefix(prefix.steps) if prefix.solver else None
    trajectories = dataclasses.replace(method.trajectories, stage=stage, fast=fast)
    return dataclasses.replace(method, stage=stage, trajectories=trajectories)


def gradient(run: StageRun, method: Craft, draw: int) -> Gradients:
    """Of the reward, over the images and with the noise of a draw."""
    size = run.stage.batch_size
    batch = run.inputs.batch(tuple(range(draw * size, (draw + 1) * size)))
    for parameter in run.parameters:
        parameter.grad = None
    method.loss(batch, draw).total.backward()
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


def aged(run: StageRun, age: int) -> dict[str, torch.Tensor]:
    """Take ``age`` optimizer steps; the weights before them."""
    before = {name: one.detach().clone() for name, one in run.model.trainable.items()}
    for step in range(age):
        run._step(step)
    return before


def main() -> None:
    """Draw what is missing, a few of every setting in turn, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_options(parser)
    parser.add_argument("--draws", type=int, default=120)
    parser.add_argument("--age", type=int, default=30, help="optimizer steps; 0 leaves `stale` out")
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    settings = {"repeats": 1, "lambda_diff": 0.0, "prefix": SETTINGS["dpmpp 6"]}
    with tempfile.TemporaryDirectory() as scratch:
        run = prepared_run(Path(scratch), options, **settings)
        earlier = aged(run, options.age)
        sides: dict[str, Craft] = {n: variant(run.method, SETTINGS[n]) for n in options.settings}
        if options.age:
            sides[STALE] = stale(sides[PLAIN], earlier)
        for first in range(0, options.draws, TOGETHER):
            for name, method in sides.items():
                path = options.out / f"{name.replace(' ', '_')}-{first:04d}.npy"
                if not path.is_file():
                    draws = range(first, first + TOGETHER)
                    np.save(path, np.stack([gradient(run, method, draw) for draw in draws]))
            print(f"{first + TOGETHER} draws", file=sys.stderr, flush=True)
        print(table(options.out, sides, lambda one: forwards(run, one)))


def forwards(run: StageRun, method: Craft) -> float:
    """Of one image, with its backward, by the trainer's own account."""
    return cost_of(run.config, method.stage, 1).forwards_per_image


def table(folder: Path, sides: dict[str, Craft], cost: Callable[[Craft], float]) -> str:
    """A line for each setting."""
    drawn = {
        name: np.concatenate(
            [np.load(one) for one in sorted(folder.glob(f"{name.replace(' ', '_')}-????.npy"))]
        )
        for name in sides
    }
    least = min(len(one) for one in drawn.values())
    plain, lines = drawn[PLAIN][:least], []
    for name, method in sides.items():
        work = f"{cost(method):g}"
        if name == PLAIN:
            lines.append([name, work, "", "", "", "1.00"])
            continue
        found = compare(plain, drawn[name][:least])
        intervals = ["{:.3f} ({:.3f} to {:.3f})".format(*one) for one in found[:2]]
        lines.append([name, work, *intervals, f"{found.p:.3f}", f"{found.variance:.2f}"])
    heads = ["prefix", "forwards", "along", "cosine", "p", "variance"]
    return f"{least} draws\n\n" + markdown_table(heads, lines)


if __name__ == "__main__":
    main()
