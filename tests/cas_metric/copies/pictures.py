"""Grey test images: real ones that ship inside scikit-image, phantoms, and awkward ones."""

from __future__ import annotations

import numpy as np
from PIL import Image
from skimage import data

from cas_metric.phantoms import make_phantom, renderer


def real_grey(size: int) -> np.ndarray:
    """Fundus, histology, microaneurysms and crops of them: ``(6, size, size)`` in 0..255."""
    fundus, tissue, dots = data.retina(), data.immunohistochemistry(), data.microaneurysms()
    sources = [fundus, tissue, np.stack([dots] * 3, 2), fundus[300:900, 300:900]]
    sources += [tissue[:256, :256], tissue[200:, 200:]]
    return np.stack([grey(picture, size) for picture in sources])


def phantom_grey(size: int, count: int = 6, domain: str = "phantom-chexpert") -> np.ndarray:
    drawn = [make_phantom(domain, label, i, size).image for i, label in labels(count, domain)]
    return np.stack([grey(picture, size) for picture in drawn])


def labels(count: int, domain: str = "phantom-chexpert") -> list[tuple[int, str]]:
    names = renderer(domain).classes
    return [(i, names[i % len(names)]) for i in range(count)]


def grey(pixels: np.ndarray, size: int) -> np.ndarray:
    square = Image.fromarray(pixels).convert("L").resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(square, dtype=np.float32)


def awkward_grey(size: int) -> np.ndarray:
    """Black, white, constant, a white corner on black, a checkerboard, black with faint noise."""
    rng = np.random.default_rng(0)
    corner = np.zeros((size, size))
    corner[: size // 3, : size // 3] = 255
    board = np.indices((size, size)).sum(0) % 2 * 255.0
    faint = rng.integers(0, 2, (size, size)).astype(float)
    plain = [np.full((size, size), value) for value in (0.0, 255.0, 97.0)]
    return np.stack([*plain, corner, board, faint]).astype(np.float32)
