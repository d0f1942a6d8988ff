"""Is ``renoise`` unbiased, and is its gradient less noisy than that of ``resample`` at equal cost?

``python -m benchmarks.performance.renoise_variance [--draws 60] [--repeats 2 4]``

One image, fixed weights, and the gradient of its reward drawn many times with other noise by either
mode. If both estimate the same gradient, the squared distance of the two means is, on average,
what their own variances leave: the ratio printed first is then about 1, and the p-value is that of
exchanging the modes at random. The variance is the trace of the covariance of one draw; times
its cost, in forwards of the denoiser and in processor seconds, it is what an accuracy costs.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.performance.diffusion import add_options, prepared_run
from craft_trainer.cost.estimate import cost_of
from craft_trainer.training.trainer import StageRun

MODES = ("resample", "renoise")


class Draws(NamedTuple):
    """Gradients ``(N, P)`` of one mode, and the cost of one."""

    gradients: np.ndarray
    forwards: float
    seconds: float

    @property
    def variance(self) -> float:
        """Trace of the covariance of one draw."""
        return float(self.gradients.var(axis=0, ddof=1).sum())


def main() -> None:
    """Draw, compare, print a line for every M and mode."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_options(parser)
    parser.set_defaults(batch_size=1)
    parser.add_argument("--draws", type=int, default=60)
    parser.add_argument("--repeats", type=int, nargs="+", default=[2, 4], help="M")
    parser.add_argument("--gradient-steps", type=int, default=1, help="K")
    parser.add_argument("--scratch", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = options.scratch or Path(name)
        print("| M | mode | distance of means / expected | p | variance | x forwards | x seconds |")
        print("| ---: | --- | ---: | ---: | ---: | ---: | ---: |")
        for repeats in options.repeats:
            found = {mode: draw(root, options, mode, repeats) for mode in MODES}
            ratio, p = same_mean(*(one.gradients for one in found.values()))
            first = found[MODES[0]]
            for mode, one in found.items():
                relative = one.variance / first.variance
                work = relative * one.forwards / first.forwards
                clock = relative * one.seconds / first.seconds
                line = f"| {repeats} | {mode} | {ratio:.2f} | {p:.2f} | {relative:.2f} | "
                print(line + f"{work:.2f} | {clock:.2f} |", flush=True)


def draw(root: Path, options: argparse.Namespace, mode: str, repeats: int) -> Draws:
    """Gradients of the reward of the first image, each with its own noise."""
    run = prepared_run(
        root,
        options,
        repeats=repeats,
        repeat_mode=mode,
        gradient_steps=options.gradient_steps,
        lambda_diff=0.0,
    )
    # The modes must not share noise: their means are compared as independent.
    first = 10**6 * (1 + MODES.index(mode))
    started = time.process_time()
    gradients = [_gradient(run, first + index) for index in range(options.draws)]
    seconds = (time.process_time() - started) / options.draws
    cost = cost_of(run.config, run.config.stages[0], 1).forwards_per_step
    return Draws(np.stack(gradients), cost, seconds)


def _gradient(run: StageRun, position: int) -> np.ndarray:
    (positions,) = run._positions(0)
    batch = run.inputs.batch(positions)
    batch = dataclasses.replace(batch, positions=(position,) * len(batch.rows))
    for parameter in run.parameters:
        parameter.grad = None
    run.method.loss(batch, 1).total.backward()
    grads = [parameter.grad for parameter in run.parameters if parameter.grad is not None]
    return torch.cat([grad.flatten() for grad in grads]).double().cpu().numpy()


def same_mean(one: np.ndarray, other: np.ndarray, exchanges: int = 1000) -> tuple[float, float]:
    """Squared distance of two means over what is expected of equal ones, and its p-value."""

    def distance(left: np.ndarray, right: np.ndarray) -> float:
        return float(np.square(left.mean(axis=0) - right.mean(axis=0)).sum())

    expected = sum(x.var(axis=0, ddof=1).sum() / len(x) for x in (one, other))
    # All that an exchange needs are the inner products of the draws.
    pool = np.concatenate([one, other])
    products = pool @ pool.T
    rng = np.random.default_rng(0)
    sign = np.concatenate([np.full(len(one), 1 / len(one)), np.full(len(other), -1 / len(other))])
    observed = sign @ products @ sign
    assert np.isclose(observed, distance(one, other))
    larger = 0
    for _ in range(exchanges):
        mixed = rng.permutation(sign)
        larger += mixed @ products @ mixed >= observed
    return float(observed / expected), (1 + larger) / (1 + exchanges)


if __name__ == "__main__":
    main()
