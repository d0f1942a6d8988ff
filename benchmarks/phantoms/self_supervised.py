"""Train phantom-dino: a DINOv2 architecture that has seen phantoms but no text and no label.

``python -m benchmarks.phantoms.self_supervised SCRATCH OUT``

Instance discrimination (InfoNCE between two views of one phantom) on the CLS token, with the
changes that a copied image undergoes as the augmentations: crops, mirroring, brightness,
contrast, blur, noise and lower resolution. The projection head is dropped afterwards.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2

from benchmarks.phantoms.architectures import IMAGE_SIZE, IMAGENET_MEAN, IMAGENET_STD, build, save
from benchmarks.phantoms.corpus import COUNTS, read_corpus

SEED = 3
TEMPERATURE = 0.2


def views() -> v2.Compose:
    """What may happen to a picture that is copied; applied to the batch's images one by one."""
    return v2.Compose(
        [
            v2.RandomResizedCrop(IMAGE_SIZE, scale=(0.5, 1.0), ratio=(0.9, 1.1), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.3, 0.3, 0.2, 0.02)], p=0.8),
            v2.RandomApply([v2.GaussianBlur(5, (0.1, 1.2))], p=0.3),
            v2.RandomApply([v2.GaussianNoise(sigma=0.04)], p=0.5),
            v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )


def instance_loss(left: Tensor, right: Tensor) -> Tensor:
    """NT-Xent over ``(B, D)`` views: each image's other view among all of the batch's."""
    features = F.normalize(torch.cat([left, right]), dim=-1)
    logits = features @ features.T / TEMPERATURE
    logits.fill_diagonal_(-torch.inf)
    count = len(left)
    target = torch.cat([torch.arange(count) + count, torch.arange(count)])
    return F.cross_entropy(logits, target)


def train(scratch: Path, out: Path, steps: int, batch: int, rate: float, scale: float) -> None:
    """Train for ``steps`` steps on batches of one domain each; write the checkpoint to ``out``."""
    model, processors = build("phantom-dino", SEED)
    head = nn.Sequential(nn.Linear(128, 256), nn.GELU(), nn.Linear(256, 64))
    corpora = [read_corpus(scratch, name, int(n * scale), SEED) for name, n in COUNTS.items()]
    rng, transform = np.random.default_rng(SEED), views()
    parameters = [*model.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1, (step + 1) / 200) * (0.5 + 0.5 * math.cos(math.pi * step / steps)),
    )
    started, losses = time.time(), []
    for step in range(1, steps + 1):
        corpus = corpora[rng.integers(len(corpora))]
        rows = np.sort(rng.choice(len(corpus.labels), batch, replace=False))
        pixels = torch.from_numpy(corpus.images[rows]).permute(0, 3, 1, 2) / 255
        pair = torch.stack([transform(image) for image in pixels.repeat(2, 1, 1, 1)])
        with torch.autocast("cpu", torch.bfloat16):
            features = head(model(pixel_values=pair).last_hidden_state[:, 0]).float()
        loss = instance_loss(*features.chunk(2))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 100 == 0:
            speed = step * batch / (time.time() - started)
            print(f"{step}/{steps} loss {np.mean(losses[-100:]):.3f} {speed:.0f}/s", flush=True)
        if step % 500 == 0 or step == steps:
            save(model, processors, out)
    images = {corpus.domain: len(corpus.labels) for corpus in corpora}
    phases = [{"steps": steps, "batch": batch, "learning_rate": rate, "images": images}]
    (out / "training.json").write_text(json.dumps(phases, indent=2) + "\n")


def main() -> None:
    """Train phantom-dino."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--scale", type=float, default=0.5, help="size of the corpora")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(SEED)
    train(options.scratch, options.out, options.steps, options.batch, options.rate, options.scale)


if __name__ == "__main__":
    main()
