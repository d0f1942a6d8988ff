"""Tar and zip files: their members by name, read where they lie. Nothing is ever unpacked."""

from __future__ import annotations

import errno
import io
import stat
import tarfile
import threading
import zipfile
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Final

from cas_metric.errors import InputError
from cas_metric.stores.address import Address
from cas_metric.stores.base import Store, local_stem, safe_name, without_wrapper
from cas_metric.stores.remote import Folder, by_ranges, copied, retried, seekable
from cas_metric.stores.urls import cause_of, file_system

#: Endings of archives.
ARCHIVES: Final = (".tar", ".zip")
#: Endings of archives without addresses: only by reading everything before it a member is found.
COMPRESSED: Final = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")


class _Archive(Store):
    """What both kinds share.

    Args:
        place: The archive.
    """

    def __init__(self, place: Path) -> None:
        self.place, self.root = place, str(place)
        self.refused: list[str] = []
        try:
            found = self._index()
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, ValueError) as error:
            raise InputError(
                f"{self.root}: not readable as an archive: {cause_of(error)}",
                fix="write it again; if it was copied, the copy is incomplete or damaged",
            ) from error
        self._members = self._named(found)

    def __reduce__(self) -> Any:
        from cas_metric.stores.opening import archive

        return archive, (self.place,)

    def holder(self, name: str) -> Path:
        """The archive."""
        return self.place

    @abstractmethod
    def _index(self) -> list[tuple[str, Any]]:
        """Every member's name as it is written, and what it takes to open it."""

    def _named(self, found: list[tuple[str, Any]]) -> dict[str, Any]:
        """Members by their names below the folder around everything, the last of a name."""
        safe = {}
        for name, member in found:
            if plain := safe_name(name):
                safe[plain] = member
            else:
                self.refused.append(f"{name!r} leads out of the archive")
        wrapper = without_wrapper(safe, local_stem(self.place))
        return {
            name[len(wrapper) :]: member
            for name, member in safe.items()
            if name.startswith(wrapper)
        }


class Tar(_Archive):
    """An uncompressed tar; its members lie one after another, each read by its place."""

    def _index(self) -> list[tuple[str, Any]]:
        self._copy: BinaryIO | None = None
        self._lock = threading.Lock()
        file = by_ranges(self.place)
        if file is None:  # its server cannot be asked for a part
            file = self._copy = copied(self.place)
        try:
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            return list(self._members_of(file, size))
        finally:
            if file is not self._copy:
                file.close()

    def _members_of(self, file: BinaryIO, size: int) -> Iterator[tuple[str, Any]]:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            whole = False
            try:
                while member := archive.next():
                    archive.members = []  # type: ignore[attr-defined]  # it would keep every header
                    if member.isfile() and not member.issparse():
                        yield member.name, (member.offset_data, member.size)
                    elif not member.isdir():
                        self.refused.append(f"{member.name!r} is a link or no plain file")
                file.seek(archive.offset)
                whole = not file.read(tarfile.BLOCKSIZE).strip(b"\0") and archive.offset < size
            except tarfile.ReadError:
                pass  # behind the member that is cut off nothing is known
        if not whole:
            self.refused.append("the archive is cut off or damaged: what followed is not known")

    @property
    def sizes(self) -> Mapping[str, int]:
        """In the order of the archive."""
        return {name: size for name, (_, size) in self._members.items()}

    def size(self, name: str) -> int:
        """By the header of the member."""
        return int(self._members[name][1]) if name in self._members else -1

    def has(self, name: str) -> bool:
        """Whether there is such a member."""
        return name in self._members

    def open(self, name: str) -> BinaryIO:
        """The part of the archive that the member is."""
        start, size = self._members[name]
        if self._copy is not None:
            return _Part(self._of_copy, start, size)  # type: ignore[return-value]
        if isinstance(self.place, Address):
            assert isinstance(self.place.store, Folder)
            url, system = (
                self.place.store.url_of(self.place.key),
                file_system(self.place.store.protocol),
            )
            return io.BytesIO(retried(lambda: system.cat_file(url, start=start, end=start + size)))
        file = self.place.open("rb")
        file.seek(start)
        read = lambda _, count: file.read(count)  # noqa: E731
        return _Part(read, start, size, file)  # type: ignore[return-value]

    def _of_copy(self, start: int, count: int) -> bytes:
        assert self._copy is not None
        with self._lock:
            self._copy.seek(start)
            return self._copy.read(count)


class _Part(io.RawIOBase):
    """``size`` bytes from ``start`` of something that reads by place and number of bytes."""

    def __init__(
        self, read: Callable[[int, int], bytes], start: int, size: int, file: Any = None
    ) -> None:
        self._read, self._at, self._end, self._file = read, start, start + size, file

    def read(self, count: int = -1) -> bytes:
        """At most ``count`` bytes."""
        left = self._end - self._at
        part = self._read(self._at, left if count < 0 else min(count, left))
        self._at += len(part)
        return part

    def close(self) -> None:
        """Close the file below, where it is its own."""
        if self._file is not None:
            self._file.close()
        super().close()


class Zip(_Archive):
    """A zip; what a member says of its size bounds what is made of it."""

    def _index(self) -> list[tuple[str, Any]]:
        self._zip = zipfile.ZipFile(seekable(self.place))
        found = []
        for member in sorted(self._zip.infolist(), key=lambda one: one.header_offset):
            name = member.filename.replace("\\", "/")  # as some programs on Windows write it
            if name.endswith("/"):
                continue
            if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
                self.refused.append(f"{member.filename!r} is a link or no plain file")
            else:
                found.append((name, member))
        return found

    @property
    def sizes(self) -> Mapping[str, int]:
        """In the order of the archive."""
        return {name: member.file_size for name, member in self._members.items()}

    def size(self, name: str) -> int:
        """By the directory of the archive."""
        return int(self._members[name].file_size) if name in self._members else -1

    def has(self, name: str) -> bool:
        """Whether there is such a member."""
        return name in self._members

    def open(self, name: str) -> BinaryIO:
        """The member, inflated as it is read; several may be read at once."""
        member = self._members[name]
        if member.flag_bits & 1:
            raise OSError(errno.EACCES, "encrypted members are not read")
        return self._zip.open(member)  # type: ignore[return-value]


class Shards(Store):
    """Several archives as one; no two may hold the same name.

    Args:
        root: What they are called together: a pattern of their names.
        archives: Their stores.

    Raises:
        InputError: A name that two of them hold.
    """

    def __init__(self, root: str, archives: Sequence[Store]) -> None:
        self.root, self._archives = root, archives
        self._home: dict[str, int] = {}
        for number, one in enumerate(archives):
            for name in one.sizes:
                if self._home.setdefault(name, number) != number:
                    other = archives[self._home[name]]
                    raise InputError(
                        f"{other.root} and {one.root} both hold {name!r}", fix="give them apart"
                    )

    def __reduce__(self) -> Any:
        return Shards, (self.root, self._archives)

    @property
    def refused(self) -> list[str]:
        """What their members are that are not read."""
        return [
            f"{one.root}: {line}" for one in self._archives for line in getattr(one, "refused", ())
        ]

    def holder(self, name: str) -> Path:
        """The archive that has it; of the root, the first."""
        return self._archives[self._home.get(name, 0)].holder(name)

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Archive after archive."""
        return {name: size for one in self._archives for name, size in one.sizes.items()}

    def open(self, name: str) -> BinaryIO:
        """From the archive that holds it."""
        return self._archives[self._home[name]].open(name)
