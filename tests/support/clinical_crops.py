"""A small data set of real pictures: crops of those that ship inside scikit-image.

Two classes, a fundus photograph and an immunohistochemistry section, in the folder layout that
``cas score`` reads.
"""

from __future__ import annotations

import csv
import io
import signal
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

CLASSES = ("fundus", "histology")
DOMAIN = """\
name: retina-or-breast
title: Fundus or histology
modality: photograph
classes:
  - name: fundus
    synonyms: [eye]
    checklist: {Location: optic disc and vessels, Color: orange}
  - name: histology
    checklist: {Location: section of tissue, Color: brown and blue}
"""
SIDE = 32


@dataclass(frozen=True)
class Folders:
    """``generated`` are noisy copies of ``test``; ``test`` names domain and ``train``."""

    root: Path

    @property
    def generated(self) -> Path:
        return self.root / "generated"

    @property
    def test(self) -> Path:
        return self.root / "test"

    @property
    def train(self) -> Path:
        return self.root / "train"

    @property
    def domain(self) -> Path:
        return self.root / "domain.yaml"


def write_folders(root: Path, *, a_class: int = 6, seed: int = 0) -> Folders:
    """Write all of it; ``a_class`` crops a class and split."""
    folders, rng = Folders(root), np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    folders.domain.write_text(DOMAIN)
    for split in (folders.train, folders.test):
        crops = {
            f"{split.name}-{label}-{i}": (label, crop)
            for label in CLASSES
            for i, crop in enumerate(_crops(label, a_class, rng))
        }
        _write(split, crops)
        if split == folders.test:
            noisy = {k: (label, _noisy(crop, rng)) for k, (label, crop) in crops.items()}
            _write(folders.generated, noisy)
    config = "domain: ../domain.yaml\ntrain: ../train\nsplit: test\n"
    (folders.test / "cas.yaml").write_text(config)
    return folders


def read_metadata(folder: Path) -> list[dict[str, str]]:
    with (folder / "metadata.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def write_metadata(folder: Path, rows: list[dict[str, str]]) -> None:
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _crops(label: str, count: int, rng: np.random.Generator) -> list[np.ndarray]:
    picture = skimage.data.retina() if label == "fundus" else skimage.data.immunohistochemistry()
    side = min(picture.shape[:2])
    size = side // 5
    margin = side // 4 if label == "fundus" else 0  # black corners around the retina
    corners = rng.integers(margin, side - margin - size, size=(count, 2))
    crops = (picture[y : y + size, x : x + size] for y, x in corners)
    return [np.asarray(Image.fromarray(crop).resize((SIDE, SIDE))) for crop in crops]


def _noisy(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.clip(crop + rng.normal(0, 3, crop.shape), 0, 255).astype(np.uint8)


def _write(folder: Path, crops: dict[str, tuple[str, np.ndarray]]) -> None:
    folder.mkdir()
    rows = []
    for key, (label, crop) in crops.items():
        Image.fromarray(crop).save(folder / f"{key}.png")
        row = {"id": key, "file_name": f"{key}.png", "label": label}
        rows.append({**row, "prompt": f"{label} photograph, detail {key[-1]}"})
    write_metadata(folder, rows)


@dataclass(frozen=True)
class Finished:
    """What a command left behind."""

    code: int
    out: str
    err: str


def cas(*arguments: object) -> Finished:
    """Run ``cas`` in this process, as its entry point does."""
    from cas_metric.cli.main import main

    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["cas", *map(str, arguments)]
    code = 0
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        sys.argv = before
    return Finished(code, out.getvalue(), err.getvalue())


#: Kills the process, as the kernel would, in its third forward pass over images.
KILL_IN_THIRD_BATCH = f"""
import itertools, os
from cas_metric.encoders.model import ModelEncoder
calls, forward = itertools.count(1), ModelEncoder.embed_pixels
def embed_pixels(self, inputs):
    if next(calls) == 3:
        os.kill(os.getpid(), {int(signal.SIGKILL)})
    return forward(self, inputs)
ModelEncoder.embed_pixels = embed_pixels
import cas_metric.embedding.passes
cas_metric.embedding.passes._COMMIT_BATCHES = 1
"""
#: The command line, for a process of its own.
CAS = "from cas_metric.cli.main import main\nmain()\n"
