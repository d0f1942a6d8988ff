"""What the three trainings of phantom-sd share: the pictures, and one resumable loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.phantoms.corpus import COUNTS, read_corpus
from benchmarks.phantoms.muon import Muon
from craft_trainer.runtime.checkpoints import checkpoints, restore, save_checkpoint

#: Of the weights, of the order and of the corpus: no encoder has been trained on these pictures.
SEED = 4
#: Pictures for each one of ``corpus.COUNTS``.
SCALE = 0.3
#: Gradients are clipped to this norm.
MAX_NORM = 1.0


@dataclass(frozen=True)
class Pictures:
    """All domains together: ``images`` ``(N, 3, 64, 64)`` uint8, ``domains`` ``(N,)``."""

    images: Tensor
    domains: np.ndarray
    prompts: tuple[str, ...]

    def balanced(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """``(count,)`` rows, the same number of each domain."""
        chosen = np.arange(count) % len(COUNTS)
        rows = [np.flatnonzero(self.domains == domain) for domain in range(len(COUNTS))]
        return np.array([rng.choice(rows[domain]) for domain in chosen])


def read_pictures(scratch: Path, first: float = 1.0) -> Pictures:
    """The corpus of :data:`SEED`, rendered first if need be; of each domain the ``first`` share."""
    corpora = [read_corpus(scratch, name, int(n * SCALE), SEED) for name, n in COUNTS.items()]
    counts = [int(first * len(corpus.labels)) for corpus in corpora]
    parts = list(zip(corpora, counts, strict=True))
    stacked = np.concatenate([corpus.images[:count] for corpus, count in parts])
    return Pictures(
        torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous(),
        np.repeat(np.arange(len(corpora)), counts),
        tuple(prompt for corpus, count in parts for prompt in corpus.prompts[:count]),
    )


def pixels(images: Tensor) -> Tensor:
    """uint8 pictures in [-1, 1], as a VAE takes them."""
    return images.float() / 127.5 - 1


def run(
    loss: Callable[[int], dict[str, Tensor]],
    parameters: Mapping[str, nn.Parameter],
    folder: Path,
    *,
    steps: int,
    rate: float,
    warmup: int = 100,
    averaged: Mapping[str, nn.Parameter] | None = None,
    decay: float = 0.999,
    muon: bool = True,
) -> None:
    """Train to ``steps`` steps from the latest checkpoint in ``folder``: warm-up, then a cosine.

    Args:
        loss: Of a step, which alone decides its batch and noise; ``total`` is minimised, the
            other entries are printed.
        parameters: Trained, by name.
        folder: Where checkpoints go.
        steps: Of the whole training.
        rate: Peak learning rate.
        warmup: Steps in which it rises.
        averaged: Copies of ``parameters`` that keep their exponential moving average.
        decay: Of the average; smaller in the first steps.
        muon: AdamW alone where False.
    """
    kind = Muon if muon else torch.optim.AdamW
    optimizer = kind(parameters.values(), lr=rate, weight_decay=0.01)
    averaged = averaged or {}
    every = {**parameters, **{f"average/{name}": value for name, value in averaged.items()}}
    identity = {"steps": steps, "rate": rate, "warmup": warmup}
    found = checkpoints(folder)
    start = restore(found[-1], every, optimizer, identity) if found else 0
    started, sums = time.time(), {}
    for step in range(start, steps):
        scale = min(1, (step + 1) / warmup) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = rate * scale
        terms = loss(step)
        optimizer.zero_grad(set_to_none=True)
        terms["total"].backward()
        nn.utils.clip_grad_norm_(list(parameters.values()), MAX_NORM)
        optimizer.step()
        with torch.no_grad():
            weight = 1 - min(decay, (step + 1) / (step + 10))
            for name, value in averaged.items():
                value.lerp_(parameters[name], weight)
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + value.item()
        if (step + 1) % 100 == 0 or step + 1 == steps:
            line = " ".join(f"{name} {value / 100:.4f}" for name, value in sums.items())
            pace = (time.time() - started) / (step + 1 - start)
            print(f"{step + 1}/{steps} {line} {pace:.2f} s/step", flush=True)
            sums = {}
            save_checkpoint(folder, step + 1, every, optimizer, identity, keep=1)
