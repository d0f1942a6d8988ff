"""Parts of a data set as folders of their own, whose images stay where they lie."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from cas_metric.datasets.splits import few_shot
from cas_metric.errors import InputError
from cas_metric.manifest import (
    CONFIG_NAME,
    FolderConfig,
    Manifest,
    read_folder_config,
    read_manifest,
    write_folder_config,
    write_manifest,
)

#: Values that can be the name of a folder everywhere.
_NAME: Final = re.compile(r"[^\W_][\w .+-]*")
#: Names that data sets give to the split that models learn from.
_TRAINING: Final = ("train", "training")


@dataclass(frozen=True)
class View:
    """One part of a data set.

    Attributes:
        folder: It holds ``metadata.csv`` and ``cas.yaml``.
        images: How many images it lists.
        classes: How many labels occur.
    """

    folder: Path
    images: int
    classes: int


def take_shots(
    source: str | Path,
    shots: int,
    out: str | Path,
    *,
    seed: int = 42,
    allowed_roots: Sequence[str | Path] = (),
) -> View:
    """Keep a few training images of each class (Appendix F).

    Args:
        source: Training split: folder or table.
        shots: Images a class; with one seed, fewer are a part of more.
        out: Folder to write.
        seed: Seeds the draw.
        allowed_roots: See :func:`~cas_metric.manifest.read_manifest`.

    Raises:
        InputError: A row without a label, a class with fewer images, or an unusable ``out``.
    """
    manifest = read_manifest(source, allowed_roots=allowed_roots)
    labels = list(manifest.rows["label"])
    if "" in labels:
        raise InputError(f"{source}: a row has no label", fix="label every row")
    kept = few_shot(np.arange(len(manifest)), labels, shots, seed)
    made = {"shots": shots, "shots_seed": seed, "of": str(source)}
    return _write(manifest.take(kept), Path(out), Path(source), {"train": None}, made)


def split_by(
    source: str | Path,
    column: str,
    out: str | Path,
    *,
    domain: str | Path | None = None,
    train: str | None = None,
    allowed_roots: Sequence[str | Path] = (),
) -> dict[str, View]:
    """Divide a manifest by a column that says of every row which split it belongs to.

    Args:
        source: Folder or table.
        column: Name of the column, e.g. ``split`` or ``fold``.
        out: Folder that gets one folder a value.
        domain: Domain pack that each ``cas.yaml`` is to name; by default that of the source.
        train: The value whose images the probe learns from, which the others' ``cas.yaml`` names;
            by default ``train`` or ``training``, where there is one.
        allowed_roots: See :func:`~cas_metric.manifest.read_manifest`.

    Returns:
        Value to what was written, in the order in which the values occur.

    Raises:
        InputError: No such column, rows without a value, a value that cannot name a folder, no
            such ``train``, or an unusable ``out``.
    """
    manifest = read_manifest(source, allowed_roots=allowed_roots)
    values = manifest.column(column).astype(str).to_numpy(dtype=object)
    names = list(dict.fromkeys(values))
    _check_values(source, column, names, sum(values == ""))
    if train is None:
        train = next((name for name in names if name.lower() in _TRAINING), None)
    elif train not in names:
        raise InputError(
            f"{source}: no row has {train!r} in {column!r}", fix=f"it holds {', '.join(names)}"
        )
    views = {}
    for name in names:
        part = manifest.take(np.flatnonzero(values == name))
        changes: dict[str, Any] = {"split": name, "train": None}
        if train not in (None, name):
            changes["train"] = (Path(out) / str(train)).resolve()
        if domain is not None:
            changes["domain"] = _domain(domain)
        made = {"of": str(source), "by": column}
        views[name] = _write(part, Path(out) / name, Path(source), changes, made)
    return views


def _check_values(source: str | Path, column: str, names: list[str], empty: int) -> None:
    if empty:
        raise InputError(f"{source}: {empty} rows have no {column!r}", fix="fill the column")
    for name in names:
        if not _NAME.fullmatch(name) or name.endswith((" ", ".")):
            raise InputError(
                f"{source}: {name!r} in {column!r} cannot name a folder",
                fix="use letters, digits, blanks, hyphens",
            )
    folded = [name.casefold() for name in names]
    if len(set(folded)) < len(folded):
        raise InputError(
            f"{source}: {column!r} holds values that differ in case only: {', '.join(names)}",
            fix="write them alike",
        )


def _domain(spec: str | Path) -> str:
    """The name of a pack, or the absolute path of one, once it has been read."""
    from cas_metric.domains import load_domain
    from cas_metric.domains.loading import find_pack

    load_domain(spec)
    path = Path(spec)
    return str(find_pack(spec).resolve()) if path.suffix in (".yaml", ".yml") else str(spec)


def _write(
    manifest: Manifest, out: Path, source: Path, changes: Mapping[str, Any], made: dict[str, Any]
) -> View:
    """A folder that lists images where they lie.

    Raises:
        InputError: It is the folder of the images or of their table, holds metadata that was not
            written here, or cannot be made.
    """
    table = source if source.is_dir() else source.parent
    if out.resolve() in (manifest.root.resolve(), table.resolve()):
        raise InputError(
            f"{out} is the folder of the images themselves or of their table, whose cas.yaml "
            "would be replaced",
            fix="give another --out",
        )
    earlier = read_folder_config(out)
    own = next((name for name in ("metadata.csv", CONFIG_NAME) if (out / name).exists()), None)
    if own and not (earlier and "of" in earlier.provenance):
        raise InputError(
            f"{out}: holds a {own} of its own, which would be replaced", fix="give another --out"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{out} cannot be made: {error.strerror}", fix="give another --out"
        ) from None
    config = manifest.config or FolderConfig()
    update = {
        "root": manifest.root.resolve(),
        **changes,
        "provenance": {**config.provenance, **made},
    }
    write_folder_config(out, config.model_copy(update=update))
    write_manifest(manifest.rows, out, extra=manifest.extra)
    return View(out, len(manifest), manifest.rows["label"].nunique())
