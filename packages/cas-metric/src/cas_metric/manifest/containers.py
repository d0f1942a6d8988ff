"""What archives and tables of images say of their images, as the table of a folder would."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from cas_metric.errors import InputError
from cas_metric.files import is_local, place
from cas_metric.images import IMAGE_SUFFIXES
from cas_metric.manifest.config import read_folder_config
from cas_metric.manifest.folders import Found, read_folder
from cas_metric.manifest.rows import COLUMNS
from cas_metric.stores import Address
from cas_metric.stores.archives import ARCHIVES, Shards, Tar
from cas_metric.stores.base import is_hidden
from cas_metric.stores.opening import rows
from cas_metric.stores.tables import (
    TABLES,
    Rows,
    begins_with_image,
    image_columns,
    part_of,
)
from cas_metric.tables import Table, renamed, table_of

#: Files beside an image of a WebDataset, by what follows the first dot of their name, and the
#: column that each is; a JSON object holds several.
SIDECARS: Final = {"cls": "label", "txt": "prompt", "text": "prompt", "caption": "prompt"}
JSON: Final = "json"
#: Largest file beside an image, in bytes.
MAX_SIDECAR: Final = 1 << 20
#: Members that are not read, of which a note tells by name.
SHOWN: Final = 4


def shards_below(folder: Path, others: list[Path]) -> Path | None:
    """The archives or tables in a folder without images, as one store; None where there are none.

    Args:
        folder: The folder.
        others: The files below it, relative to it.
    """
    for ending in (*ARCHIVES, *TABLES):
        found = {one.parent for one in others if one.name.lower().endswith(ending)}
        if len(found) == 1:
            return place(f"{folder / found.pop()}/*{ending}")
    return None


def image_rows(path: Path, columns: Mapping[str, str]) -> Address | None:
    """The root of a table that holds images; None for a table that does not.

    Args:
        path: A file with one of the endings of tables, or the root of several.
        columns: The table's column names to those of a manifest, where they differ.

    Raises:
        InputError: It cannot be read, or which column holds the images is not clear.
    """
    if path.suffix.lower() not in TABLES:
        return None
    theirs = next((name for name, ours in columns.items() if ours == "image"), None)
    if isinstance(path, Address) and not path.key and isinstance(path.store, Rows):
        return path
    if is_local(path) and path.is_dir() and path.suffix.lower() != ".lance":
        return None
    try:
        part = part_of(path)
    except InputError:
        if path.suffix.lower() == ".parquet":
            return None  # whoever reads it as a table of text says what is wrong
        raise
    found = [name for name in image_columns(part.schema) if begins_with_image(part, name)]
    named = theirs or ("image" if "image" in part.schema.names else None)
    if path.suffix.lower() == ".parquet" and (not found or named not in (None, *found)):
        return None
    if theirs is None and len(found) == 1 and len(image_columns(part.schema)) > 1:
        theirs = found[0]  # the other columns of bytes are something else
    return Address(rows(str(path), (path,), theirs))


def rows_as_table(root: Address, columns: Mapping[str, str]) -> Table:
    """The table of a table's images: a row an image, called as in the store."""
    store = root.store
    assert isinstance(store, Rows)
    cells = store.cells()
    theirs = next((name for name, ours in columns.items() if ours == "image"), "image")
    taken = {theirs, "image", "file_name", store.column}
    cells = {name: values for name, values in cells.items() if name not in taken}
    table = table_of({"image": store.names, **cells}, str(root))
    left = [name for name in store.schema.names if name not in {*taken, *cells, store.named_by}]
    table.unread.update({name: f"{root}: column {name!r} is no text" for name in left})
    given = {name: ours for name, ours in columns.items() if ours != "image"}
    return renamed(table, given, COLUMNS)


def sidecar_table(root: Path) -> Table | None:
    """The table of a WebDataset, whose images have files of their key beside them; else None.

    A key is all of a name up to the first dot behind its folder.

    Raises:
        InputError: A file beside an image cannot be read, or is none of its kind.
    """
    if not isinstance(root, Address) or not isinstance(root.store, Tar | Shards) or root.key:
        return None
    images: list[tuple[str, str]] = []
    beside: dict[str, dict[str, str]] = {}
    for name in root.store.sizes:
        if is_hidden(name):  # what macOS packs beside a file: ``._000.png``
            continue
        folder, _, file = name.rpartition("/")
        stem, _, kind = file.partition(".")
        key = f"{folder}/{stem}" if folder else stem
        if name.lower().endswith(IMAGE_SUFFIXES):
            images.append((name, key))
        elif kind.lower() in (*SIDECARS, JSON):
            beside.setdefault(key, {})[kind.lower()] = name
    if not any(key in beside for _, key in images):
        return None
    told: dict[str, dict[str, Any]] = {}
    for key in dict.fromkeys(key for _, key in images):  # in the order of the archive
        told[key] = _told(root, beside.get(key, {}))
    images.sort()
    names = dict.fromkeys(name for cells in told.values() for name in cells)
    columns = {name: [told[key].get(name) for _, key in images] for name in names}
    return table_of({"image": [name for name, _ in images], **columns}, str(root))


def _told(root: Address, files: Mapping[str, str]) -> dict[str, Any]:
    """What the files beside an image say, by column."""
    cells: dict[str, Any] = {}
    if JSON in files:
        cells = _plain_values(root / files[JSON])
    for kind, column in SIDECARS.items():
        if kind in files and column not in cells:
            cells[column] = _text(root / files[kind]).rstrip("\r\n")
    return cells


def _plain_values(path: Path) -> dict[str, Any]:
    """The text and numbers of a JSON object, numbers as they are spelt."""
    try:
        value = json.loads(_text(path), parse_int=str, parse_float=str, parse_constant=float)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as JSON: {error}", fix="correct it") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: not a JSON object", fix='write {"label": "…"}')
    kept = {k: v for k, v in value.items() if isinstance(v, str | float | bool) or v is None}
    return {name: v for name, v in kept.items() if name not in ("image", "file_name")}


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SIDECAR + 1)
        if len(content) > MAX_SIDECAR:
            raise OSError(errno.EFBIG, f"larger than {MAX_SIDECAR:,} bytes")
        return str(content.decode("utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        cause = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: {cause}", fix="correct it, or pack the archive again") from error


def read_stored(path: Path, columns: Mapping[str, str], offline: bool) -> Found | None:
    """Read an archive, or a table with images in it, as :func:`read_folder` reads a folder.

    None for a table without images, and for a folder that is only called like one.
    """
    if root := image_rows(path, columns):
        config = read_folder_config(path.parent, offline=offline) if is_local(path) else None
        return Found(rows_as_table(root, columns), config, root=root)
    if is_local(path):
        return None
    found = read_folder(path, columns, offline=offline)
    refused = getattr(path.store, "refused", [])  # type: ignore[attr-defined]
    notes = [f"{path}: {line}" for line in refused[:SHOWN]]
    if more := len(refused) - len(notes):
        notes.append(f"{path}: {more} further members are not read")
    return replace(found, root=path, notes=(*notes, *found.notes))
