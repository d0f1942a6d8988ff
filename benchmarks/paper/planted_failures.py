"""Sets of phantoms that fail in known ways to a known degree, on disk.

Every image answers the prompt of a case of the real test split. The faithful one shows the case's
finding in another picture; each failing one is that same picture with one thing wrong. Failures
that cannot be graded (a wrong class, a missing finding, a wrong side, a copy of a training image)
are drawn in full; their dose is then the share of the images that fail.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cas_metric.manifest import FolderConfig
from cas_metric.phantoms import Phantom, failures, generator, render_phantom, renderer
from cas_metric.phantoms.base import FindingSpec
from cas_metric.phantoms.dataset import read_specs, write_phantom_dataset, write_phantom_folder

FAITHFUL = "faithful"
COPY = "copy"
#: Failures that come in degrees, and those that do not.
GRADED = ("exaggeration", "blur", "noise", "low_contrast")
UNGRADED = ("wrong_class", "missing_finding", "wrong_side", COPY)
FAILURES = (*UNGRADED, *GRADED)
DOSES = (0.25, 0.5, 0.75, 1.0)
#: Seed of the phantoms: none of the encoders was trained on them.
SEED = 2_000_000
#: First of the random streams of a case; the data sets use those below.
_STREAM = 16


class Folders(NamedTuple):
    """Where the images lie."""

    train: Path
    test: Path
    planted: Path


def method_name(failure: str, dose: float) -> str:
    """Name of a set in the column ``method``."""
    return FAITHFUL if failure == FAITHFUL else f"{failure} {dose:g}"


def write_sets(domain: str, root: Path, *, train: int, images: int) -> Folders:
    """Write, or find, the real splits and all planted sets of a domain.

    Args:
        domain: Phantom domain.
        root: Folder of the domain.
        train: Real training images, classes balanced.
        images: Cases, classes balanced; each gives one image a failure and dose.
    """
    real = write_phantom_dataset(
        domain, root / "real", train=train, test=images, seed=SEED, balanced=True
    )
    config = FolderConfig(
        domain=domain, provenance={"planted": list(FAILURES), "images": images, "train": train}
    )
    specs = {split: read_specs(folder) for split, folder in real.items()}
    items = _items(domain, specs["test"], list(specs["train"].values()))
    planted = write_phantom_folder(root / "planted", config, items, lambda: None)
    return Folders(real["train"], real["test"], planted)


def _items(
    domain: str, cases: Mapping[str, FindingSpec], train: list[FindingSpec]
) -> Iterator[tuple[Phantom, dict[str, Any]]]:
    for number, (case, spec) in enumerate(cases.items()):
        for failure, dose, phantom in _answers(domain, spec, number, train):
            # The request was the prompt of the case, whatever is drawn.
            asked = dataclasses.replace(phantom, prompt=renderer(domain).describe(spec))
            asked = dataclasses.replace(asked, label=spec.label)
            method = method_name(failure, dose)
            name = f"{method.replace(' ', '-')}-{case}"
            yield asked, {"id": name, "reference": case, "method": method}


def _answers(
    domain: str, spec: FindingSpec, number: int, train: list[FindingSpec]
) -> Iterator[tuple[str, float, Phantom]]:
    """The faithful image of a case and all failing ones: failure, dose, phantom."""
    artist = renderer(domain)

    def stream(k: int) -> np.random.Generator:
        return generator(domain, spec.label, SEED, _STREAM + k, number)

    fresh = failures.fresh_nuisance(artist, spec, stream(0))
    yield FAITHFUL, 0.0, render_phantom(artist, fresh)
    for k, failure in enumerate(FAILURES, start=1):
        if failure == COPY:
            own = [other for other in train if other.label == spec.label]
            copied = own[int(stream(k).integers(len(own)))]
            yield failure, 1.0, render_phantom(artist, copied)
            continue
        for dose in DOSES if failure in GRADED else (1.0,):
            yield failure, dose, failures.FAILURES[failure](artist, fresh, stream(k), dose)
