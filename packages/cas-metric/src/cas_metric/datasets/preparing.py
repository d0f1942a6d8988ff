"""From a folder of a clinical data set to manifests that every command reads."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cas_metric.datasets import breakhis, chexpert, fitzpatrick17k, origa
from cas_metric.datasets.base import DUPLICATE_DISJOINT, Collection, Dataset, Partition
from cas_metric.datasets.duplicates import (
    Track,
    exact_copies,
    near_copies,
    split_apart,
    untracked,
)
from cas_metric.datasets.files import missing_images, require_folder
from cas_metric.datasets.paper_tables import ClassCount, count_classes
from cas_metric.datasets.splits import few_shot
from cas_metric.errors import InputError
from cas_metric.images import sha256_file
from cas_metric.manifest import (
    FolderConfig,
    read_folder_config,
    write_folder_config,
    write_manifest,
)

if TYPE_CHECKING:
    import pandas as pd

DATASETS: Final[dict[str, Dataset]] = {
    module.DATASET.name: module.DATASET for module in (fitzpatrick17k, chexpert, breakhis, origa)
}

#: Columns of a collection's records that go into a manifest.
_MANIFEST: Final = ["id", "image", "label", "patient"]
_SUFFIXES: Final = (".parquet", ".csv", ".jsonl")
_SHOWN: Final = 5


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        dataset: Key of :data:`DATASETS`.
        root: Folder of the data set.
        split: Name of a split; each data set has its own.
        seed: Seeds every draw.
        shots: Training images a class; None keeps all.
        metadata_only: Do not look at the images, which then need not be there.
        allow_missing: Leave out images that are missing or empty instead of refusing.
        near_duplicates: Also list near-duplicates by pHash, which decodes every image.
    """

    dataset: str
    root: Path
    split: str = "paper"
    seed: int = 42
    shots: int | None = None
    metadata_only: bool = False
    allow_missing: bool = False
    near_duplicates: bool = False


@dataclass(frozen=True)
class Preparation:
    """A prepared data set.

    Attributes:
        request: What was asked for.
        root: Folder that the images' paths are relative to.
        train: Manifest rows of the training side.
        test: Manifest rows of the test side.
        counts: Images a class beside those of the paper, before any few-shot draw.
        differences: Where the split departs from the paper's table, one line each.
        copies: One row for each image that is shown more than once.
        notes: What a person should know about the split.
        files: Tables that were read, with their sha256.
    """

    request: Request
    root: Path
    train: pd.DataFrame
    test: pd.DataFrame
    counts: list[ClassCount]
    differences: list[str]
    copies: pd.DataFrame
    notes: list[str]
    files: dict[str, str]


def prepare(request: Request, track: Track = untracked) -> Preparation:
    """Verify a data set, split it, and compare the split with the paper's.

    Args:
        request: What to prepare.
        track: Wraps long loops in a progress bar.

    Raises:
        InputError: Unknown data set or split, files that are missing or malformed.
    """
    dataset = _dataset(request.dataset)
    dataset.check_split(request.split)
    _check_options(request)
    root = require_folder(request.root, dataset.source)
    collection = dataset.read(root, request.split)
    if request.split == DUPLICATE_DISJOINT:
        partition = split_apart(collection, request.seed, track)
    else:
        partition = dataset.split(collection, request.split, request.seed)
    notes = [*collection.notes, *partition.notes]
    if not request.metadata_only:
        partition, left_out = _present(collection, partition, dataset, request.allow_missing)
        notes += left_out
    labels = collection.records["label"].tolist()
    counts, differences = count_classes(
        dataset.name, [labels[i] for i in partition.train], [labels[i] for i in partition.test]
    )
    copies, found = _copies(collection, partition, request, track)
    train = partition.train
    if request.shots is not None:
        train = few_shot(train, labels, request.shots, request.seed)
        found.append(
            f"the training side was reduced to {request.shots} images a class (seeded); "
            "the counts of classes are those before"
        )
    rows = collection.records[_MANIFEST]
    return Preparation(
        request=request,
        root=root,
        train=rows.iloc[train].reset_index(drop=True),
        test=rows.iloc[partition.test].reset_index(drop=True),
        counts=counts,
        differences=differences,
        copies=copies,
        notes=notes + found,
        files={path.relative_to(root).as_posix(): sha256_file(path) for path in collection.files},
    )


def write(preparation: Preparation, out: Path) -> dict[str, Path]:
    """Write the manifests, ``cas.yaml``, the label counts and the copies.

    Args:
        preparation: What :func:`prepare` returned.
        out: A folder, which gets ``train.parquet`` and ``test.parquet``; or a file
            ``NAME.parquet`` (``.csv``, ``.jsonl``), whose folder gets ``NAME-train.parquet`` and
            ``NAME-test.parquet``.

    Returns:
        What each file is to its path.

    Raises:
        InputError: The folder cannot be written to, its ``cas.yaml`` is of something else, or one
            of the files lies there and no ``cas.yaml`` says that it was written here.
    """
    import pandas as pd

    named = out.suffix.lower() in _SUFFIXES
    folder, stem, suffix = (
        (out.parent, f"{out.stem}-", out.suffix.lower()) if named else (out, "", ".parquet")
    )
    present = read_folder_config(folder)
    if present is not None and present.provenance.get("dataset") != preparation.request.dataset:
        raise InputError(
            f"{folder}: holds a cas.yaml of something else, which would be replaced",
            fix="give another --out",
        )
    paths = {side: folder / f"{stem}{side}{suffix}" for side in ("train", "test")}
    tables = {name: folder / f"{stem}{name}.csv" for name in ("labels", "copies")}
    taken = next((one for one in (*paths.values(), *tables.values()) if one.exists()), None)
    if present is None and taken is not None:
        raise InputError(
            f"{taken} is there already, and no cas.yaml says that it was written here",
            fix="give another --out",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # First, so that what is cut short is known as its own.
        paths["config"] = write_folder_config(folder, _config(preparation, paths["train"]))
        for side, rows in (("train", preparation.train), ("test", preparation.test)):
            write_manifest(rows, paths[side])
        paths["labels"] = tables["labels"]
        pd.DataFrame(map(asdict, preparation.counts)).to_csv(paths["labels"], index=False)
        tables["copies"].unlink(missing_ok=True)  # of another split
        if len(preparation.copies):
            paths["copies"] = tables["copies"]
            preparation.copies.to_csv(paths["copies"], index=False)
    except OSError as error:
        raise InputError(f"{folder} cannot be written to: {error}") from None
    return paths


def _dataset(name: str) -> Dataset:
    try:
        return DATASETS[name]
    except KeyError:
        raise InputError(
            f"there is no data set called {name!r}", fix=f"known: {', '.join(DATASETS)}"
        ) from None


def _check_options(request: Request) -> None:
    looks = [
        option
        for option, given in (
            ("--near-duplicates", request.near_duplicates),
            (f"--split {DUPLICATE_DISJOINT}", request.split == DUPLICATE_DISJOINT),
        )
        if given
    ]
    if request.metadata_only and looks:
        raise InputError(
            f"{looks[0]} looks at the images, --metadata-only does not", fix="drop one of the two"
        )
    if not 0 <= request.seed < 2**32:  # the range of the legacy generator of Fitzpatrick17k
        raise InputError(f"--seed is {request.seed}", fix=f"use 0 to {2**32 - 1}")


def _present(
    collection: Collection, partition: Partition, dataset: Dataset, allow_missing: bool
) -> tuple[Partition, list[str]]:
    """The partition without images that are missing or empty; refuses unless that is allowed."""
    chosen = np.concatenate([partition.train, partition.test])
    images = collection.records["image"].iloc[chosen].tolist()
    gone = {
        int(chosen[i]): f"{images[i]} ({why})" for i, why in missing_images(collection.root, images)
    }
    if not gone:
        return partition, []
    shown = ", ".join(list(gone.values())[:_SHOWN])
    told = f"{len(gone):,} of {len(chosen):,} images are missing or empty, e.g. {shown}"
    if not allow_missing or len(gone) == len(chosen):
        raise InputError(
            told,
            fix=f"{dataset.source.where}. --allow-missing leaves them out, --metadata-only "
            "prepares the tables without looking at images",
        )
    train, test = (
        np.array([i for i in side if i not in gone], dtype=np.int64)
        for side in (partition.train, partition.test)
    )
    return Partition(train, test), [f"left out: {told}"]


def _copies(
    collection: Collection, partition: Partition, request: Request, track: Track
) -> tuple[pd.DataFrame, list[str]]:
    """One row for every image that is shown twice, and how many sets span both sides."""
    import pandas as pd

    columns = ["group", "kind", "distance", "side", "id", "label"]
    if request.metadata_only:
        return pd.DataFrame(columns=columns), ["images were not looked at (--metadata-only)"]
    chosen = np.concatenate([partition.train, partition.test])
    sides = np.array(["train"] * len(partition.train) + ["test"] * len(partition.test))
    records = collection.records.iloc[chosen]
    paths = [collection.root / image for image in records["image"]]
    sets = [("exact", 0, positions) for positions in exact_copies(paths, track)]
    notes = []
    if request.near_duplicates:
        pairs, broken = near_copies(paths, track)
        sets += [("near", pair.distance, [pair.first, pair.second]) for pair in pairs]
        if broken:
            notes.append(f"{len(broken)} images cannot be decoded, e.g. {paths[broken[0]]}")
    rows = [
        (number, kind, distance, sides[i], records["id"].iloc[i], records["label"].iloc[i])
        for number, (kind, distance, positions) in enumerate(sets)
        for i in positions
    ]
    spanning = Counter(kind for kind, _, members in sets if len(set(sides[members])) > 1)
    kinds = {"exact": "sets of identical files"}
    if request.near_duplicates:
        kinds["near"] = "pairs of near-duplicates (pHash)"
    notes += [f"{spanning[kind]} {what} lie on both sides" for kind, what in kinds.items()]
    return pd.DataFrame(rows, columns=columns), notes


def _config(preparation: Preparation, train: Path) -> FolderConfig:
    request = preparation.request
    dataset = DATASETS[request.dataset]
    provenance: dict[str, Any] = {
        "dataset": dataset.name,
        "citation": dataset.source.citation,
        "terms": dataset.source.terms,
        "split": f"{request.split}: {dataset.splits[request.split]}",
        "seed": request.seed,
        "shots": request.shots,
        "sha256": preparation.files,
        "images": {"train": len(preparation.train), "test": len(preparation.test)},
        "notes": [*preparation.notes, *preparation.differences],
    }
    return FolderConfig(
        domain=dataset.domain,
        train=train,
        split=request.split,
        root=preparation.root,
        provenance=provenance,
    )
