"""Fitzpatrick17k: clinical photographs of skin, the subset of 20 conditions (§4.1.1).

The public split of the subset can be made again from the CSV alone: for each condition, in
alphabetical order, half of its rows are drawn by NumPy's legacy generator. The training list has
the order in which they were drawn, the test list that of the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from cas_metric.datasets.base import DUPLICATE_DISJOINT, Collection, Dataset, Partition, Source
from cas_metric.datasets.files import find_file, find_images, read_csv, require_form, require_unique
from cas_metric.domains import load_domain
from cas_metric.errors import InputError
from cas_metric.images import sha256_file

SOURCE: Final = Source(
    title="Fitzpatrick17k",
    citation="Groh et al., CVPR Workshops 2021",
    url="https://github.com/mattgroh/fitzpatrick17k",
    terms="CC BY-NC-SA; the images belong to the two dermatology atlases that they are from",
    layout="fitzpatrick17k.csv and images named {md5hash}.jpg below the same folder",
)

COLUMNS: Final = ("md5hash", "label")

#: Seed of the public split.
PUBLIC_SEED: Final = 42

#: sha256 of the public CSV, and of either side's md5 hashes as :func:`list_sha256` joins them.
CSV_SHA256: Final = "851dfaabf1791c2a8b1c2957619f3e0673cf0002f4ce924a5c02d185c7d4a1cd"
TRAIN_SHA256: Final = "c74b15b4fdfabd7ad06f4d6ad17f5a4c91e8d65693a8690a9a5a935e78a5b6e8"
TEST_SHA256: Final = "3f73278eab99d5497d55cc6b0da254a913cd1ed7f4bdb5268c1971af1c31b2ec"

#: The public file is the reference that the documented lists were made from.
_PUBLIC_CSV: Final = "the CSV is the public one"


def read(root: Path, kind: str) -> Collection:
    """The rows of the 20 conditions, in file order.

    Args:
        root: Folder with ``fitzpatrick17k.csv`` and, unless only metadata is wanted, the images.
        kind: Name of the split; the same rows for all.
    """
    path = find_file(root, ["fitzpatrick17k.csv"], SOURCE)
    table = read_csv(path, COLUMNS)
    names = {name.casefold(): name for name in load_domain("fitzpatrick17k").class_names}
    label = table["label"].str.strip().str.casefold().map(names)
    subset = table[label.notna()]
    if subset.empty:
        raise InputError(
            f"{path} holds none of the 20 conditions in its column 'label'", fix=SOURCE.where
        )
    require_form(subset, "md5hash", r"[0-9a-f]{32}", path, example="of 32 hexadecimal digits")
    require_unique(subset, "md5hash", path)
    hashes = subset["md5hash"].tolist()
    files = find_images(root, [f"{value}.jpg" for value in hashes])
    default = next(iter(files.values())).parent if files else path.parent / "images"
    images = [files.get(f"{value}.jpg", default / f"{value}.jpg") for value in hashes]
    records = subset.assign(
        id=hashes,
        image=[image.relative_to(root).as_posix() for image in images],
        label=label[label.notna()],
        patient="",
        official="",
    )[["id", "image", "label", "patient", "official"]].reset_index(drop=True)
    return Collection(records, root, (path,), tuple(_csv_notes(path)))


def split(collection: Collection, kind: str, seed: int) -> Partition:
    """The public split, by image; with another seed than 42 one of the same form."""
    records = collection.records
    train: list[int] = []
    for label in sorted(set(records["label"]), key=str.casefold):
        rows = np.flatnonzero(records["label"] == label)
        # The public lists were drawn with this legacy generator, seeded anew for each condition.
        rng = np.random.RandomState(seed)
        train.extend(rows[rng.choice(len(rows), round(0.5 * len(rows)), replace=False)])
    test = np.setdiff1d(np.arange(len(records)), train)  # in file order, the conditions mixed
    notes = [
        "this split is by image: the CSV names no patients, so several images of one patient may "
        "lie on both sides, although the paper calls it patient-level",
        "near-duplicates are known to lie on both sides: --near-duplicates lists them, "
        f"--split {DUPLICATE_DISJOINT} keeps them together",
    ]
    if seed == PUBLIC_SEED and _PUBLIC_CSV in collection.notes:
        ids = records["id"]
        _check_public_lists(ids[train].tolist(), ids[test].tolist())
        notes.append("both lists are the documented public ones (sha256 compared)")
    return Partition(np.array(train), test, tuple(notes))


def list_sha256(hashes: Sequence[str]) -> str:
    """sha256 of md5 hashes joined by newlines, with one at the end: the form of the constants."""
    return hashlib.sha256("".join(f"{value}\n" for value in hashes).encode()).hexdigest()


def _csv_notes(path: Path) -> list[str]:
    digest = sha256_file(path)
    if digest == CSV_SHA256:
        return [_PUBLIC_CSV]
    return [
        f"{path.name} is not the public file (sha256 {digest[:12]}…, expected "
        f"{CSV_SHA256[:12]}…): the split has the same form, but other members"
    ]


def _check_public_lists(train: list[str], test: list[str]) -> None:
    for side, found, expected in (
        ("train", list_sha256(train), TRAIN_SHA256),
        ("test", list_sha256(test), TEST_SHA256),
    ):
        if found != expected:
            raise InputError(
                f"the {side} list made from the public CSV has sha256 {found}, "
                f"documented is {expected}",
                fix="report this with the version of NumPy: its legacy generator has changed",
            )


DATASET: Final = Dataset(
    name="fitzpatrick17k",
    domain="fitzpatrick17k",
    source=SOURCE,
    splits={
        "paper": "the public half-and-half split of the 20 conditions, by image",
        DUPLICATE_DISJOINT: "halves that share no near-duplicate (pHash), by image",
    },
    read=read,
    split=split,
    refused={
        "patient": "Fitzpatrick17k names no patients, so no patient-disjoint split can be made",
        "official": "Fitzpatrick17k has no official split of the 20 conditions",
    },
)
