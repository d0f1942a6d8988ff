"""What all stores have in common: named contents, and streams that fail in one way."""

from __future__ import annotations

import errno
import io
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final

from cas_metric.stores.urls import cause_of

#: Largest file that is read out of a store, in bytes. Decoding takes twice the size of a file
#: besides its pixels, and 2 GiB at most (``images.limits``).
MAX_FILE: Final = 2**30


class Store(ABC):
    """A flat list of named contents.

    Attributes:
        root: What a person calls it: a path, or a URL without anything secret.
    """

    root: str
    #: Whether every content is known by name, so that a missing one is told before the run.
    listed = True

    @property
    @abstractmethod
    def sizes(self) -> Mapping[str, int]:
        """Bytes by name, in the order in which they are best read; -1 where not known."""

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """A content, to be read from its beginning. Whatever it raises, :meth:`stream` tells."""

    def stream(self, name: str) -> BinaryIO:
        """A content, bounded in size; every failure of reading it is an ``OSError`` with a cause.

        Raises:
            OSError: There is no such content, or it cannot be opened.
        """
        if not self.has(name):
            raise FileNotFoundError(errno.ENOENT, "no such file")
        size = self.size(name)
        if size > MAX_FILE:
            raise OSError(errno.EFBIG, too_large(size))
        return io.BufferedReader(_Stream(lambda: self.open(name), size), 1 << 18)

    def size(self, name: str) -> int:
        """Bytes of a content; -1 where that is not known."""
        return self.sizes.get(name, -1)

    def has(self, name: str) -> bool:
        """Whether there is a content of that name."""
        return name in self.sizes

    def order(self, name: str) -> int:
        """Where a content lies among the others: near ones are best read one after another."""
        return self._order.get(name, 0)

    def holder(self, name: str) -> Path:
        """The file that a content is in, local or remote: an archive, a table, or just itself."""
        from cas_metric.stores.address import Address

        return Address(self, name)

    def is_named(self, name: str) -> bool:
        """Whether the address as it is shown leads there, in another process too."""
        return True

    @cached_property
    def _order(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.sizes)}

    @cached_property
    def folders(self) -> dict[str, list[str]]:
        """Names in each folder, sorted; ``""`` is the root."""
        found: dict[str, set[str]] = {"": set()}
        for name in self.sizes:
            while name:
                parent = name.rpartition("/")[0]
                known = parent in found
                found.setdefault(parent, set()).add(name)
                if known:
                    break
                name = parent
        return {folder: sorted(names) for folder, names in found.items()}


class _Stream(io.RawIOBase):
    """A content that is opened when it is first read; what goes wrong is an ``OSError``."""

    def __init__(self, opener: Callable[[], BinaryIO], size: int) -> None:
        self._opener, self._size, self._done = opener, size, 0
        self._file: Any = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            if self._file is None:
                self._file = self._opener()
            part = self._file.read(len(buffer))
        except OSError as error:
            raise OSError(error.errno or errno.EIO, cause_of(error)) from error
        except Exception as error:  # clients and decompressors raise nearly anything
            raise OSError(errno.EIO, cause_of(error)) from error
        self._done += len(part)
        if self._done > MAX_FILE:
            raise OSError(errno.EFBIG, too_large(self._done))
        if not part and self._done < self._size:
            raise OSError(errno.EIO, f"cut off after {self._done:,} of {self._size:,} bytes")
        buffer[: len(part)] = part
        return len(part)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        super().close()


def too_large(size: int) -> str:
    """Why a content is not read."""
    return f"{size / 2**30:.1f} GiB, more than the limit of {MAX_FILE / 2**30:.0f} GiB for a file"


def safe_name(name: str) -> str:
    """A name in its plain form; empty for one that leads out of its container or is none."""
    if not name or "\0" in name or name.startswith(("/", "\\")) or name[1:3] in (":/", ":\\"):
        return ""
    parts = PurePosixPath(name).parts
    if ".." in parts or any(part in ("..", ".") for part in name.replace("\\", "/").split("/")[1:]):
        return ""
    return "/".join(parts)


def without_wrapper(names: Iterable[str], stem: str) -> str:
    """The one folder around everything in an archive, with its slash, where it is no label.

    An archive of a folder holds that folder. One called as the archive, or with a manifest or
    further folders in it, is such a wrapper; one that holds nothing but images may be a label.
    What macOS packs beside it (``__MACOSX/``, ``.DS_Store``) is not looked at.
    """
    names = [name for name in names if not is_hidden(name)]
    first = {name.partition("/")[0] for name in names}
    if len(first) != 1 or not all("/" in name for name in names):
        return ""
    top = first.pop()
    inside = [name[len(top) + 1 :] for name in names]
    files = {name.lower().partition(".")[0] for name in inside if "/" not in name}
    has_table = bool(files & {"metadata", "labels", "cas"})
    return f"{top}/" if top == stem or has_table or not files else ""


def is_hidden(name: str) -> bool:
    """Whether a name, or a folder in it, is one that is never read as an image."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def local_stem(place: Path) -> str:
    """Name of a file without its ending, as an archive and its folder have it in common."""
    return os.path.splitext(place.name)[0]  # noqa: PTH122  # also of addresses
