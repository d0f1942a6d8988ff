"""Manifests from tables and folders."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cas_metric.errors import InputError, PreflightError
from cas_metric.files import ELSEWHERE, is_local, place, require_utf8
from cas_metric.manifest.cleaning import found_images, plain_cells
from cas_metric.manifest.config import CONFIG_NAME, FolderConfig, read_folder_config
from cas_metric.manifest.folders import FILE_NAME, Found, read_folder
from cas_metric.manifest.rows import (
    COLUMNS,
    GRANT,
    Inside,
    Manifest,
    absolute,
    granted,
    path_problem,
    plain_path,
    without_suffix,
)
from cas_metric.tables import Table, plain, read_table, renamed, require_read

if TYPE_CHECKING:
    import pandas as pd

#: Characters that no name, label or prompt needs: NUL, terminal controls, halves of surrogates.
UNWANTED: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
#: Columns whose cells are names: blanks around them and their Unicode form mean nothing.
PLAIN: Final = ("id", "label", "reference", "patient", "method", "seed")
#: Whole numbers, also as pandas writes them when others are missing: ``3.0``.
SEED: Final = re.compile(r"(-?[0-9]{1,19})(\.0+)?")
#: What others call the column of the images: CheXGenBench, and tables of paths or URLs.
OTHER_NAMES: Final = ("img_savename", "path", "url")
FIX_ROWS: Final = "correct these rows of the manifest"
ALLOW: Final = f"; if you trust it, {GRANT.format('DIR')} allows images elsewhere"


def read_manifest(
    path: str | os.PathLike[str],
    *,
    root: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    allowed_roots: Sequence[str | Path] = (),
    offline: bool = False,
) -> Manifest:
    r"""Read a manifest from a table or a folder, here, on a remote store or in an archive.

    A folder is read by its ``metadata.csv`` (``.tsv``, ``.jsonl``, ``.json``, ``.parquet``) with
    the columns ``file_name``, ``label``, ``prompt`` and any other of :data:`COLUMNS`; without one,
    by those below it as ``METHOD/metadata.csv`` or ``METHOD/seed-3/metadata.csv``; else from
    ``<label>/<name>.png``, or as images without labels. Rows without ``id`` get the path of their
    image without suffix. Values stay text: ``001`` is not ``1``. Of names, blanks around them are
    left aside and their Unicode form is the composed one, with a note; further columns are kept in
    :attr:`Manifest.extra`.

    An archive (``.tar``, ``.zip``, or several by a pattern of their names) is read as the folder
    that is in it, the tar of a WebDataset by the files beside its images; Parquet, Arrow and Lance
    tables that hold images by their rows.

    Args:
        path: Folder, table or archive, also by a URL; see :func:`cas_metric.stores.located`.
        root: Folder of the images; by default that of the manifest, or ``root`` in its cas.yaml.
        columns: The table's column names to those of a manifest, where they differ.
        allowed_roots: Folders outside of ``root`` that images may lie in, by absolute paths, ``..``
            or links (a shared image store), besides those that ``CAS_ALLOW_ROOT`` lists. No file
            can grant this.
        offline: Whether anything on the network is refused.

    Raises:
        InputError: The table or folder cannot be read, is empty, lacks its image column, or has a
            misspelt one.
        PreflightError: Rows that cannot be used: no image, a path out of ``root``, a seed that is
            no whole number, unprintable characters. All are listed.

    Examples:
        >>> import tempfile
        >>> table = Path(tempfile.mkdtemp(), "test.csv")
        >>> _ = table.write_text("image,label,age\na/001.png, Edema,70\n")
        >>> manifest = read_manifest(table)
        >>> manifest.rows[["id", "label"]].values.tolist(), manifest.extra["age"].tolist()
        ([['a/001', 'Edema']], ['70'])
    """
    path = place(path, offline=offline)
    try:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder", fix="check the path")
    except PermissionError as error:  # of a folder above it
        raise InputError(f"{path}: {error.strerror}", fix="check its permissions") from error
    require_utf8(path, fix="rename it")
    found = _found(path, columns or {}, offline)
    folder = path if path.is_dir() else path.parent
    config = found.config
    manifest = manifest_of(
        found.table,
        place(root or (config and config.root) or found.root or folder, offline=offline),
        config=config,
        allowed_roots=allowed_roots,
        offline=offline,
    )
    notes = [] if root else _config_notes(folder, config, manifest.allowed_roots)
    notes += [*found.notes, *found.unlisted(folder, manifest.rows["image"])]
    return replace(manifest, notes=(*manifest.notes, *notes))


def _found(path: Path, columns: Mapping[str, str], offline: bool) -> Found:
    if ELSEWHERE.search(path.name):
        from cas_metric.manifest.containers import read_stored

        if found := read_stored(path, columns, offline):
            return found
    if path.is_dir():
        return read_folder(path, columns, offline=offline)
    table = renamed(read_table(path), columns, COLUMNS)
    return Found(table, read_folder_config(path.parent, offline=offline))


def manifest_of(
    table: Table,
    root: Path,
    *,
    config: FolderConfig | None = None,
    allowed_roots: Sequence[str | Path] = (),
    offline: bool = False,
) -> Manifest:
    """Check a table and make it a manifest of images below ``root``.

    Raises:
        InputError: It lacks the image column, or has a misspelt one.
        PreflightError: Rows that cannot be used; see :func:`read_manifest`.
    """
    columns, further, notes = name_columns(table)
    root = absolute(root)
    require_utf8(root, fix="rename the folder")
    allowed = granted(allowed_roots)
    columns["image"], links = linked_images(table, columns["image"], offline)
    if any("://" in reference for reference in columns.get("reference", ())):
        from cas_metric.stores.urls import shown

        columns["reference"] = [shown(one) for one in columns["reference"]]
    _check_rows(table, columns, Inside(root, allowed) if allowed else None)
    rows, told = _build_rows(columns, root, len(table.places))
    extra, told_further = _extra(further)
    return Manifest(
        root=root,
        rows=rows,
        config=config,
        allowed_roots=allowed,
        notes=(*notes, *(f"{table.path}: {note}" for note in (*told, *told_further))),
        extra=extra,
        links=links,
        spelt={
            found: image
            for found, image in zip(rows["image"], columns["image"], strict=True)
            if found != image
        },
    )


def linked_images(
    table: Table, images: list[str], offline: bool
) -> tuple[list[str], dict[str, Path]]:
    """The images as they may be shown, and the addresses of those that are URLs.

    Raises:
        InputError: The network would be needed, and is not to be used.
        PreflightError: URLs that are not read from a table.
    """
    if not any("://" in image for image in images):
        return images, {}
    from cas_metric.stores.links import addresses

    return addresses(table.path, images, table.places, offline)


def _config_notes(folder: Path, config: FolderConfig | None, allowed: Sequence[Path]) -> list[str]:
    """What a cas.yaml says of places outside of its folder.

    Raises:
        InputError: Its ``root`` is the home directory or above it, which the caller did not grant.
    """
    if config is None:
        return []
    path, notes = folder / CONFIG_NAME, []
    if config.allow_absolute and not allowed:
        notes.append(
            f"{path}: asks for images outside of its folder; only {GRANT.format('DIR')} grants that"
        )
    root = config.root
    if root is not None and is_local(root) and not root.is_relative_to(folder.resolve()):
        home = Path(os.path.realpath(os.path.expanduser("~")))  # noqa: PTH111  # never raises
        granted = any(root.is_relative_to(other) for other in allowed)
        if root in (home, *home.parents) and not granted:
            raise InputError(
                f"{path}: its root {root} would open all of your files to it",
                fix=f"name the folder of the images, or grant it: {GRANT.format(root)}",
            )
        notes.append(f"{path}: the images are read from {root}")
    return notes


def name_columns(table: Table) -> tuple[dict[str, list[str]], dict[str, list[str]], list[str]]:
    """The table's columns under their names in :data:`COLUMNS`; the further ones; notes.

    A misspelt name is an error, since a column silently unread would change what is scored.
    """
    require_read(table, (*COLUMNS, FILE_NAME))
    columns = dict(table.columns)
    if FILE_NAME in columns:
        if "image" in columns:
            raise InputError(
                f"{table.path}: has both 'image' and 'file_name'", fix="keep one of them"
            )
        columns["image"] = columns.pop(FILE_NAME)
    theirs = [name for name in OTHER_NAMES if name in columns and "image" not in columns]
    if theirs:
        columns["image"] = columns.pop(theirs[0])
    further = {name: cells for name, cells in columns.items() if name not in COLUMNS}
    for name in further:
        meant = _nearest_column(name)
        if meant and meant not in columns and not (meant == FILE_NAME and "image" in columns):
            raise InputError(
                f"{table.path}: unknown column {name!r}", fix=f"did you mean {meant!r}?"
            )
    if "image" not in columns:
        raise InputError(
            f"{table.path}: no column 'image' (or 'file_name') among {', '.join(columns) or '-'}",
            fix="name the column that holds the images' paths 'image'",
        )
    listed = ", ".join(repr(name) for name in further)
    notes = [f"{table.path}: further columns, kept beside the rows: {listed}"] if further else []
    if listed := ", ".join(map(repr, table.unread)):
        notes.append(f"{table.path}: neither text, numbers nor dates, and left out: {listed}")
    return {name: columns[name] for name in COLUMNS if name in columns}, further, notes


def _nearest_column(name: str) -> str:
    """The known column that ``name`` seems to misspell; empty if there is none.

    Two-letter names are compared by spelling only: ``idx`` is no misspelt ``id``.
    """
    plain = name.strip().lower()
    known = [*COLUMNS, FILE_NAME]
    if plain in known:
        return plain
    near = difflib.get_close_matches(plain, [c for c in known if len(c) > 2], n=1, cutoff=0.8)
    return near[0] if near else ""


def _extra(columns: dict[str, list[str]]) -> tuple[pd.DataFrame, list[str]]:
    """Columns that mean nothing here, as text; what no text needs is made visible."""
    import pandas as pd

    printable: dict[str, list[str]] = {}
    notes: list[str] = []
    for name, cells in columns.items():
        shown = UNWANTED.sub("\ufffd", name)
        printable[shown], told = plain_cells(shown, [UNWANTED.sub("\ufffd", c) for c in cells])
        notes += told
    return pd.DataFrame(printable, dtype="str"), notes


def _check_rows(table: Table, columns: dict[str, list[str]], inside: Inside | None) -> None:
    """Refuse a table with rows that cannot be used.

    Raises:
        PreflightError: All of them.
    """
    problems = [
        f"{place}: {problem}"
        for row, place in enumerate(table.places)
        for problem in _row_problems({c: v[row] for c, v in columns.items()}, inside)
    ]
    if problems:
        outside = any(path_problem(image) for image in columns["image"])
        fix = f"{FIX_ROWS}{ALLOW if outside else ''}"
        raise PreflightError([f"{table.path}, {line}" for line in problems], fix=fix)


def _build_rows(
    columns: dict[str, list[str]], root: Path, count: int
) -> tuple[pd.DataFrame, list[str]]:
    """The rows of a manifest, and notes on what was not taken as written."""
    import pandas as pd

    cells = {name: columns.get(name, [""] * count) for name in COLUMNS}
    notes: list[str] = []
    for name in PLAIN:
        cells[name], told = plain_cells(name, cells[name])
        notes += told
    written = cells["image"]
    cells["image"], told = found_images(root, written)
    cells["id"] = [
        given or plain(without_suffix(plain_path(image, root))) or image
        for given, image in zip(cells["id"], written, strict=True)
    ]
    rows = pd.DataFrame(cells, columns=list(COLUMNS), dtype="str")
    seeds = [_seed(text) for text in cells["seed"]]
    return rows.assign(seed=pd.array(seeds, dtype="Int64")), [*notes, *told]


def _row_problems(row: dict[str, str], inside: Inside | None) -> list[str]:
    """What makes one row unusable."""
    problems = [
        f"{name} holds the control character {escape}"
        for name, text in row.items()
        if (escape := _unwanted_character(text))
    ]
    if not row["image"].strip():
        problems.append("no image is named")
    elif why := path_problem(row["image"], inside):
        problems.append(f"the image {row['image']!r} {why}")
    if (seed := plain(row.get("seed", ""))) and _seed(seed) is None:
        problems.append(f"the seed {row['seed']!r} is not a whole number")
    return problems


def _seed(text: str) -> int | None:
    """The whole number of 64 bits in ``text``, else None."""
    match = SEED.fullmatch(text)
    return value if match and -(2**63) <= (value := int(match[1])) < 2**63 else None


def _unwanted_character(text: str) -> str:
    """The first character of ``text`` that is refused, as an escape; empty if there is none."""
    found = UNWANTED.search(text)
    return f"\\x{ord(found[0]):02x}" if found else ""
