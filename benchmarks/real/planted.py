"""Sets of real photographs whose quality is known, in place of generated ones.

``python -m benchmarks.real.planted REAL OTHERS OUT [--images 60]``

REAL and OTHERS are folders or tables of real images, or one and the same. For images of REAL,
spread over its classes, OUT gets a folder a method: ``another`` (an image of OTHERS of the same
class), ``wrong`` (one of another class under this label), ``blurred``, ``pale`` and ``recoloured``
(another one, spoilt), each row with the image of REAL as its reference and its class as prompt.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageEnhance, ImageFilter

from cas_metric.manifest import Manifest, read_manifest

#: What is done to the image of OTHERS.
SPOILT: dict[str, Callable[[Image.Image], Image.Image]] = {
    "another": lambda image: image,
    "wrong": lambda image: image,
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(image.width / 40)),
    "pale": lambda image: ImageEnhance.Contrast(image).enhance(0.3),
    "recoloured": lambda image: Image.merge("RGB", image.split()[::-1]),
}


def plant(real: Manifest, others: Manifest, out: Path, images: int, seed: int = 0) -> None:
    """Write the sets."""
    rng = np.random.default_rng(seed)
    labels, pool = real.rows["label"].to_numpy(), others.rows["label"].to_numpy()
    names = others.rows["id"].to_numpy()
    classes = sorted(set(labels) & set(pool))
    chosen = [
        row
        for name in classes
        for row in rng.permutation(np.flatnonzero(labels == name))[: images // len(classes)]
    ]
    for method, spoil in SPOILT.items():
        folder = out / method
        folder.mkdir(parents=True)
        rows = []
        for row in chosen:
            label = labels[row]
            key = real.rows["id"].iloc[row]
            fits = (pool == label) if method != "wrong" else (pool != label) & (pool != "")
            fits &= names != key  # REAL and OTHERS may be one folder
            source = others.path(int(rng.choice(np.flatnonzero(fits))))
            with Image.open(source) as image:
                spoil(image.convert("RGB")).save(folder / f"{row}.png")
            rows.append(
                {"file_name": f"{row}.png", "id": key, "label": label, "reference": key}
                | {"prompt": f"A medical photograph of the class {label}."}
            )
        pd.DataFrame(rows).to_csv(folder / "metadata.csv", index=False)


def main() -> None:
    """Plant from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("real", type=Path)
    parser.add_argument("others", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=60)
    options = parser.parse_args()
    real, others = (
        read_manifest(path, allowed_roots=[Path(path.anchor or "/")])
        for path in (options.real.resolve(), options.others.resolve())
    )
    plant(real, others, options.out, options.images)


if __name__ == "__main__":
    main()
