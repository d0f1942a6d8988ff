"""Tiny models of every family, built once, and caches that stay out of the user's home."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from skimage import data, transform
from tests.support import tiny_models

BUILDERS: dict[str, Callable[..., Path]] = {
    "siglip": tiny_models.build_siglip,
    "clip": tiny_models.build_clip,
    "metaclip2": tiny_models.build_metaclip2,
    "dinov2": tiny_models.build_dinov2,
}


@pytest.fixture(scope="session", autouse=True)
def _own_caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {name: build(root / name) for name, build in BUILDERS.items()}


@pytest.fixture(scope="session")
def photographs() -> list[np.ndarray]:
    """Real images of several sizes and aspect ratios, ``(H, W, 3)`` uint8."""
    retina, tissue = data.retina(), data.immunohistochemistry()
    shapes = [(retina, (150, 201)), (retina, (97, 64)), (tissue, (128, 128)), (tissue, (45, 80))]
    resized = [transform.resize(image, shape, anti_aliasing=True) for image, shape in shapes]
    return [np.rint(image * 255).astype(np.uint8) for image in resized] + [tissue]
