"""The manifest itself: rows with fixed columns, and paths that stay inside their folder."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cas_metric.errors import InputError
from cas_metric.images import Window
from cas_metric.manifest.config import FolderConfig

if TYPE_CHECKING:
    import pandas as pd

#: Columns of every manifest. Only ``image`` must be given; missing text is "".
COLUMNS: Final = ("id", "image", "label", "prompt", "reference", "patient", "method", "seed")

#: A leading slash, backslash or drive.
ABSOLUTE: Final = re.compile(r"[/\\]|[A-Za-z]:")
#: A whole component "..".
PARENT: Final = re.compile(r"(^|[/\\])\.\.([/\\]|$)")


@dataclass(frozen=True, eq=False)
class Manifest:
    """Images and what is known about each.

    Attributes:
        root: Folder that the images' paths are relative to.
        rows: One row an image, all of :data:`COLUMNS`; text, but ``seed`` is nullable Int64.
        config: The ``cas.yaml`` beside the table, where there is one.
        allow_absolute: Whether images may lie outside of ``root``.
        notes: What the reader left out and a person should hear of: one sentence each.
    """

    root: Path
    rows: pd.DataFrame
    config: FolderConfig | None = None
    allow_absolute: bool = False
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def window(self) -> Window | None:
        """The window that the folder's cas.yaml prescribes for all of its images."""
        bounds = self.config.window if self.config else None
        return Window(*bounds) if bounds else None

    def path(self, row: int) -> Path:
        """Absolute path of the image of a row, by position.

        Raises:
            InputError: It leads out of ``root``, also through a symbolic link.
        """
        image = self.rows["image"].iloc[row]
        path = Path(self.root, image)
        if not self.allow_absolute:
            self._inside.check(path, image)
        return path

    def paths(self) -> list[Path]:
        """:meth:`path` of every row, in order."""
        images = self.rows["image"].tolist()
        paths = [Path(self.root, image) for image in images]
        if not self.allow_absolute:
            for path, image in zip(paths, images, strict=True):
                self._inside.check(path, image)
        return paths

    @cached_property
    def _inside(self) -> _Inside:
        return _Inside(self.root)


def path_problem(image: str) -> str:
    """Why the text of an image path is refused by itself; empty if it is not.

    The separators and absolute paths of both POSIX and Windows count, whatever machine this is.
    """
    if ABSOLUTE.match(image):
        return "is an absolute path"
    if PARENT.search(image):
        return "leads out of its folder by '..'"
    return ""


class _Inside:
    """Refuses paths that a symbolic link leads out of ``root``; resolves every folder once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._real_root = os.path.realpath(root)
        self._folders: dict[Path, str] = {}

    def check(self, path: Path, image: str) -> None:
        """Raise :class:`InputError` if ``path``, written as ``image``, leads out."""
        real = self._resolve(path)
        if os.path.commonpath([self._real_root, real]) != self._real_root:
            raise InputError(
                f"{image!r} is a link that leads out of {self._root}, to {real}",
                fix="copy the image, name its folder as `root`, or set `allow_absolute: true` in "
                "cas.yaml if you trust the links",
            )

    def _resolve(self, path: Path) -> str:
        if path.is_symlink():
            return os.path.realpath(path)
        folder = path.parent
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        return str(Path(self._folders[folder], path.name))
