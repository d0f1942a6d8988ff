"""What a verb counts is named when it is counted."""

from __future__ import annotations

import numpy as np
from PIL import Image

import cas_metric


class Heard:
    """A progress that keeps what it was told: ``(name, total)``."""

    def __init__(self) -> None:
        self.name = ""
        self.told: list[tuple[str, int]] = []

    def counting(self, what: str) -> None:
        """The next stretch."""
        self.name = what

    def __call__(self, done: int, total: int) -> None:
        """One step of it."""
        self.told.append((self.name, total))


def test_memorization_names_pairs_and_alignments_as_they_come(tmp_path):
    rng = np.random.default_rng(0)
    for name, count in {"gen": 3, "train": 5, "test": 4}.items():
        (tmp_path / name).mkdir()
        for k in range(count):
            pixels = rng.integers(0, 256, (48, 48), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{k}.png")
    heard = Heard()
    cas_metric.memorization(
        *(tmp_path / "gen", tmp_path / "train", tmp_path / "test"),
        features=False, ssim_size=16, progress=heard,
    )  # fmt: skip
    stretches = list(dict.fromkeys(heard.told))
    assert ("pairs", 15) in stretches
    assert ("images aligned", 3) in stretches
    assert ("images aligned", 15) not in stretches
    # The real images' pairs are counted last, under their own name.
    assert stretches.index(("pairs", 20)) > stretches.index(("images aligned", 3))
