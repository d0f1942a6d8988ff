"""Manifests from tables and folders."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cas_metric.errors import InputError, PreflightError
from cas_metric.images import IMAGE_SUFFIXES
from cas_metric.manifest.config import CONFIG_NAME, FolderConfig, read_folder_config
from cas_metric.manifest.rows import COLUMNS, Inside, Manifest, path_problem
from cas_metric.manifest.tables import TABLE_SUFFIXES, Table, read_table, renamed
from cas_metric.manifest.text import UNWANTED, unwanted_character

if TYPE_CHECKING:
    import pandas as pd

#: The name of the ``image`` column in the imagefolder convention.
FILE_NAME: Final = "file_name"
#: Whole numbers, also as pandas writes them when others are missing: ``3.0``.
SEED: Final = re.compile(r"(-?[0-9]{1,19})(\.0+)?")
FIX_ROWS: Final = "correct these rows of the manifest"
ALLOW: Final = "; --allow-root DIR accepts images elsewhere, if you trust the manifest"


def read_manifest(
    path: str | Path,
    *,
    root: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    allowed_roots: Sequence[str | Path] = (),
) -> Manifest:
    """Read a manifest from a table or a folder.

    A folder is read by its ``metadata.csv`` (or ``.jsonl``, ``.parquet``) with the columns
    ``file_name``, ``label``, ``prompt`` and any other of :data:`COLUMNS`; without one, from
    ``<label>/<name>.png``; without sub-folders, as images without labels. Rows without ``id`` get
    the path of their image without suffix. All values stay text as written, but ``seed``.

    Args:
        path: Folder, ``.csv``, ``.jsonl`` or ``.parquet``.
        root: Folder of the images; by default that of the manifest, or ``root`` in its cas.yaml.
        columns: The table's column names to those of a manifest, where they differ.
        allowed_roots: Folders outside of ``root`` that images may lie in, by absolute paths, ``..``
            or links (a shared image store). No file can grant this.

    Raises:
        InputError: The table or folder cannot be read, is empty, lacks its image column, or has a
            misspelt one.
        PreflightError: Rows that cannot be used: no image, a path out of ``root``, a seed that is
            no whole number, unprintable characters. All are listed.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder", fix="check the path")
    folder = path if path.is_dir() else path.parent
    config = read_folder_config(folder)
    table = _read_folder(path) if path.is_dir() else read_table(path)
    manifest = manifest_of(
        renamed(table, columns or {}, COLUMNS),
        Path(root or (config and config.root) or folder),
        config=config,
        allowed_roots=allowed_roots,
    )
    notes = [] if root else _config_notes(folder, config, manifest.allowed_roots)
    if path.is_dir() and table.path != path:
        notes += _unlisted(path, manifest.rows["image"])
    return replace(manifest, notes=(*manifest.notes, *notes))


def manifest_of(
    table: Table,
    root: Path,
    *,
    config: FolderConfig | None = None,
    allowed_roots: Sequence[str | Path] = (),
) -> Manifest:
    """Check a table and make it a manifest of images below ``root``.

    Raises:
        InputError: It lacks the image column, or has a misspelt one.
        PreflightError: Rows that cannot be used; see :func:`read_manifest`.
    """
    columns, further, notes = name_columns(table)
    root = absolute(root)
    allowed = tuple(absolute(Path(folder)) for folder in allowed_roots)
    return Manifest(
        root=root,
        rows=_build_rows(table, columns, Inside(root, allowed) if allowed else None),
        config=config,
        allowed_roots=allowed,
        notes=tuple(notes),
        extra=_extra(further),
    )


def absolute(folder: Path) -> Path:
    """The folder by its absolute path; one written with ``..`` by the name that it really has."""
    folder = folder.expanduser().absolute()
    return Path(os.path.realpath(folder)) if ".." in folder.parts else folder


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
            f"{path}: asks for images outside of its folder, which only --allow-root DIR grants"
        )
    root = config.root
    if root is not None and not root.is_relative_to(folder.resolve()):
        home = Path(os.path.realpath(os.path.expanduser("~")))  # noqa: PTH111  # never raises
        granted = any(root.is_relative_to(other) for other in allowed)
        if root in (home, *home.parents) and not granted:
            raise InputError(
                f"{path}: its root {root} would open all of your files to it",
                fix=f"name the folder of the images, or grant it: --allow-root {root}",
            )
        notes.append(f"{path}: the images are read from {root}")
    return notes


def _read_folder(folder: Path) -> Table:
    tables = [f for suffix in TABLE_SUFFIXES if (f := folder / f"metadata{suffix}").is_file()]
    if len(tables) > 1:
        both = " and ".join(table.name for table in tables)
        raise InputError(f"{folder}: both {both} describe the images", fix="keep one of them")
    if tables:
        return read_table(tables[0])
    images = _images_of(folder)
    if not images:
        raise InputError(
            f"{folder}: the folder holds no images",
            fix=f"images end in {', '.join(IMAGE_SUFFIXES)}; others need a metadata.csv",
        )
    depths = {len(image.parts) for image in images}
    if depths - {1, 2} or len(depths) > 1:
        shown = ", ".join(str(min(i for i in images if len(i.parts) == d)) for d in sorted(depths))
        raise InputError(
            f"{folder}: labels cannot be told from sub-folders: images lie at different or deeper "
            f"levels ({shown})",
            fix="arrange them as <label>/<name>, or write a metadata.csv with file_name and label",
        )
    labels = [image.parts[0] if len(image.parts) == 2 else "" for image in images]
    names = [image.as_posix() for image in images]
    return Table(folder, {"image": names, "label": labels}, names)


def _images_of(folder: Path) -> list[Path]:
    """Images below ``folder``, relative to it, sorted; hidden files and folders left out."""
    found = (
        file.relative_to(folder)
        for file in folder.rglob("*")
        if file.name.lower().endswith(IMAGE_SUFFIXES)
    )
    visible = (p for p in found if not any(part.startswith(".") for part in p.parts))
    return sorted((p for p in visible if (folder / p).is_file()), key=Path.as_posix)


def _unlisted(folder: Path, listed: Iterable[str]) -> list[str]:
    """A note on images that lie in the folder but not in its metadata."""
    rest = sorted({p.as_posix() for p in _images_of(folder)} - {Path(i).as_posix() for i in listed})
    if not rest:
        return []
    return [f"{folder}: {len(rest)} images are not listed in the metadata (first: {rest[0]})"]


def name_columns(table: Table) -> tuple[dict[str, list[str]], dict[str, list[str]], list[str]]:
    """The table's columns under their names in :data:`COLUMNS`; the further ones; notes.

    A misspelt name is an error, since a column silently unread would change what is scored.
    """
    columns = dict(table.columns)
    if FILE_NAME in columns:
        if "image" in columns:
            raise InputError(
                f"{table.path}: has both 'image' and 'file_name'", fix="keep one of them"
            )
        columns["image"] = columns.pop(FILE_NAME)
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


def _extra(columns: dict[str, list[str]]) -> pd.DataFrame:
    """Columns that mean nothing here as text; what no text needs is made visible."""
    import pandas as pd

    cells = {name: [UNWANTED.sub("\ufffd", cell) for cell in c] for name, c in columns.items()}
    return pd.DataFrame({UNWANTED.sub("\ufffd", name): c for name, c in cells.items()}, dtype="str")


def _build_rows(table: Table, columns: dict[str, list[str]], inside: Inside | None) -> pd.DataFrame:
    import pandas as pd

    problems = [
        f"{place}: {problem}"
        for row, place in enumerate(table.places)
        for problem in _row_problems({c: v[row] for c, v in columns.items()}, inside)
    ]
    if problems:
        outside = any(path_problem(image) for image in columns["image"])
        fix = f"{FIX_ROWS}{ALLOW if outside else ''}"
        raise PreflightError([f"{table.path}, {line}" for line in problems], fix=fix)
    blank = [""] * len(table.places)
    cells = {name: columns.get(name, blank) for name in COLUMNS}
    cells["id"] = [
        given or without_suffix(image)
        for given, image in zip(cells["id"], cells["image"], strict=True)
    ]
    rows = pd.DataFrame(cells, columns=list(COLUMNS), dtype="str")
    seeds = [_seed(text) for text in cells["seed"]]
    return rows.assign(seed=pd.array(seeds, dtype="Int64"))


def _row_problems(row: dict[str, str], inside: Inside | None) -> list[str]:
    """What makes one row unusable."""
    problems = [
        f"{name} holds the control character {escape}"
        for name, text in row.items()
        if (escape := unwanted_character(text))
    ]
    if not row["image"].strip():
        problems.append("no image is named")
    elif why := path_problem(row["image"], inside):
        problems.append(f"the image {row['image']!r} {why}")
    if row.get("seed") and _seed(row["seed"]) is None:
        problems.append(f"the seed {row['seed']!r} is not a whole number")
    return problems


def _seed(text: str) -> int | None:
    """The whole number of 64 bits in ``text``, else None."""
    match = SEED.fullmatch(text)
    return value if match and -(2**63) <= (value := int(match[1])) < 2**63 else None


def without_suffix(image: str) -> str:
    """The path of an image without the ending of its format: the id of a row without one."""
    lower = image.lower()
    # Longest first, so that ".nii.gz" goes as a whole.
    for suffix in sorted(IMAGE_SUFFIXES, key=len, reverse=True):
        if lower.endswith(suffix) and len(lower) > len(suffix):
            return image[: -len(suffix)]
    return image
