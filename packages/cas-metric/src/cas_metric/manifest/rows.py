"""The manifest itself: rows with fixed columns, and paths that stay inside their folder."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cas_metric.errors import InputError
from cas_metric.files import is_local, place, title
from cas_metric.images import IMAGE_SUFFIXES, Window
from cas_metric.manifest.config import FolderConfig

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

#: Columns of every manifest. Only ``image`` must be given; missing text is "".
COLUMNS: Final = ("id", "image", "label", "prompt", "reference", "patient", "method", "seed")

#: A leading slash, backslash or drive.
ABSOLUTE: Final = re.compile(r"[/\\]|[A-Za-z]:")
#: A whole component "..".
PARENT: Final = re.compile(r"(^|[/\\])\.\.([/\\]|$)")


#: As ``allowed_roots``: images may lie anywhere.
ANYWHERE: Final = (Path(os.sep),)
#: How a user allows a folder: for one command, or for all.
GRANT: Final = "CAS_ALLOW_ROOT={0} (or --allow-root {0} of cas score and cas datasets)"


@dataclass(frozen=True, eq=False)
class Manifest:
    """Images and what is known about each.

    Attributes:
        root: Folder that the images' paths are relative to.
        rows: One row an image, all of :data:`COLUMNS`; text, but ``seed`` is nullable Int64.
        config: The ``cas.yaml`` beside the table, where there is one.
        allowed_roots: Folders besides ``root`` that images may lie in, by an absolute path, ``..``
            or a link. The caller grants them, never a file.
        notes: What the reader left out or changed and a person should hear of: one sentence each.
        links: The addresses of the images that the table names by URLs; what stands in the rows is
            the URL without user, password and query.
        spelt: Names of images as the table spells them, where those of their files differ: name of
            the file to name in the table.
        extra: The table's further columns (age, sex, scanner …) as text, row by row beside
            ``rows``; without columns where there are none.

    Examples:
        >>> from cas_metric.manifest import read_manifest
        >>> manifest = read_manifest("demo/real/test")
        >>> manifest.take([0, 1]).rows["id"].tolist()
        ['test-00000', 'test-00001']
        >>> manifest.path(0).is_file()
        True
    """

    root: Path
    rows: pd.DataFrame
    config: FolderConfig | None = None
    allowed_roots: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    extra: pd.DataFrame = None  # filled in below
    links: Mapping[str, Path] = field(default_factory=dict)
    spelt: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        import pandas as pd

        object.__setattr__(self, "root", place(self.root))
        if self.extra is None or not len(self.extra.columns):
            object.__setattr__(self, "extra", pd.DataFrame(index=range(len(self.rows))))
        if len(self.extra) != len(self.rows):
            raise ValueError(
                f"{len(self.rows)} rows, but {len(self.extra)} of the further columns: "
                "choose rows by Manifest.take"
            )

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def window(self) -> Window | None:
        """The window that the folder's cas.yaml prescribes for all of its images."""
        bounds = self.config.window if self.config else None
        return Window(*bounds) if bounds else None

    def take(self, positions: Sequence[int] | NDArray[np.integer]) -> Manifest:
        """The manifest of these rows, in this order, with their further columns."""
        rows, extra = (
            table.iloc[positions].reset_index(drop=True) for table in (self.rows, self.extra)
        )
        return replace(self, rows=rows, extra=extra)

    def __contains__(self, name: object) -> bool:
        """Whether there is a column of that name."""
        return name in self.rows or name in self.extra

    def column(self, name: str) -> pd.Series:
        """A column by its name: one of :data:`COLUMNS`, or a further one of the table.

        Raises:
            InputError: The table has no such column; its further ones are named.
        """
        for table in (self.rows, self.extra):
            if name in table:
                return table[name]
        listed = ", ".join(repr(column) for column in self.extra.columns)
        raise InputError(
            f"{self.root}: the manifest has no column {name!r}",
            fix=f"besides the usual ones it has {listed}" if listed else "add it to the table",
        )

    def path(self, row: int) -> Path:
        """Absolute path, or address, of the image of a row, by position.

        Raises:
            InputError: It leads out of ``root`` and ``allowed_roots``, also by a symbolic link.
        """
        return self._path(self.rows["image"].iloc[row])

    def paths(self) -> list[Path]:
        """:meth:`path` of every row, in order."""
        return [self._path(image) for image in self.rows["image"]]

    def _path(self, image: str) -> Path:
        if image in self.links:
            return self.links[image]
        path = self.root / image
        if is_local(path):
            self._inside.check(path, image)
        return path

    @property
    def name(self) -> str:
        """What the images are called where nobody says: after their folder, archive or table."""
        return title(self.root)

    @cached_property
    def _inside(self) -> Inside:
        return Inside(self.root, self.allowed_roots)


def absolute(folder: Path) -> Path:
    """The folder by its absolute path; one written with ``..`` by the name that it really has.

    An address stays as it is.
    """
    folder = folder.expanduser().absolute()
    return Path(os.path.realpath(folder)) if ".." in folder.parts else folder


def granted(roots: Sequence[str | Path]) -> tuple[Path, ...]:
    """The folders that a caller allows, and those that the user's environment does.

    ``CAS_ALLOW_ROOT`` lists folders as ``PATH`` does; it holds for every command.
    """
    listed = os.environ.get("CAS_ALLOW_ROOT", "").split(os.pathsep)
    return tuple(absolute(Path(folder)) for folder in (*roots, *filter(None, listed)))


def path_problem(image: str, inside: Inside | None = None) -> str:
    """Why the path of an image is refused by itself; empty if it is not.

    The separators and absolute paths of both POSIX and Windows count, whatever machine this is.

    Args:
        image: The path as written.
        inside: The folders that it may lead to nevertheless.
    """
    if ABSOLUTE.match(image):
        problem = "is an absolute path"
    elif PARENT.search(image):
        problem = "leads out of its folder by '..'"
    else:
        return ""
    return "" if inside is not None and inside.holds(image) else problem


class Inside:
    """Refuses paths outside of ``root`` and ``allowed``; resolves every folder once.

    Args:
        root: Folder of the images.
        allowed: Further folders that they may lie in.
    """

    def __init__(self, root: Path, allowed: Sequence[Path] = ()) -> None:
        self._root = root
        self._real_roots = [os.path.realpath(folder) for folder in (root, *allowed)]
        self._folders: dict[Path, str] = {}

    def holds(self, image: str) -> bool:
        """Whether the path of an image, as written, leads to one of the folders."""
        try:
            return self._is_below(self._resolve(Path(self._root, image)))
        except (OSError, ValueError):  # no path at all: too long, a NUL byte
            return False

    def check(self, path: Path, image: str) -> None:
        """Raise :class:`InputError` if ``path``, written as ``image``, leads out."""
        real = self._resolve(path)
        if not self._is_below(real):
            how = path_problem(image) or "is a link that leads out"
            raise InputError(
                f"{image!r} {how}: to {real}, which is not in {self._root}",
                fix="copy the image, or, if you trust it, allow its folder: "
                f"{GRANT.format(Path(real).parent)}",
            )

    def _resolve(self, path: Path) -> str:
        if path.is_symlink() or path.name in ("", ".."):
            return os.path.realpath(path)
        folder = path.parent
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        return str(Path(self._folders[folder], path.name))

    def _is_below(self, real: str) -> bool:
        return any(_common(real, root) == root for root in self._real_roots)


def _common(path: str, folder: str) -> str:
    try:
        return os.path.commonpath([path, folder])
    except ValueError:  # another drive
        return ""


def plain_path(image: str, root: Path) -> str:
    """An image's path in one spelling: no ``./``, and ``/`` between its folders.

    Args:
        image: Below ``root``, as some machine wrote it. URLs stay as they are.
        root: Folder of the images; a backslash that is part of a file's name there stays.
    """
    if "://" in image:
        return image
    if "\\" in image and not os.path.lexists(root / image):
        image = image.replace("\\", "/")
    return posixpath.normpath(image)


def without_suffix(image: str) -> str:
    """The path of an image without the ending of its format: the id of a row without one."""
    lower = image.lower()
    # Longest first, so that ".nii.gz" goes as a whole.
    for suffix in sorted(IMAGE_SUFFIXES, key=len, reverse=True):
        if lower.endswith(suffix) and len(lower) > len(suffix):
            return image[: -len(suffix)]
    return image
