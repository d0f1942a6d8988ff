"""Planted failures with enough real images beside them to calibrate a score on.

As ``benchmarks.paper.planted_failures``, at full dose, with more real test images than cases: the
images of a class are ranked among them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.paper import planted_failures
from benchmarks.paper.planted_failures import Folders
from cas_metric.domains import load_domain
from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.encoders import Encoder
from cas_metric.manifest import FolderConfig, read_manifest
from cas_metric.phantoms.dataset import read_specs, write_phantom_dataset, write_phantom_folder
from cas_metric.scoring.pipeline import Scores, score_manifests

#: Cases that get an image of every kind; real test images, and as many to train on.
CASES = 120
REAL = {"phantom-fitzpatrick17k": 1000}
_REAL = 480
#: Seed of the phantoms: none of the encoders was trained on them, no other benchmark uses them.
SEED = 3_000_000


def write(domain: str, root: Path, *, seed: int = SEED) -> Folders:
    """Write, or find, the real splits and the planted sets of a domain."""
    size = REAL.get(domain, _REAL)
    real = write_phantom_dataset(
        domain, root / "real", train=size, test=size, seed=seed, balanced=True
    )
    specs = {split: read_specs(folder) for split, folder in real.items()}
    cases = _spread(specs["test"])
    config = FolderConfig(domain=domain, provenance={"cases": len(cases), "seed": seed})
    items = (
        item
        for item in planted_failures._items(domain, cases, list(specs["train"].values()))
        if item[1]["method"].split(" ")[-1] in ("faithful", "1")
    )
    planted = write_phantom_folder(root / "planted", config, items, lambda: None)
    return Folders(real["train"], real["test"], planted)


def score(domain: str, folders: Folders, encoder: Encoder, cache: EmbeddingCache) -> Scores:
    """The planted images against the test split, with a probe of the training split."""
    return score_manifests(
        read_manifest(folders.planted), read_manifest(folders.test), encoder=encoder, cache=cache,
        domain=load_domain(domain), train=read_manifest(folders.train),
    )  # fmt: skip


def _spread(specs: dict[str, Any]) -> dict[str, Any]:
    """The first cases of each class, :data:`CASES` in all."""
    labels = np.array([spec.label for spec in specs.values()])
    each = CASES // len(set(labels))
    first = {label: set(np.flatnonzero(labels == label)[:each]) for label in set(labels)}
    kept = set().union(*first.values())
    return {name: spec for row, (name, spec) in enumerate(specs.items()) if row in kept}
