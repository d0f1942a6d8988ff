"""Train the diffusion base of a small real world: it knows skin, or chests, and no diagnosis.

``python -m benchmarks.real.generator skin OUT autoencoder --start VAE --steps 4000``, then with
``text`` and with ``unet``, each with the options of ``benchmarks.phantoms.diffusion_*``, whose
recipe this is; an interrupted run continues. Where OUT already has ``vae``, ``tokenizer`` and
``text_encoder`` of a pipeline of the phantoms, ``unet --start`` its UNet is all that is needed.
OUT/pipeline is a Stable Diffusion pipeline of 64 pixels and 16 × 16 latents, which craft-trainer
takes as ``base``.

The pictures are those of the evaluator's and the critic's part, never of the test part; a caption
names the modality alone, sometimes with words drawn regardless of the picture. The text encoder has
read the captions of all classes, without pictures.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.phantoms import diffusion_text, diffusion_unet, diffusion_vae
from benchmarks.phantoms.diffusion_captions import EMPTY, GENERIC, WORDY
from benchmarks.phantoms.diffusion_pictures import Pictures as Drawn
from benchmarks.real.captions import caption, class_texts, phrases
from benchmarks.real.pictures import WORLDS, Pictures, World, read_pictures

SIDE: Final = 64
#: Ways to name each modality.
MODALITIES: Final = {
    "skin": ("dermoscopic photograph of skin", "dermoscopic image", "photograph of a skin lesion"),
    "chest": ("paediatric chest radiograph", "chest radiograph of a child", "frontal chest film"),
}
#: Weight of each caption of a class beside those of the pictures.
_OFTEN: Final = 20


def training_pictures(world: World, pictures: Pictures) -> Drawn:
    """``SIDE`` pixels; of skin also upside down, mirrored and both."""
    rows = pictures.rows("evaluator", "critic")
    images = torch.from_numpy(pictures.images[rows]).permute(0, 3, 1, 2).float()
    small = F.interpolate(images, SIDE, mode="bicubic", antialias=True).round().clamp(0, 255).byte()
    if world.name == "skin":
        small = torch.cat([small, small.flip(2), small.flip(3), small.flip(2, 3)])
    return Drawn(small.contiguous(), np.zeros(len(small), dtype=int), ())


def blind_caption(world: World, rng: np.random.Generator) -> str:
    """A caption of any picture of the world."""
    kind = rng.random()
    if kind < EMPTY:
        return ""
    named = str(rng.choice(MODALITIES[world.name]))
    if kind < EMPTY + WORDY:
        return f"{named}, {' '.join(rng.choice(GENERIC, rng.integers(2, 20), replace=False))}"
    return named


def all_texts(world: World, pictures: Pictures) -> list[str]:
    """Captions of the training pictures, checklists, class names, modalities, generic words."""
    said = phrases(world, pictures)
    rows = pictures.rows("evaluator", "critic")
    told = [caption(world, int(pictures.labels[row]), said[row]) for row in rows]
    fixed = [*class_texts(world), *MODALITIES[world.name], *GENERIC]
    return told + fixed * _OFTEN


def main() -> None:
    """Train one of the three parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("world", choices=list(WORLDS))
    parser.add_argument("out", type=Path)
    parts = parser.add_subparsers(dest="part", required=True)
    diffusion_vae.add_options(parts.add_parser("autoencoder"))
    diffusion_text.add_options(parts.add_parser("text"))
    diffusion_unet.add_options(parts.add_parser("unet"))
    options = parser.parse_args()
    world = WORLDS[options.world]
    pictures = read_pictures(world)
    if options.part == "text":
        diffusion_text.train(all_texts(world, pictures), options.out, options)
        return
    drawn = training_pictures(world, pictures)
    if options.part == "autoencoder":
        diffusion_vae.train(drawn, options.out, options)
        return
    diffusion_unet.train(drawn, lambda _, rng: blind_caption(world, rng), options.out, options)


if __name__ == "__main__":
    main()
