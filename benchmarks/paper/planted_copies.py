"""Which detectors find which copies: planted copies among phantoms (Appendix M's method, tested).

    python -m benchmarks.paper.planted_copies [--images 500] [--copies 20] [--size 64]
        [--domain phantom-chexpert] [--encoder phantom-dino | none]

Draws a training set, a test set and a generated set of ``--images`` phantoms each. Of every kind of
alteration, ``--copies`` generated images are replaced by altered copies of training images; the
others are fresh phantoms. Prints, for each detector and for their union, the recall of each kind
and the false positives among the fresh ones.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageEnhance

from cas_metric.copies.analysis import Settings, analyse
from cas_metric.copies.pictures import read_pictures
from cas_metric.copies.suspects import FEATURES, PHASH, SSIM, VARIANT, Features
from cas_metric.manifest import read_manifest
from cas_metric.phantoms import make_phantom, renderer

Picture = Image.Image


def jpeg(picture: Picture) -> Picture:
    """Compressed at quality 30."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=30)
    return Image.open(buffer).convert("RGB")


def resized(picture: Picture) -> Picture:
    """To 3/4 of the side and back."""
    small = picture.resize([3 * side // 4 for side in picture.size], Image.Resampling.BICUBIC)
    return small.resize(picture.size, Image.Resampling.BICUBIC)


def cropped(picture: Picture) -> Picture:
    """5% off every side, enlarged to the old size."""
    width, height = picture.size
    box = (0.05 * width, 0.05 * height, 0.95 * width, 0.95 * height)
    return picture.resize(picture.size, Image.Resampling.BICUBIC, box=box)


def noisy(picture: Picture) -> Picture:
    """Gaussian noise of standard deviation 10."""
    values = np.asarray(picture, dtype=np.float64)
    noise = np.random.default_rng(values.astype(int).sum()).normal(0, 10, values.shape)
    return Image.fromarray(np.clip(values + noise, 0, 255).round().astype(np.uint8))


ALTERATIONS: dict[str, Callable[[Picture], Picture]] = {
    "exact": lambda picture: picture,
    "JPEG q=30": jpeg,
    "resized to 3/4 and back": resized,
    "brightness +10%": lambda picture: ImageEnhance.Brightness(picture).enhance(1.1),
    "brightness −10%": lambda picture: ImageEnhance.Brightness(picture).enhance(0.9),
    "cropped 5% a side": cropped,
    "mirrored": lambda picture: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "noise σ=10": noisy,
}


def draw(domain: str, seed: int, size: int) -> Picture:
    """Phantom ``seed``; classes in turn."""
    classes = renderer(domain).classes
    return Image.fromarray(make_phantom(domain, classes[seed % len(classes)], seed, size).image)


def write_sets(root: Path, options: argparse.Namespace) -> list[str]:
    """Write the three folders; return the kind of each generated image, empty for fresh ones."""
    n, seeds = options.images, iter(range(4 * options.images))
    sets = {
        name: [draw(options.domain, next(seeds), options.size) for _ in range(n)]
        for name in ("train", "test", "generated")
    }
    kinds = [kind for kind in ALTERATIONS for _ in range(options.copies)]
    sources = np.random.default_rng(0).choice(n, len(kinds), replace=False)
    for place, (kind, source) in enumerate(zip(kinds, sources, strict=True)):
        sets["generated"][place] = ALTERATIONS[kind](sets["train"][source])
    for name, pictures in sets.items():
        (root / name / "all").mkdir(parents=True)
        for number, picture in enumerate(pictures):
            picture.save(root / name / "all" / f"{number:05d}.png")
    return kinds + [""] * (n - len(kinds))


def embed(root: Path, spec: str) -> Features | None:
    """Embeddings of the three sets, or None for ``none``."""
    if spec == "none":
        return None
    from cas_metric.embedding.cache import NO_CACHE, EmbeddingCache
    from cas_metric.embedding.passes import embed_image_files
    from cas_metric.encoders import load_encoder

    encoder = load_encoder(spec, offline=True)
    parts = []
    for name in ("generated", "train", "test"):
        with EmbeddingCache(NO_CACHE) as cache:
            paths = read_manifest(root / name).paths()
            parts.append(embed_image_files(paths, encoder, cache).embeddings)
    return Features(*parts)


def main() -> None:
    """Plant, search, and print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--copies", type=int, default=20)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--domain", default="phantom-chexpert")
    parser.add_argument("--encoder", default="phantom-dino")
    options = parser.parse_args()
    if options.copies * len(ALTERATIONS) >= options.images:
        parser.error("no fresh image is left: lower --copies or raise --images")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        kinds = write_sets(root, options)
        sets = [read_manifest(root / name) for name in ("generated", "train", "test")]
        pictures = [
            read_pictures(one, size=options.size, variants=variants)
            for one, variants in zip(sets[:2], ("mirror", "none"), strict=True)
        ]
        found = analyse(
            *(sets[0], sets[1], (pictures[0], pictures[1])),
            test=sets[2],
            features=embed(root, options.encoder),
            settings=Settings(size=options.size, variants="mirror"),
        )
    print(table(found.rows["flags"], kinds, options.encoder))


def table(flags: pd.Series, kinds: list[str], encoder: str) -> str:
    """Recall of each kind and false positives, one line each."""
    marks = flags.str.split(", ")
    detectors = {
        "SSIM > 0.95": (SSIM,),
        "pHash ≤ 5": (PHASH,),
        f"features ({encoder})": (FEATURES,),
        "any of the three": (SSIM, PHASH, FEATURES),
        "pHash of the mirror image": (VARIANT,),
        "all four": (SSIM, PHASH, FEATURES, VARIANT),
    }
    hits = pd.DataFrame(
        {
            name: [any(one in names for one in wanted) for names in marks]
            for name, wanted in detectors.items()
        }
    )
    lines = [
        "| planted | n | " + " | ".join(hits) + " |",
        "|---|" + "---:|" * (len(hits.columns) + 1),
    ]
    for kind in (*ALTERATIONS, ""):
        own = hits[[one == kind for one in kinds]]
        name = kind or "fresh images (false positives)"
        cells = [f"{int(own[column].sum())}" for column in own]
        lines.append(f"| {name} | {len(own)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
