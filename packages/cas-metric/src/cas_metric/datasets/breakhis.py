"""BreakHis: breast histopathology at 100x, eight classes (§4.1.1).

Everything is in the file names: ``SOB_B_A-14-22549AB-100-001.png`` is a benign (B) adenosis (A)
of slide 14-22549AB at 100x, image 1.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from cas_metric.datasets.base import Collection, Dataset, Partition, Source
from cas_metric.datasets.files import find_folder
from cas_metric.datasets.paper_tables import LABEL_TABLES
from cas_metric.datasets.splits import draw, paper_quotas, split_groups
from cas_metric.domains import load_domain
from cas_metric.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

SOURCE: Final = Source(
    title="BreakHis (BreaKHis_v1)",
    citation="Spanhol et al., IEEE Transactions on Biomedical Engineering 2016",
    url="https://web.inf.ufpr.br/vri/databases/breast-cancer-histopathological-database-breakhis/",
    terms="for research, as stated on that page; cite the authors",
    layout="BreaKHis_v1/histology_slides/breast/{benign,malignant}/SOB/<type>/<slide>/100X/*.png",
)

NAME: Final = re.compile(
    r"SOB_([BM])_(A|F|PT|TA|DC|LC|MC|PC)-(\d+-[A-Za-z0-9]+)-(40|100|200|400)-(\d+)\.png",
    re.IGNORECASE,
)
MAGNIFICATION: Final = "100"
_BRANCH: Final = {"B": "benign", "M": "malignant"}


def read(root: Path, kind: str) -> Collection:
    """The images at 100x.

    Args:
        root: Folder that holds ``BreaKHis_v1``, or any folder on the way to ``breast``.
        kind: Name of the split; the same images for all.
    """
    import pandas as pd

    breast = find_folder(root, lambda names: bool({"benign", "malignant"} & names))
    if breast is None:
        raise InputError(
            f"no folder with benign/ and malignant/ was found in {root}", fix=SOURCE.where
        )
    found, notes = _images(breast)
    if not found:
        raise InputError(f"{breast} holds no images at 100x", fix=SOURCE.where)
    domain = load_domain("breakhis")
    records = pd.DataFrame(
        [
            (
                path.stem,
                path.relative_to(root).as_posix(),
                domain.canonical(code),
                slide.upper(),
                "",
            )
            for path, code, slide in found
        ],
        columns=["id", "image", "label", "patient", "official"],
    )
    twice = records[records.duplicated("id", keep=False)]
    if len(twice):
        first, second = twice["image"].iloc[:2]
        raise InputError(
            f"{len(twice)} images are there more than once, e.g. {first} and {second}",
            fix="name the folder of one copy with --root",
        )
    return Collection(records, root, (), tuple(notes + _slides_with_two_labels(records)))


def split(collection: Collection, kind: str, seed: int) -> Partition:
    """``paper``: by image, with the counts of Table 21; ``patient``: by slide."""
    labels = collection.records["label"].tolist()
    if kind == "patient":
        return split_groups(labels, collection.records["patient"].tolist(), seed)
    quotas = paper_quotas(labels, LABEL_TABLES["breakhis"].rows, keep_all=True)
    drawn = draw(labels, quotas, seed)
    slides = collection.records["patient"].to_numpy()
    shared = np.intersect1d(slides[drawn.train], slides[drawn.test])
    note = (
        f"{len(shared)} of {len(set(slides))} slides have images on both sides, as in any split "
        "of BreakHis by image; --split patient keeps each slide on one"
    )
    return Partition(drawn.train, drawn.test, (note,))


def _images(breast: Path) -> tuple[list[tuple[Path, str, str]], list[str]]:
    """Path, class code and slide of every image at 100x; and notes on what was passed over."""
    found, foreign, misplaced = [], [], []
    for path in sorted(_pngs(breast)):
        match = NAME.fullmatch(path.name)
        if match is None:
            foreign.append(path)
            continue
        branch, code, slide, magnification, _ = match.groups()
        if magnification != MAGNIFICATION:
            continue
        inside = [part.casefold() for part in path.relative_to(breast).parts]
        if inside[0] != _BRANCH[branch.upper()] or "100x" not in inside:
            misplaced.append(path)
        found.append((path, code, slide))
    if misplaced:
        raise InputError(
            f"{len(misplaced)} images lie in a folder that contradicts their name, "
            f"e.g. {misplaced[0]}",
            fix="unpack the archive again; the folder must say benign or malignant and 100X as "
            "the name does",
        )
    if not foreign:
        return found, []
    return found, [f"{len(foreign)} files with other names were left out, e.g. {foreign[0].name}"]


def _pngs(folder: Path) -> Iterator[Path]:
    for where, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.lower().endswith(".png") and not name.startswith("."):
                yield Path(where, name)


def _slides_with_two_labels(records: pd.DataFrame) -> list[str]:
    labels = records.groupby("patient")["label"].unique()
    return [
        f"slide {slide} appears under {len(names)} labels ({', '.join(sorted(names))}): its "
        "images are near-identical tissue with contradictory classes"
        for slide, names in labels.items()
        if len(names) > 1
    ]


DATASET: Final = Dataset(
    name="breakhis",
    domain="breakhis",
    source=SOURCE,
    splits={
        "paper": "half and half by image, with the counts of Table 21",
        "patient": "half and half by slide, so that no slide is on both sides",
    },
    read=read,
    split=split,
    refused={
        "official": "the five official folds of BreakHis are 70/30 and for another task; "
        "they are not offered here"
    },
)
