"""Train phantom-dino: a DINOv2 architecture that has seen phantoms but no text and no label.

``python -m benchmarks.phantoms.self_supervised SCRATCH OUT``; an interrupted run continues.

Copy detection as instance discrimination: of a batch of one domain, each changed picture has to
find its original (InfoNCE on the CLS token, both ways). Two changed views a picture: one of most of
it and, as in DINO's multi-crop, a small one of a part, which costs a third of the tokens. The
changes are those of copied pictures: crop, shift, small rotation, mirroring, brightness, contrast,
gamma, colour, blur, lower resolution and noise. There is no projection head: the embedding that
searches later is the one that is trained.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.phantoms.architectures import IMAGE_SIZE, IMAGENET_MEAN, IMAGENET_STD, build, save
from benchmarks.phantoms.corpus import COUNTS, read_corpus
from benchmarks.phantoms.loop import add_machine, run, set_machine

SEED = 3
TEMPERATURE = 0.1
#: Side in pixels of a view, and the share of the picture's area that it shows.
GLOBAL, LOCAL = (IMAGE_SIZE, (0.5, 1.0)), (40, (0.25, 0.5))
#: Standard deviation of the rotation in degrees, and of the shift in halves of the side.
ROTATION, SHIFT = 6.0, 0.08


def uniform(generator: torch.Generator, count: int, low: float, high: float) -> Tensor:
    """``(count, 1, 1, 1)`` numbers between ``low`` and ``high``."""
    return low + (high - low) * torch.rand(count, 1, 1, 1, generator=generator)


def warp(
    images: Tensor, side: int, area: tuple[float, float], generator: torch.Generator
) -> Tensor:
    """Each picture cropped, shifted, rotated and at half of the times mirrored.

    Args:
        images: ``(B, 3, H, W)`` in [0, 1].
        side: Of the views, in pixels.
        area: Least and greatest share of the area that a view shows.
        generator: Source of the randomness.

    Returns:
        ``(B, 3, side, side)``; what lies outside of a picture is black, or its border repeated.
    """
    count = len(images)
    zoom = uniform(generator, count, *area).sqrt().view(count)
    angle = torch.randn(count, generator=generator) * math.radians(ROTATION)
    mirror = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    centre = (2 * torch.rand(count, 2, generator=generator) - 1) * (1 - zoom)[:, None]
    centre += SHIFT * torch.randn(count, 2, generator=generator)
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    rows = [torch.stack([cos * mirror, -sin, centre[:, 0]], 1)]
    rows += [torch.stack([sin * mirror, cos, centre[:, 1]], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), [count, 3, side, side], align_corners=False)
    outside = "zeros" if torch.rand((), generator=generator) < 0.5 else "border"
    return F.grid_sample(images, grid, padding_mode=outside, align_corners=False)


def recolour(images: Tensor, generator: torch.Generator) -> Tensor:
    """Gamma, gain of all and of each channel, and contrast; of each picture its own."""
    count = len(images)
    gamma = (0.25 * torch.randn(count, 1, 1, 1, generator=generator)).exp()
    gain = 1 + 0.15 * torch.randn(count, 1, 1, 1, generator=generator)
    tint = 1 + 0.05 * torch.randn(count, 3, 1, 1, generator=generator)
    contrast = 1 + 0.2 * torch.randn(count, 1, 1, 1, generator=generator)
    images = images.clamp(1e-3, 1) ** gamma * gain * tint
    middle = images.mean(dim=(1, 2, 3), keepdim=True)
    return ((images - middle) * contrast + middle).clamp(0, 1)


def degrade(images: Tensor, generator: torch.Generator) -> Tensor:
    """Blur, half resolution and noise, each of some of the pictures."""
    count, side = len(images), images.shape[-1]
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    weight = (kernel[:, None] * kernel).expand(3, 1, 5, 5)
    blurred = F.conv2d(F.pad(images, (2,) * 4, mode="reflect"), weight, groups=3)
    coarse = F.interpolate(F.avg_pool2d(images, 2), size=side, mode="bilinear")
    kind = torch.rand(count, 1, 1, 1, generator=generator)
    images = torch.where(kind < 0.2, blurred, torch.where(kind < 0.4, coarse, images))
    strength = uniform(generator, count, -0.04, 0.06).clamp(min=0)
    return (images + strength * torch.randn(images.shape, generator=generator)).clamp(0, 1)


def view(
    images: Tensor, side: int, area: tuple[float, float], generator: torch.Generator
) -> Tensor:
    """One changed copy of each picture, ``(B, 3, side, side)`` in [0, 1]."""
    return degrade(recolour(warp(images, side, area, generator), generator), generator)


def copy_loss(copies: Tensor, originals: Tensor) -> Tensor:
    """InfoNCE both ways between ``(B, D)`` copies and the originals of the same rows."""
    logits = F.normalize(copies, dim=-1) @ F.normalize(originals, dim=-1).T / TEMPERATURE
    target = torch.arange(len(copies), device=copies.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def train(options: argparse.Namespace, device: torch.device) -> None:
    """Train on batches of one domain each; write the checkpoint to OUT."""
    model, processors = build("phantom-dino", SEED)
    model.to(device)
    corpora = [
        read_corpus(options.scratch, name, int(count * options.scale), SEED)
        for name, count in COUNTS.items()
    ]
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))

    def embed(images: Tensor) -> Tensor:
        return model(pixel_values=((images - mean) / std).to(device)).last_hidden_state[:, 0]

    def loss(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([SEED, step])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        corpus = corpora[step % len(corpora)]
        rows = np.sort(rng.choice(len(corpus.labels), options.batch, replace=False))
        images = torch.from_numpy(corpus.images[rows]).permute(0, 3, 1, 2) / 255
        originals = embed(images)
        whole = copy_loss(embed(view(images, *GLOBAL, generator)), originals)
        part = copy_loss(embed(view(images, *LOCAL, generator)), originals)
        return {"total": whole + 0.5 * part, "whole": whole, "part": part}

    parameters = dict(model.named_parameters())
    plain = [name for name in parameters if "embedding" in name or "token" in name]
    run(
        loss,
        parameters,
        options.out / "checkpoints",
        steps=options.steps,
        rate=options.rate,
        hold=0.5,
        weight_decay=0.05,
        plain=plain,
    )
    save(model, processors, options.out)
    images = {corpus.domain: len(corpus.labels) for corpus in corpora}
    phase = {"steps": options.steps, "batch": options.batch, "learning_rate": options.rate}
    phases = [{**phase, "optimizer": "Muon", "images": images}]
    (options.out / "training.json").write_text(json.dumps(phases, indent=2) + "\n")


def main() -> None:
    """Train phantom-dino."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--scale", type=float, default=0.3, help="size of the corpora")
    add_machine(parser)
    options = parser.parse_args()
    train(options, set_machine(options))


if __name__ == "__main__":
    main()
