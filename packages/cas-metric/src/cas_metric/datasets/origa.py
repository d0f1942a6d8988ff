"""ORIGA: retinal fundus photographs, glaucoma or not (§4.1.1).

The paper calls its 454/196 split official. The official one is 325/325 (sets A and B), and
Table 22 counts 200 eyes with glaucoma where ORIGA holds 168: the paper's split cannot be made from
the public data. What can be kept is kept: 454/196 images, and the class counts of the test side.
"""

from __future__ import annotations

from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Final

from cas_metric.datasets.base import Collection, Dataset, Partition, Source
from cas_metric.datasets.files import (
    find_file,
    find_images,
    read_csv,
    require_form,
    require_unique,
    require_values,
)
from cas_metric.datasets.paper_tables import LABEL_TABLES
from cas_metric.datasets.splits import draw, official, paper_quotas
from cas_metric.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

SOURCE: Final = Source(
    title="ORIGA(-light)",
    citation="Zhang et al., EMBC 2010",
    url="https://doi.org/10.1109/IEMBS.2010.5626137",
    terms="on request from the Singapore Eye Research Institute, for research",
    layout="OrigaList.csv (or origa_info.csv) beside Images/*.jpg",
)

#: Either table: the column with the file name, and the one with the label.
LIST_COLUMNS: Final = ("Filename", "Glaucoma", "Set")
INFO_COLUMNS: Final = ("Image", "Label")

_FILE: Final = r"(?P<id>\d+)\.(?:jpg|JPG|jpeg|png)"
_LABELS: Final = {"0": "Normal", "1": "Glaucoma"}
_SIDES: Final = {"A": "train", "B": "test"}


def read(root: Path, kind: str) -> Collection:
    """All images that the table lists.

    Args:
        root: Folder with ``OrigaList.csv`` (preferred) or ``origa_info.csv``, at the top or below.
        kind: ``official`` needs the column ``Set``, which only ``OrigaList.csv`` has.
    """
    path = find_file(root, ["OrigaList.csv", "origa_info.csv"], SOURCE)
    listed = path.name.casefold() == "origalist.csv"
    if kind == "official" and not listed:
        raise InputError(
            f"{path} does not say which set (A or B) an image belongs to",
            fix="the official split needs OrigaList.csv beside it",
        )
    table = read_csv(path, LIST_COLUMNS if listed else INFO_COLUMNS)
    name, label = (LIST_COLUMNS if listed else INFO_COLUMNS)[:2]
    # origa_info.csv gives a path of the machine on which it was written; only its end counts.
    table[name] = table[name].str.strip(" '\"").map(lambda text: PureWindowsPath(text).name)
    table["id"] = require_form(table, name, _FILE, path, example="001.jpg")["id"]
    require_unique(table, "id", path)
    require_values(table, label, tuple(_LABELS), path)
    if listed:
        table["Set"] = table["Set"].str.strip().str.upper()
        require_values(table, "Set", tuple(_SIDES), path)
    records = _records(table, name, label, path, root)
    if listed:
        records["official"] = table["Set"].map(_SIDES).to_numpy()
    return Collection(records, root, (path,))


def split(collection: Collection, kind: str, seed: int) -> Partition:
    """``official``: sets A and B; ``paper``: 454/196 by the test counts of Table 22."""
    if kind == "official":
        return official(collection)
    labels = collection.records["label"].tolist()
    table = LABEL_TABLES["origa"]
    drawn = draw(labels, paper_quotas(labels, table.rows, keep_all=True), seed)
    notes = (
        "the paper calls its 454/196 split official; the official sets A and B hold 325 images "
        "each (--split official)",
        "Table 22 counts 450 eyes without and 200 with glaucoma; ORIGA holds 482 and 168, so the "
        "test side follows the table and the training side takes the rest",
    )
    return Partition(drawn.train, drawn.test, notes)


def _records(table: pd.DataFrame, name: str, label: str, path: Path, root: Path) -> pd.DataFrame:
    import pandas as pd

    beside = [
        folder
        for folder in path.parent.iterdir()
        if folder.is_dir() and folder.name.casefold() == "images"
    ]
    folder = beside[0] if beside else path.parent / "Images"
    files = find_images(folder, table[name].tolist())
    return pd.DataFrame(
        {
            "id": table["id"].to_numpy(),
            "image": [
                files.get(file, folder / file).relative_to(root).as_posix() for file in table[name]
            ],
            "label": table[label].map(_LABELS).to_numpy(),
            "patient": "",
            "official": "",
        }
    )


DATASET: Final = Dataset(
    name="origa",
    domain="origa",
    source=SOURCE,
    splits={
        "paper": "454/196 images, test side with the class counts of Table 22",
        "official": "set A to train, set B to test, 325 images each",
    },
    read=read,
    split=split,
    refused={
        "patient": "ORIGA's tables name no patients, so no patient-disjoint split can be made"
    },
)
