"""Whatever names images, as a manifest: paths, manifests, frames, Hugging Face data sets."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from cas_metric.errors import CasError, InputError
from cas_metric.files import cache_directory
from cas_metric.manifest.reading import read_manifest
from cas_metric.manifest.rows import ANYWHERE, Manifest

if TYPE_CHECKING:
    import datasets
    import pandas as pd
    import polars

    Frame: TypeAlias = pd.DataFrame | polars.DataFrame
    Source: TypeAlias = str | os.PathLike[str] | Manifest | Frame | datasets.Dataset

#: Folder of exported data sets, below the cache directory.
EXPORTS: Final = "datasets"
_FIX: Final = (
    "give a folder, a table, a Manifest, a pandas or polars DataFrame, or one split of a Hugging "
    "Face data set; from_torch in cas_metric.manifest.adapters writes a torch data set to a folder"
)


def as_manifest(
    source: Source,
    *,
    root: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    allowed_roots: Sequence[str | Path] = (),
    offline: bool = False,
) -> Manifest:
    """The manifest that a source describes, whatever its form.

    Args:
        source: A folder, table or archive, here or by a URL; a manifest, which is returned as it
            is; a pandas or polars frame with one row an image; or a split of a Hugging Face data
            set, whose images are written once into a folder below the cache directory that is named
            by their content.
        root: Folder that relative paths start from: for a frame by default the current one, for a
            table its own.
        columns: The source's column names to those of a manifest, where they differ.
        allowed_roots: Folders outside of ``root`` that images may lie in. The paths of a frame were
            written by the caller and may lead anywhere unless this says otherwise.
        offline: Whether anything on the network is refused.

    Raises:
        InputError: A source of another kind, or one that cannot be read.
        PreflightError: Rows that cannot be used, all of them.

    Examples:
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"path": ["a.png"], "label": ["Edema"], "age": [70]})
        >>> manifest = as_manifest(frame, root="images", columns={"path": "image"})
        >>> manifest.rows["label"].tolist(), manifest.extra["age"].tolist()
        (['Edema'], ['70'])
    """
    if isinstance(source, Manifest):
        if root is not None or columns or allowed_roots:
            raise InputError(
                "root, columns and allowed_roots belong to a source that is still to be read, "
                "and this is a Manifest",
                fix="give them to read_manifest",
            )
        return source
    if isinstance(source, str | os.PathLike):
        return read_manifest(
            source, root=root, columns=columns, allowed_roots=allowed_roots, offline=offline
        )
    kind: Any = type(source)  # by its name, so that none of these packages is imported for it
    package, name = kind.__module__.partition(".")[0], kind.__name__
    if package in ("pandas", "polars") and name == "DataFrame":
        from cas_metric.manifest.adapters import from_frame

        allowed = allowed_roots or ANYWHERE
        where = root or Path.cwd()
        return from_frame(source, where, columns=columns, allowed_roots=allowed, offline=offline)
    if package == "datasets" and name == "Dataset":
        return _exported(source, columns or {})
    hint = f"choose one split: {_splits(source)}; " if name == "DatasetDict" else ""
    hint = "collect it first; " if name == "LazyFrame" else hint
    raise InputError(f"images cannot be read from a {package}.{name}", fix=f"{hint}{_FIX}")


def _splits(source: Any) -> str:
    return ", ".join(f"[{split!r}]" for split in source)


def _exported(dataset: datasets.Dataset, columns: Mapping[str, str]) -> Manifest:
    """The data set as a folder below the cache directory; written unless it is there already."""
    from cas_metric.manifest.adapters import from_huggingface, huggingface_rows

    digest = hashlib.sha256()
    for content, cells in huggingface_rows(dataset, columns):
        digest.update(hashlib.sha256(content).digest())
        digest.update(json.dumps(cells, sort_keys=True, default=str).encode())
    place = cache_directory() / EXPORTS
    folder = place / digest.hexdigest()[:32]
    if folder.is_dir():
        return read_manifest(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=place))
    except OSError as error:
        raise CasError(
            f"{place} cannot be written: {error.strerror}", fix="name another folder by CAS_CACHE"
        ) from error
    try:
        from_huggingface(dataset, partial, columns=columns)
        partial.chmod(0o755)
        try:
            partial.rename(folder)  # whole or not at all; another process may have been first
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return read_manifest(folder)
