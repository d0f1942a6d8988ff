"""Folders in which copies are planted: drawings of four domains, and real photographs and films.

Each world has two halves that share no image: what is chosen is chosen on ``first``, and confirmed
once on ``second``. ``third`` confirms what was chosen again after that: drawings of its own, and
the photographs of ``second`` in another order with other copies among them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.copies.alterations import ALTERATIONS, Picture
from cas_metric.phantoms import DOMAINS, make_phantom, renderer

#: Real images, as folders of the directory that ``CAS_REAL_DATA`` names.
REAL: Final = ("isic2017", "kermany_cxr")
WORLDS: Final = (*DOMAINS, *REAL)
HALVES: Final = ("first", "second", "third")
SIDE: Final = 256


class Sizes(NamedTuple):
    """How many images a half has; ``copies`` of each kind of alteration."""

    train: int
    test: int
    fresh: int
    copies: int


SIZES: Final = Sizes(300, 200, 200, 20)
#: The chest films are 624 in all.
FEW: Final = Sizes(140, 80, 90, 20)


def sizes_of(world: str) -> Sizes:
    """How many images a half of ``world`` has."""
    return FEW if world == "kermany_cxr" else SIZES


def write_world(world: str, half: str, root: Path) -> Path:
    """Folder with ``train``, ``test`` and ``gen``, drawn or read once; ``kinds.csv`` of the last.

    Fresh images have the kind ``""``. Quarters are pasted into fresh images that stand nowhere
    else.
    """
    folder = root / f"{world}-{half}"
    if (folder / "kinds.csv").is_file():
        return folder
    sizes, pictures = sizes_of(world), _pictures(world, half)
    train = list(islice(pictures, sizes.train))
    test = list(islice(pictures, sizes.test))
    fresh = list(islice(pictures, sizes.fresh))
    hosts = list(islice(pictures, sizes.copies)) or fresh
    rng = np.random.default_rng(HALVES.index(half))
    copies, kinds, sources = [], [], []
    for kind, alter in ALTERATIONS.items():
        for number, source in enumerate(rng.choice(len(train), sizes.copies, replace=False)):
            copies.append(alter(train[source], hosts[number % len(hosts)], rng))
            kinds.append(kind)
            sources.append(f"{source:04d}.png")
    for name, images in {"train": train, "test": test, "gen": copies + fresh}.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number, picture in enumerate(images):
            picture.save(folder / name / f"{number:04d}.png", compress_level=1)
        table = pd.DataFrame({"file_name": [f"{k:04d}.png" for k in range(len(images))]})
        table.to_csv(folder / name / "metadata.csv", index=False)
        if world in DOMAINS:
            (folder / name / "cas.yaml").write_text(f"domain: {world}\n")
    rest = len(fresh)
    table = pd.DataFrame({"kind": kinds + [""] * rest, "source": sources + [""] * rest})
    table.to_csv(folder / "kinds.csv", index=False)
    return folder


def real_folder(world: str) -> Path:
    """Where a real data set lies: below ``CAS_REAL_DATA``, else ``../shared/data``."""
    return Path(os.environ.get("CAS_REAL_DATA", "../shared/data")) / world


def _pictures(world: str, half: str) -> Iterator[Picture]:
    """Images of one half, none of them twice."""
    at = HALVES.index(half)
    if world in REAL:
        files = pd.read_csv(real_folder(world) / "metadata.csv")["file_name"].to_numpy()
        files = np.random.default_rng(0).permutation(files)[min(at, 1) :: 2]
        if at > 1:
            files = np.random.default_rng(at).permutation(files)
        yield from (Image.open(real_folder(world) / name).convert("RGB") for name in files)
        return
    classes = renderer(world).classes
    for number in range(10_000 * at, 10_000 * (at + 1)):
        name = classes[number % len(classes)]
        yield Image.fromarray(make_phantom(world, name, number, SIDE).image)
