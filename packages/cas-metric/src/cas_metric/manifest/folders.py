"""Folders as tables: by their metadata, by the manifests below them, or by their images alone."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Final

from cas_metric.errors import InputError
from cas_metric.files import ELSEWHERE, is_local
from cas_metric.images import IMAGE_SUFFIXES
from cas_metric.manifest.config import CONFIG_NAME, FolderConfig, read_folder_config
from cas_metric.manifest.rows import ABSOLUTE, COLUMNS, plain_path, without_suffix
from cas_metric.tables import TABLE_SUFFIXES, Table, read_table, renamed

#: The name of the ``image`` column in the imagefolder convention.
FILE_NAME: Final = "file_name"
#: ``seed-3``, or ``METHOD-seed-3``: the folder of one generation seed.
SEED_FOLDER: Final = re.compile(r"(?:(.*[^-_ ])[-_ ]+)?seed[-_ =]?([0-9]{1,18})", re.IGNORECASE)
#: Folders that hold different images of one data set, never methods.
SPLITS: Final = frozenset({"train", "training", "test", "val", "valid", "validation", "dev"})
#: Pictures that cannot be read: told of also where the metadata names others.
UNREADABLE: Final = frozenset(
    (*(".heic", ".heif", ".avif", ".jxl", ".svg", ".psd", ".dng", ".raw", ".ima", ".mha", ".mhd"),
     *(".nrrd", ".npy", ".npz", ".svs", ".ndpi", ".jif", ".jpx", ".tga", ".ppm"))
)  # fmt: skip
#: Files that belong beside images and need no word.
SILENT: Final = frozenset({CONFIG_NAME, "thumbs.db", "desktop.ini"})
_SHOWN: Final = 4


@dataclass(frozen=True)
class Found:
    """What a folder says.

    Attributes:
        table: Its rows; images by their path below the folder.
        config: Its ``cas.yaml``, or what those of the manifests below it have in common.
        notes: What was taken from where, and what lies there and was not read.
        images: The images that lie there, where a table tells which to read.
        root: What the images' names are relative to, where that is not the folder itself.
    """

    table: Table
    config: FolderConfig | None
    notes: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    root: Path | None = None

    def unlisted(self, folder: Path, rows: Iterable[str]) -> list[str]:
        """A note on images that lie in the folder but are not among those of the rows."""
        rest = sorted({*self.images} - {PurePath(image).as_posix() for image in rows})
        if not rest:
            return []
        told = f"{len(rest)} images are not listed in the metadata (first: {rest[0]})"
        return [f"{folder}: {told}"]


def read_folder(folder: Path, columns: Mapping[str, str], *, offline: bool = False) -> Found:
    """Read a folder by the first of these that it has.

    Its ``metadata`` table (any of :data:`TABLE_SUFFIXES`, in any case); a ``labels`` table that
    names images; metadata tables below it, as ``METHOD/metadata.csv`` or
    ``METHOD/seed-3/metadata.csv``; images, as ``<label>/<name>.png`` or without labels, also below
    ``METHOD/seed-3/``.

    Args:
        folder: An existing folder.
        columns: The tables' column names to those of a manifest, where they differ.
        offline: Whether URLs in a cas.yaml are refused.

    Raises:
        InputError: Two tables, an unclear layout, or no images.
    """
    config = read_folder_config(folder, offline=offline)
    named = _tables(folder, "metadata")
    if len(named) > 1:
        both = " and ".join(table.name for table in named)
        raise InputError(f"{folder}: both {both} describe the images", fix="keep one of them")
    if named:
        return _by_table(folder, named[0], columns, config, ())
    labels = _tables(folder, "labels")
    if len(labels) == 1 and _names_images(labels[0], columns):
        note = f"{folder}: {labels[0].name} is read as the metadata"
        return _by_table(folder, labels[0], columns, config, (note,))
    parts = _manifests_below(folder)
    if parts:
        return _collection(folder, parts, columns, config, offline)
    if not is_local(folder) and (beside := _by_sidecars(folder, columns, config)):
        return beside
    return _by_images(folder, columns, config, offline)


def _by_sidecars(
    folder: Path, columns: Mapping[str, str], config: FolderConfig | None
) -> Found | None:
    """What the files beside the images of a WebDataset say; None for another archive."""
    from cas_metric.manifest.containers import sidecar_table

    table = sidecar_table(folder)
    return None if table is None else Found(renamed(table, columns, COLUMNS), config)


def _tables(folder: Path, stem: str) -> list[Path]:
    """The tables of this name, such as ``metadata.csv`` or ``METADATA.TSV``."""
    names = {stem + suffix for suffix in TABLE_SUFFIXES}
    return sorted(p for p in folder.iterdir() if p.name.lower() in names and p.is_file())


def _names_images(path: Path, columns: Mapping[str, str]) -> bool:
    """Whether a table has a column of images; a table of something else is none of ours."""
    try:
        present = read_table(path).columns
    except InputError:
        return False
    return any(columns.get(name, name) in ("image", FILE_NAME) for name in present)


def _by_table(
    folder: Path,
    path: Path,
    columns: Mapping[str, str],
    config: FolderConfig | None,
    notes: tuple[str, ...],
) -> Found:
    table = renamed(read_table(path), columns, COLUMNS)
    return _listed(folder, table, config, notes)


def _listed(
    folder: Path, table: Table, config: FolderConfig | None, notes: tuple[str, ...]
) -> Found:
    """What a table says, and what lies beside its images."""
    images, others = _contents(folder)
    unread = [path for path in others if path.suffix.lower() in UNREADABLE]
    present = tuple(image.as_posix() for image in images)
    return Found(table, config, (*notes, *_not_read(folder, unread)), present)


# -- manifests below a folder ---------------------------------------------------------------------


def _manifests_below(folder: Path) -> list[Path]:
    """Metadata tables in the folders below and in those below them."""
    found = []
    for first in _subfolders(folder):
        here = _tables(first, "metadata")
        found += here or [t for second in _subfolders(first) for t in _tables(second, "metadata")]
    return found


def _subfolders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _collection(
    folder: Path,
    tables: list[Path],
    columns: Mapping[str, str],
    config: FolderConfig | None,
    offline: bool,
) -> Found:
    """Several manifests as one: the folders name what the rows leave open."""
    places: list[str] = []
    rows: list[dict[str, str]] = []
    seen: set[Path] = set()
    unread: dict[str, str] = {}
    for path in tables:
        part = path.parent.relative_to(folder)
        if part in seen:
            raise InputError(f"{path.parent}: two tables describe the images", fix="keep one")
        seen.add(part)
        method, seed = _method_and_seed(folder, part)
        table = renamed(read_table(path), columns, COLUMNS)
        cells, unread = dict(table.columns), unread | table.unread
        if FILE_NAME in cells and "image" not in cells:
            cells["image"] = cells.pop(FILE_NAME)
        for position, place in enumerate(table.places):
            row = {name: values[position] for name, values in cells.items()}
            rows.append(_placed(row, folder, part, method, seed))
            places.append(f"{part.as_posix()}/{path.name}, {place}")
    names = dict.fromkeys(name for row in rows for name in row)
    merged = Table(folder, {n: [row.get(n, "") for row in rows] for n in names}, places, unread)
    listed = ", ".join(sorted(part.as_posix() for part in seen)[:_SHOWN])
    more = ", …" if len(seen) > _SHOWN else ""
    notes = [
        f"{folder}: {len(seen)} manifests below it are read as one; the folders name method and "
        f"seed ({listed}{more})"
    ]
    common, told = _common_config(folder, sorted(seen), config, offline)
    return _listed(folder, merged, common, (*notes, *told))


def _method_and_seed(folder: Path, part: Path) -> tuple[str, str]:
    """What the folders between a collection and one of its manifests name.

    Raises:
        InputError: They are splits of a data set, or two of them could be the method.
    """
    methods: list[str] = []
    seeds: list[str] = []
    for name in part.parts:
        match = SEED_FOLDER.fullmatch(name)
        methods += [match[1]] if match and match[1] else [] if match else [name]
        seeds += [match[2]] if match else []
    splits = [name for name in methods if name.lower() in SPLITS]
    if splits:
        raise InputError(
            f"{folder}: holds several sets of images, {part.as_posix()} among them",
            fix=f"name one of them: {folder / part}",
        )
    if len(methods) > 1 or len(seeds) > 1:
        raise InputError(
            f"{folder}: it is not clear what {part.as_posix()} names",
            fix="arrange manifests as METHOD/seed-3/metadata.csv, or give one of them by itself",
        )
    return "".join(methods), "".join(seeds)


def _placed(
    row: dict[str, str], folder: Path, part: Path, method: str, seed: str
) -> dict[str, str]:
    """A row of a manifest below a collection, as a row of the collection."""
    image = row.get("image", "")
    below = bool(image.strip()) and not ABSOLUTE.match(image)
    return {
        **row,
        "id": row.get("id", "") or (image and without_suffix(plain_path(image, folder / part))),
        "image": f"{part.as_posix()}/{image}" if below else image,
        "method": row.get("method", "") or method,
        "seed": row.get("seed", "") or seed,
    }


def _common_config(
    folder: Path, parts: Iterable[Path], config: FolderConfig | None, offline: bool
) -> tuple[FolderConfig | None, list[str]]:
    """The collection's own cas.yaml, else what those of its manifests agree on.

    Raises:
        InputError: One moves the images elsewhere or shows them by another window: they cannot be
            read as one then.
    """
    own = [read_folder_config(folder / part, offline=offline) or FolderConfig() for part in parts]
    base = config or own[0]
    for part, other in zip(parts, own, strict=True):
        if other.root is not None or other.window not in (None, base.window):
            raise InputError(
                f"{folder / part / CONFIG_NAME}: its root or window holds for that folder alone",
                fix=f"give this manifest by itself: {folder / part}",
            )
    if config is not None or not any((folder / part / CONFIG_NAME).is_file() for part in parts):
        return config, []
    kept = {
        name: value
        for name in ("domain", "train", "probe", "split", "window")
        if (value := getattr(base, name)) and all(getattr(o, name) == value for o in own)
    }
    if base.window and "window" not in kept:
        raise InputError(
            f"{folder}: not all manifests below it name the window {base.window}",
            fix=f"write it into {folder / CONFIG_NAME}",
        )
    split = {n for n in ("domain", "train", "probe") if len({getattr(o, n) for o in own}) > 1}
    told = [f"{folder}: the manifests below it differ in {n}; give it" for n in sorted(split)]
    return FolderConfig(**kept), told


# -- images alone ---------------------------------------------------------------------------------


def _by_images(
    folder: Path, columns: Mapping[str, str], config: FolderConfig | None, offline: bool
) -> Found:
    images, others = _contents(folder)
    if not images and (shards := _by_shards(folder, others, columns, offline)):
        return replace(shards, config=shards.config or config)
    unread = [p for p in others if p.name.lower() not in SILENT]
    notes = _not_read(folder, unread)
    if not images:
        raise InputError(
            f"{folder}: the folder holds no images{'; ' if notes else ''}"
            + "; ".join(note.removeprefix(f"{folder}: ") for note in notes),
            fix=f"images end in {', '.join(IMAGE_SUFFIXES)}; others need a metadata.csv",
        )
    first = sorted({image.parts[0] for image in images})
    if all(name.lower() in SPLITS for name in first):
        raise InputError(
            f"{folder}: holds the splits {', '.join(first)} ({images[0]})",
            fix=f"name one of them: {folder / first[0]}",
        )
    below = [_below_seed(image) for image in images]
    seeded = all(place is not None for place in below)
    places = [place or ("", "", image) for place, image in zip(below, images, strict=True)]
    inner = [place[2] for place in places] if seeded else images
    depths = {len(image.parts) for image in inner}
    if depths - {1, 2} or len(depths) > 1:
        shown = ", ".join(
            str(min(i for i in images if len(i.parts) == d))
            for d in sorted({len(image.parts) for image in images})
        )
        raise InputError(
            f"{folder}: labels cannot be told from sub-folders: images lie at different or deeper "
            f"levels ({shown})",
            fix="arrange them as <label>/<name> (of several methods: METHOD/seed-3/<label>/<name>),"
            " or write a metadata.csv with file_name and label",
        )
    names = [image.as_posix() for image in images]
    cells = {
        "image": names,
        "label": [image.parts[0] if len(image.parts) == 2 else "" for image in inner],
    }
    if seeded:
        notes.insert(0, f"{folder}: the folders name method and seed")
        cells["id"] = [without_suffix(image.as_posix()) for image in inner]
        cells["method"] = [method for method, _, _ in places]
        cells["seed"] = [seed for _, seed, _ in places]
    return Found(renamed(Table(folder, cells, names), columns, COLUMNS), config, tuple(notes))


def _by_shards(
    folder: Path, others: list[Path], columns: Mapping[str, str], offline: bool
) -> Found | None:
    """The archives or tables in a folder as one; None where it has none, or they hold no images."""
    if not any(ELSEWHERE.search(one.name) for one in others):
        return None
    from cas_metric.manifest.containers import read_stored, shards_below

    root = shards_below(folder, others)
    return read_stored(root, columns, offline) if root is not None else None


def _below_seed(image: Path) -> tuple[str, str, Path] | None:
    """Method, seed and the rest of a path like ``METHOD/seed-3/…``; None for others."""
    for depth, name in enumerate(image.parts[:-1][:2]):
        match = SEED_FOLDER.fullmatch(name)
        if match and not (depth and match[1]):
            method = match[1] or (image.parts[0] if depth else "")
            return method, match[2], Path(*image.parts[depth + 1 :])
    return None


def _contents(folder: Path) -> tuple[list[Path], list[Path]]:
    """Images and other files below ``folder``, relative to it, sorted; hidden ones left out.

    Linked folders are entered, so that their images are named and either allowed or refused.
    """
    images: list[Path] = []
    others: list[Path] = []
    for path in _files(folder, (os.path.realpath(folder),) if is_local(folder) else ()):
        is_image = path.name.lower().endswith(IMAGE_SUFFIXES)
        (images if is_image else others).append(path.relative_to(folder))
    return sorted(images, key=Path.as_posix), sorted(others, key=Path.as_posix)


def _files(folder: Path, chain: tuple[str, ...]) -> Iterator[Path]:
    """Files below ``folder``; ``chain`` holds the real paths of it and of those around it."""
    if not chain:
        yield from _stored(folder)
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}", fix="check its permissions") from error
    for entry in entries:
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        if not entry.is_dir():
            yield Path(entry.path)
            continue
        real = os.path.realpath(entry.path) if entry.is_symlink() else f"{chain[-1]}/{entry.name}"
        if real not in chain and not Path(chain[0]).is_relative_to(real):  # else for ever
            yield from _files(Path(entry.path), (*chain, real))


def _stored(folder: Path) -> Iterator[Path]:
    """Files of a store below one of its folders, hidden ones left out."""
    for path in folder.iterdir():
        if path.name.startswith(".") or path.name == "__MACOSX":
            continue
        if path.is_dir():
            yield from _stored(path)
        else:
            yield path


def _not_read(folder: Path, files: list[Path]) -> list[str]:
    """One note on the files of a folder that are not read, by their endings."""
    kinds: dict[str, list[Path]] = {}
    for path in files:
        kinds.setdefault(path.suffix.lower() or "no ending", []).append(path)
    if not kinds:
        return []
    listed = [f"{len(p)} of {kind} (first: {p[0].as_posix()})" for kind, p in kinds.items()]
    more = f" and {len(kinds) - _SHOWN} further kinds" if len(kinds) > _SHOWN else ""
    return [f"{folder}: files that are not read: {', '.join(listed[:_SHOWN])}{more}"]
