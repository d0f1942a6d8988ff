"""The real photographs: which there are, how they are split, and what is measured on them.

``CAS_REAL_DATA`` names the folder that holds ``isic2017`` and ``kermany_cxr``; without it
``../shared/data`` beside the checkout is looked at. Each has a ``metadata.csv`` with ``file_name``,
``id``, ``label`` and, for dermoscopy, ``split``, ``age`` and ``sex``.
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from cas_metric.domains import Domain, load_domain
from cas_metric.errors import InputError

_HERE: Final = Path(__file__).resolve()
#: Side in pixels at which pictures are kept.
SIDE: Final = 256
#: Who learns from a picture, and the share of the groups that each gets.
PARTS: Final = {"evaluator": 0.4, "critic": 0.4, "test": 0.2}
#: Correlation of two thumbnails from which on two pictures count as the same lesion or patient.
SAME: Final = 0.97
_THUMBNAIL: Final = 16


@dataclass(frozen=True)
class World:
    """A data set and its domain pack."""

    name: str
    folder: str
    pack: str

    @property
    def pack_file(self) -> Path:
        """The domain pack."""
        return _HERE.parent / "domains" / self.pack

    @cached_property
    def domain(self) -> Domain:
        """Classes and checklists."""
        return load_domain(self.pack_file)


WORLDS: Final = {
    "skin": World("skin", "isic2017", "isic2017.yaml"),
    "chest": World("chest", "kermany_cxr", "kermany.yaml"),
}


@dataclass(frozen=True)
class Pictures:
    """All pictures of a world.

    Attributes:
        images: ``(N, SIDE, SIDE, 3)`` uint8.
        labels: ``(N,)`` class indices of the domain.
        parts: ``(N,)`` keys of :data:`PARTS`.
        people: Age and sex in words, or nothing, for each picture.
        names: File names.
    """

    images: np.ndarray
    labels: np.ndarray
    parts: np.ndarray
    people: tuple[str, ...]
    names: tuple[str, ...]

    def rows(self, *parts: str) -> np.ndarray:
        """Indices of the pictures of these parts."""
        return np.flatnonzero(np.isin(self.parts, parts))


def data_folder(world: World) -> Path:
    """Where the data set lies.

    Raises:
        InputError: There is none.
    """
    root = Path(os.environ.get("CAS_REAL_DATA") or _HERE.parents[2].parent / "shared" / "data")
    if not (root / world.folder / "metadata.csv").is_file():
        raise InputError(
            f"{root / world.folder}: no metadata.csv", fix="name the folder in CAS_REAL_DATA"
        )
    return root / world.folder


def read_pictures(world: World, limit: int | None = None, pixels: int = SIDE) -> Pictures:
    """Read and split a data set; ``limit`` takes that many pictures of each class.

    ``pixels`` below :data:`SIDE` shows every picture as one of that side, enlarged again: an
    encoder that judges pictures of 64 pixels has to learn from such. The split stays the same.

    What looks the same goes to the same part, so that a lesion photographed twice does not stand
    on both sides. The data name neither lesion nor patient, so that this is a precaution, not a
    guarantee.
    """
    folder = data_folder(world)
    with (folder / "metadata.csv").open(encoding="utf-8", newline="") as stream:
        table = list(csv.DictReader(stream))
    names = list(world.domain.class_names)
    if limit is not None:
        table = [
            row for name in names for row in [row for row in table if row["label"] == name][:limit]
        ]
    images = np.stack([_read(folder / row["file_name"]) for row in table])
    labels = np.array([names.index(row["label"]) for row in table])
    return Pictures(
        images if pixels == SIDE else np.stack([_coarse(image, pixels) for image in images]),
        labels,
        split(labels, groups(images)),
        tuple(_person(row) for row in table),
        tuple(row["file_name"] for row in table),
    )


def _read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _coarse(image: np.ndarray, pixels: int) -> np.ndarray:
    small = Image.fromarray(image).resize((pixels, pixels), Image.Resampling.BICUBIC)
    return np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _person(row: dict[str, str]) -> str:
    age = row.get("age") or "unknown"
    sex = {"male": "man", "female": "woman"}.get(row.get("sex") or "", "")
    years = f"{age} year old" if age != "unknown" else ""
    return " ".join(part for part in (years, sex or ("person" if years else "")) if part)


def groups(images: np.ndarray) -> np.ndarray:
    """``(N,)`` group of each picture: those whose thumbnails correlate by :data:`SAME`, and theirs.

    Args:
        images: ``(N, H, W, 3)`` uint8.
    """
    small = np.stack(
        [
            np.asarray(Image.fromarray(image).convert("L").resize((_THUMBNAIL,) * 2), dtype=float)
            for image in images
        ]
    ).reshape(len(images), -1)
    small -= small.mean(axis=1, keepdims=True)
    small /= np.linalg.norm(small, axis=1, keepdims=True) + 1e-9
    group = np.arange(len(images))
    for left, right in np.argwhere(np.triu(small @ small.T >= SAME, k=1)):
        group[group == group[right]] = group[left]
    return group


def split(labels: np.ndarray, group: np.ndarray) -> np.ndarray:
    """``(N,)`` part of each picture: whole groups, the shares of :data:`PARTS` of each class."""
    rng = np.random.default_rng(0)
    parts = np.full(len(labels), "", dtype=object)
    quota = {
        (part, label): share * np.sum(labels == label)
        for part, share in PARTS.items()
        for label in np.unique(labels)
    }
    for one in rng.permutation(np.unique(group)):
        rows = np.flatnonzero(group == one)
        label = labels[rows[0]]
        part = max(PARTS, key=lambda name: quota[name, label] / PARTS[name])
        parts[rows] = part
        for row in rows:
            quota[part, labels[row]] -= 1
    return parts.astype(str)
