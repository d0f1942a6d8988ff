"""The loop of every training here: resumable, each step a function of its number alone.

Kill a training when the machine is wanted for something else; the same command goes on from the
latest checkpoint, and ends where an uninterrupted run would have ended.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.phantoms.muon import Muon
from craft_trainer.runtime.checkpoints import checkpoints, restore, save_checkpoint

#: Gradients are clipped to this norm.
MAX_NORM = 1.0
#: Steps between two lines of the log, and seconds after which a checkpoint is due.
EVERY, SECONDS = 100, 120.0


def add_machine(parser: argparse.ArgumentParser) -> None:
    """The options ``--threads`` and ``--device``."""
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")


def set_machine(options: argparse.Namespace) -> torch.device:
    """Follow them; return the device."""
    torch.set_num_threads(options.threads)
    return torch.device(options.device)


def learning_rate(step: int, steps: int, warmup: int, hold: float = 0.0) -> float:
    """Share of the peak rate at ``step``: it rises linearly, stays, and falls as a cosine to 0.

    Args:
        step: From 0.
        steps: Of the whole training.
        warmup: Steps in which it rises.
        hold: Share of the steps after which it falls. While it stays, ``steps`` may still be
            raised.

    Example:
        >>> [round(learning_rate(step, 100, 10, 0.5), 2) for step in (0, 9, 50, 75, 100)]
        [0.1, 1.0, 1.0, 0.5, 0.0]
    """
    fallen = max(0.0, (step / steps - hold) / (1 - hold))
    return min(1.0, (step + 1) / warmup) * (0.5 + 0.5 * math.cos(math.pi * fallen))


def run(
    loss: Callable[[int], dict[str, Tensor]],
    parameters: Mapping[str, nn.Parameter],
    folder: Path,
    *,
    steps: int,
    rate: float,
    warmup: int = 100,
    hold: float = 0.0,
    weight_decay: float = 0.01,
    averaged: Mapping[str, nn.Parameter] | None = None,
    decay: float = 0.999,
    muon: bool = True,
    plain: Collection[str] = (),
) -> None:
    """Train to ``steps`` steps from the latest checkpoint in ``folder``.

    Args:
        loss: Of a step, which alone decides its batch and noise; ``total`` is minimised, the
            other entries are printed.
        parameters: Trained, by name.
        folder: Where checkpoints go.
        steps: Of the whole training.
        rate: Peak learning rate.
        warmup: Steps in which it rises.
        hold: Share of the steps after which it falls.
        weight_decay: Of all parameters.
        averaged: Copies of ``parameters`` that keep their exponential moving average.
        decay: Of the average; smaller in the first steps.
        muon: AdamW alone where False.
        plain: Names of those that AdamW takes even then, such as embeddings.
    """
    optimizer: torch.optim.AdamW
    if muon:
        exempt = [parameters[name] for name in plain]
        optimizer = Muon(parameters.values(), lr=rate, weight_decay=weight_decay, plain=exempt)
    else:
        optimizer = torch.optim.AdamW(parameters.values(), lr=rate, weight_decay=weight_decay)
    averaged = averaged or {}
    every = {**parameters, **{f"average/{name}": value for name, value in averaged.items()}}
    identity = {"rate": rate, "warmup": warmup, "muon": muon, "weight_decay": weight_decay}
    found = checkpoints(folder)
    start = restore(found[-1], every, optimizer, identity) if found else 0
    told, saved = _Log(start, steps), time.monotonic()
    for step in range(start, steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * learning_rate(step, steps, warmup, hold)
        terms = loss(step)
        optimizer.zero_grad(set_to_none=True)
        terms["total"].backward()
        nn.utils.clip_grad_norm_(list(parameters.values()), MAX_NORM)
        optimizer.step()
        with torch.no_grad():
            weight = 1 - min(decay, (step + 1) / (step + 10))
            for name, value in averaged.items():
                value.lerp_(parameters[name], weight)
        told.add(terms)
        if (step + 1) % EVERY == 0 or step + 1 == steps:
            told.line(step + 1)
        if time.monotonic() - saved >= SECONDS or step + 1 == steps:
            save_checkpoint(folder, step + 1, every, optimizer, identity, keep=1)
            saved = time.monotonic()


class _Log:
    """Means of the terms since the last line, and the pace since the start."""

    def __init__(self, start: int, steps: int) -> None:
        self.start, self.steps, self.began = start, steps, time.time()
        self.sums: dict[str, float] = {}
        self.count = 0

    def add(self, terms: Mapping[str, Tensor]) -> None:
        self.count += 1
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.item()

    def line(self, step: int) -> None:
        means = " ".join(f"{name} {total / self.count:.4f}" for name, total in self.sums.items())
        pace = (time.time() - self.began) / (step - self.start)
        print(f"{step}/{self.steps} {means} {pace:.2f} s/step", flush=True)
        self.sums, self.count = {}, 0
