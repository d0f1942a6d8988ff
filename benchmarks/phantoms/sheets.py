"""Contact sheet of a phantom domain: a row for each class, to be judged by eye.

python benchmarks/phantoms/sheets.py chexpert sheet.png --size 256 --columns 8
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from cas_metric.phantoms import make_phantom, renderer

_LABEL_HEIGHT = 14


def sheet(domain: str, *, size: int, columns: int, first_seed: int, zoom: int) -> Image.Image:
    """Rows of classes, columns of seeds, the class name above each row.

    Args:
        domain: Phantom domain, with or without its prefix.
        size: Side at which a phantom is rendered.
        columns: Phantoms of each class.
        first_seed: Seed of the first column.
        zoom: Pixels of the sheet for each rendered pixel.
    """
    classes = renderer(domain).classes
    side = size * zoom
    pitch = side + _LABEL_HEIGHT
    page = Image.new("RGB", (columns * (side + 2), len(classes) * pitch), "white")
    pen = ImageDraw.Draw(page)
    for row, label in enumerate(classes):
        pen.text((2, row * pitch + 1), label, fill="black")
        for column in range(columns):
            phantom = make_phantom(domain, label, first_seed + column, size)
            tile = Image.fromarray(phantom.image.repeat(zoom, axis=0).repeat(zoom, axis=1))
            page.paste(tile, (column * (side + 2), row * pitch + _LABEL_HEIGHT))
    return page


def main() -> None:
    """Write the sheet and print one prompt of each class."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("domain")
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--zoom", type=int, default=1)
    options = parser.parse_args()
    page = sheet(
        options.domain,
        size=options.size,
        columns=options.columns,
        first_seed=options.first_seed,
        zoom=options.zoom,
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    page.save(options.out)
    for label in renderer(options.domain).classes:
        print(f"{label}: {make_phantom(options.domain, label, options.first_seed).prompt}")
    print(f"{options.out}: {np.asarray(page).shape}")


if __name__ == "__main__":
    main()
