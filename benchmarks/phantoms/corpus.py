"""Rendered phantoms, kept on disk while the tiny models train.

``python -m benchmarks.phantoms.corpus SCRATCH --seed 0`` renders the training corpus of every
domain once: images as one uint8 memory map, prompts and labels as JSON Lines. A directory that is
complete is left as it is.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cas_metric.phantoms import DOMAINS, renderer

#: Images a domain: the more classes a domain has, the more it needs.
COUNTS = {
    "phantom-chexpert": 16_000,
    "phantom-fitzpatrick17k": 32_000,
    "phantom-breakhis": 16_000,
    "phantom-origa": 12_000,
}
#: Held-out phantoms are drawn from seeds that no corpus reaches.
HELD_OUT_SEED = 10**6


@dataclass(frozen=True)
class Corpus:
    """One domain: ``images`` is ``(N, size, size, 3)`` uint8, ``labels`` ``(N,)`` class indices."""

    domain: str
    classes: tuple[str, ...]
    images: np.ndarray
    labels: np.ndarray
    prompts: tuple[str, ...]


def draw(domain: str, count: int, seed: int, size: int) -> Iterator[tuple[np.ndarray, int, str]]:
    """Yield ``count`` phantoms of ``domain``, classes in turn, as image, class index, prompt."""
    artist = renderer(domain)
    rng = np.random.default_rng([seed, DOMAINS.index(domain)])
    for index in range(count):
        label = index % len(artist.classes)
        spec = artist.sample(artist.classes[label], rng)
        yield artist.render(spec, size), label, artist.describe(spec)


def write_corpus(scratch: Path, domain: str, count: int, seed: int, size: int = 64) -> Path:
    """Render one domain into ``scratch``; return its directory, at once if it is complete."""
    folder = scratch / f"{domain}-{seed}-{count}-{size}"
    done = folder / "captions.jsonl"
    if done.exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    images = np.lib.format.open_memmap(
        folder / "images.npy", mode="w+", dtype=np.uint8, shape=(count, size, size, 3)
    )
    lines = []
    for row, (image, label, prompt) in enumerate(draw(domain, count, seed, size)):
        images[row] = image
        lines.append(json.dumps({"label": label, "prompt": prompt}))
    images.flush()
    done.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def read_corpus(scratch: Path, domain: str, count: int, seed: int, size: int = 64) -> Corpus:
    """Open a domain's corpus, rendering it first if need be."""
    folder = write_corpus(scratch, domain, count, seed, size)
    rows = [json.loads(line) for line in (folder / "captions.jsonl").read_text().splitlines()]
    return Corpus(
        domain=domain,
        classes=renderer(domain).classes,
        images=np.load(folder / "images.npy", mmap_mode="r"),
        labels=np.array([row["label"] for row in rows]),
        prompts=tuple(row["prompt"] for row in rows),
    )


def main() -> None:
    """Render the corpora of all domains."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the counts")
    options = parser.parse_args()
    for domain, count in COUNTS.items():
        print(write_corpus(options.scratch, domain, int(count * options.scale), options.seed))


if __name__ == "__main__":
    main()
