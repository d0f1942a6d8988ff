"""Train the critic of a small real world: a SigLIP from scratch, on the critic's part.

``python -m benchmarks.real.critic skin OUT``; an interrupted run continues.

It shares neither architecture nor initial weights nor pictures nor kind of loss with the
evaluator: a vision transformer that begins at random, 128 pixels in patches of 16, images against
captions by SigLIP's pairwise sigmoid loss. As in the embedded world a linear classifier, dropped
afterwards, gives the image tower its gradient at first. OUT/encoder is a directory of
transformers. What its self-test says is printed: a critic may be weaker than the evaluator.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import SiglipImageProcessor

from benchmarks.phantoms.architectures import TOKEN_LIMIT, build_siglip, save, train_tokenizer
from benchmarks.phantoms.loop import run
from benchmarks.phantoms.vision_language import prompt_loss, tokenize, unit
from benchmarks.real.captions import caption, class_texts, phrases
from benchmarks.real.pictures import SIDE as FULL
from benchmarks.real.pictures import WORLDS, Pictures, World, read_pictures
from benchmarks.real.selftest import judge
from benchmarks.real.views import changed
from cas_metric.encoders import load_encoder

SEED: Final = 1
SIDE: Final = 128
WIDTH, DEPTH, HEADS, PATCH = 128, 4, 4, 16
TOKENS: Final = TOKEN_LIMIT["phantom-siglip"]
PART: Final = "critic"


def learn(
    world: World, pictures: Pictures, out: Path, *, steps: int, batch: int, rate: float
) -> Path:
    """Train and write the encoder; return its directory."""
    rows = pictures.rows(PART)
    labels = pictures.labels[rows]
    images = torch.from_numpy(pictures.images[rows]).permute(0, 3, 1, 2).contiguous()
    every = phrases(world, pictures)
    said = [every[row] for row in rows]
    fixed, count = class_texts(world), len(world.domain.class_names)
    told = [caption(world, label, one) for label, one in zip(labels, said, strict=True)]
    tokenizer = train_tokenizer(told + fixed * 20, TOKENS, begin=False)
    torch.manual_seed(SEED)
    model = build_siglip(tokenizer, WIDTH, DEPTH, HEADS, side=SIDE, patch=PATCH)
    classifier = nn.Linear(WIDTH, count)
    with torch.no_grad():
        model.logit_scale.fill_(math.log(10.0))
        model.logit_bias.fill_(-math.log(batch))
    table = tokenize(tokenizer, fixed, TOKENS)
    by_class = [np.flatnonzero(labels == label) for label in range(count)]

    def loss(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([SEED, step])
        chosen = np.array([rng.choice(by_class[index % count]) for index in range(batch)])
        pixels = changed(images[chosen], world, SIDE, int(rng.integers(2**62))) / 127.5 - 1
        texts = [caption(world, labels[row], said[row], rng) for row in chosen]
        tokens = tokenize(tokenizer, texts, TOKENS)
        pooled = model.get_image_features(pixel_values=pixels)
        text = unit(model.get_text_features(input_ids=torch.cat([tokens, table])))
        image, target = unit(pooled), torch.from_numpy(labels[chosen])
        same = (tokens[:, None] == tokens[None]).all(dim=-1)
        paired = prompt_loss(image, text[:batch], same, model.logit_scale, model.logit_bias)
        lists, names = (image @ text[batch:].T * model.logit_scale.exp()).split(count, dim=1)
        direct = classifier(pooled.pooler_output)
        classed = sum(F.cross_entropy(logits, target) for logits in (lists, names, direct))
        hits = (lists.argmax(dim=1) == target).float().mean()
        return {"total": paired + classed, "pairs": paired, "named": hits}

    named = dict(model.named_parameters())
    head = {f"classifier/{name}": value for name, value in classifier.named_parameters()}
    run(
        loss,
        {**named, **head},
        out / "checkpoints",
        steps=steps,
        rate=rate,
        weight_decay=0.1,
        plain=[*(name for name in named if "embedding" in name), *head],
    )
    half = {"image_mean": (0.5,) * 3, "image_std": (0.5,) * 3, "resample": 3}
    processor = SiglipImageProcessor(size={"height": SIDE, "width": SIDE}, **half)
    save(model, [tokenizer, processor], out / "encoder")
    return out / "encoder"


def main() -> None:
    """Train the critic of one world and judge it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("world", choices=list(WORLDS))
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--pixels", type=int, default=FULL, help="of the pictures that it judges")
    options = parser.parse_args()
    torch.set_num_threads(1)
    world = WORLDS[options.world]
    pictures = read_pictures(world, pixels=options.pixels)
    folder = learn(
        world, pictures, options.out, steps=options.steps, batch=options.batch, rate=options.rate
    )
    verdict = judge(world, pictures, load_encoder(folder, device="cpu"), "evaluator")
    print(f"{options.world}: {verdict}")


if __name__ == "__main__":
    main()
