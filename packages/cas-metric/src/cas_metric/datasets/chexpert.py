"""CheXpert: frontal chest radiographs with exactly one of four findings (§4.1.1).

An image belongs to the subset when it is frontal, exactly one of the four columns is 1, and none
of the other three is 1 or -1 (uncertain); 0 and blank both count as not stated.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from cas_metric.datasets.base import Collection, Dataset, Partition, Source
from cas_metric.datasets.files import (
    find_file,
    read_csv,
    require_form,
    require_unique,
    require_values,
)
from cas_metric.datasets.paper_tables import LABEL_TABLES
from cas_metric.datasets.splits import draw, official, paper_quotas, split_groups
from cas_metric.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

SOURCE: Final = Source(
    title="CheXpert",
    citation="Irvin et al., AAAI 2019",
    url="https://stanfordmlgroup.github.io/competitions/chexpert/",
    terms="Stanford University Dataset Research Use Agreement, after registration",
    layout="CheXpert-v1.0-small (or CheXpert-v1.0) with train.csv, valid.csv, train/ and valid/",
)

FINDINGS: Final = ("No Finding", "Cardiomegaly", "Pneumonia", "Pleural Effusion")
COLUMNS: Final = ("Path", "Frontal/Lateral", *FINDINGS)

#: Spellings of a label's value; blank means that the report does not mention the finding.
_POSITIVE: Final = ("1", "1.0")
_UNCERTAIN: Final = ("-1", "-1.0")
_VALUES: Final = ("", "0", "0.0", *_POSITIVE, *_UNCERTAIN)

#: The top folder is optional; it differs between the two sizes in which the data set comes.
_EXAMPLE: Final = "CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg"
_PATH: Final = (
    r"(?:CheXpert-v1\.0(?:-small)?/)?"
    r"(?P<image>(?:train|valid|test)/(?P<patient>patient\d+)/study\d+/[A-Za-z0-9_]+\.jpg)"
)

_ARCHIVES: Final = ("CheXpert-v1.0-small", "CheXpert-v1.0")
_TABLES: Final = {
    "train": ["train.csv", "train.csv.gz", "chexpert_train.csv.gz"],
    "test": ["valid.csv"],
}


def read(root: Path, kind: str) -> Collection:
    """The images of the four-class subset.

    Args:
        root: Folder that holds ``train.csv`` and ``valid.csv``, at the top or below.
        kind: ``official`` reads both tables, the other splits the training table only.
    """
    import pandas as pd

    sides = ("train", "test") if kind == "official" else ("train",)
    paths = [find_file(root, _TABLES[side], SOURCE) for side in sides]
    parts = [
        _subset(path, root).assign(official=side) for path, side in zip(paths, sides, strict=True)
    ]
    records = pd.concat(parts, ignore_index=True)
    note = (
        f"{len(records):,} images of {records['patient'].nunique():,} patients are frontal with "
        "exactly one of the four findings, the others neither positive nor uncertain"
    )
    return Collection(records, root, tuple(paths), (note,))


def split(collection: Collection, kind: str, seed: int) -> Partition:
    """One of the three splits; every one is patient-disjoint."""
    records = collection.records
    if kind == "official":
        return official(collection)
    if kind == "patient":
        return split_groups(records["label"].tolist(), records["patient"].tolist(), seed)
    return _paper(records, seed)


def _paper(records: pd.DataFrame, seed: int) -> Partition:
    """The paper's counts, at most one image a patient."""
    order = np.random.default_rng(seed).permutation(len(records))
    first = records.iloc[order].drop_duplicates("patient").index.to_numpy()
    labels = records["label"].iloc[first].tolist()
    quotas = paper_quotas(labels, LABEL_TABLES["chexpert"].rows, keep_all=False)
    drawn = draw(labels, quotas, seed)
    return Partition(
        np.sort(first[drawn.train]),
        np.sort(first[drawn.test]),
        (
            "the paper does not list its 990 images: these are drawn anew, with its counts where "
            "the data suffice, at most one image a patient",
        ),
    )


def _subset(path: Path, root: Path) -> pd.DataFrame:
    table = read_csv(path, COLUMNS)
    require_values(table, "Frontal/Lateral", ("Frontal", "Lateral"), path)
    for finding in FINDINGS:
        require_values(table, finding, _VALUES, path, shown="1, 0, -1 or blank")
    findings = table[list(FINDINGS)]
    positive = findings.isin(_POSITIVE)
    chosen = (
        (table["Frontal/Lateral"] == "Frontal")
        & (positive.sum(axis=1) == 1)
        & ~findings.isin(_UNCERTAIN).any(axis=1)
    )
    if not chosen.any():
        raise InputError(f"{path} holds no image of the four-class subset", fix=SOURCE.where)
    table, positive = table[chosen], positive[chosen]
    parts = require_form(table, "Path", _PATH, path, example=_EXAMPLE)
    require_unique(parts, "image", path)
    folder = _beside(path).relative_to(root).as_posix()
    prefix = "" if folder == "." else f"{folder}/"
    names = np.array(FINDINGS, dtype=object)[positive.to_numpy().argmax(axis=1)]
    return parts.assign(
        id=parts["image"].str.removesuffix(".jpg").str.replace("/", "-"),
        image=prefix + parts["image"],
        label=names,
    )[["id", "image", "label", "patient"]]


def _beside(table: Path) -> Path:
    """The folder that ``train/`` and ``valid/`` lie in: the table's, or that of the archive."""
    places = (table.parent, *(table.parent / name for name in _ARCHIVES))
    return next((place for place in places if (place / "train").is_dir()), table.parent)


DATASET: Final = Dataset(
    name="chexpert",
    domain="chexpert",
    source=SOURCE,
    splits={
        "paper": "990 images of the training table with the counts of Table 20, patient-disjoint",
        "patient": "all images of the four classes in the training table, halved by patient",
        "official": "the publisher's training and validation tables, restricted to the classes",
    },
    read=read,
    split=split,
)
