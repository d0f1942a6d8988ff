"""Files on remote stores, by fsspec: below a folder, or each by a URL of its own."""

from __future__ import annotations

import errno
import io
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

from cas_metric.errors import InputError
from cas_metric.stores.address import Address
from cas_metric.stores.base import MAX_FILE, Store, safe_name, too_large
from cas_metric.stores.urls import (
    cause_of,
    file_system,
    forget_listings,
    is_transient,
    joined,
    protocol_of,
    shown,
)

#: Seconds to wait before a request is tried again, for as many times.
RETRIES: Final = (0.5, 2.0)
#: Bytes of a file that are kept in memory on its way; larger ones pass through the disk.
_IN_MEMORY: Final = 8 << 20
_CHUNK: Final = 1 << 20
#: Endings of files that a folder may have or not have beside its images.
_BESIDE: Final = (".yaml", ".csv", ".tsv", ".json", ".jsonl", ".parquet")

#: What the clients call the size of a file, and what changes with it.
_MARKS: Final = (
    *("size", "ETag", "etag", "LastModified", "last_modified", "Last-Modified", "mtime"),
    *("created", "Content-MD5", "blob_id"),
)

T = TypeVar("T")


class Folder(Store):
    """What lies below a URL. It is listed when it is first asked what there is.

    Args:
        url: Of the folder.
    """

    def __init__(self, url: str) -> None:
        self.protocol = protocol_of(url)
        self.url = url.rstrip("/")
        self.root = shown(self.url)
        self._listed = False
        self._marks: dict[str, dict[str, Any]] = {}

    def __reduce__(self) -> Any:
        return Folder, (self.url,)

    @property
    def listed(self) -> bool:  # type: ignore[override]
        """Whether the folder has been listed."""
        return self._listed

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """As the store lists them; hidden ones and names that lead out are left aside."""
        system = file_system(self.protocol)
        forget_listings(self.protocol)
        try:
            found = retried(lambda: system.find(self.url, detail=True))
        except Exception as error:
            raise InputError(
                f"{self.root}: the folder cannot be listed: {cause_of(error)}",
                fix="check the address and the credentials, or give a table that names the images",
            ) from error
        start = str(system._strip_protocol(self.url)).rstrip("/") + "/"
        sizes: dict[str, int] = {}
        for path, told in sorted(found.items()):
            name = self._name(path, start)
            if name and told.get("type", "file") == "file":
                size = told.get("size")
                sizes[name] = -1 if size is None else int(size)
                self._marks[name] = _marks(told)
        self._listed = True
        return sizes

    def _name(self, path: str, start: str) -> str:
        """The name of a listed path; empty where it is none of ours."""
        if not path.startswith(start):
            return ""
        name = path[len(start) :]
        if self.protocol in ("http", "https"):
            from urllib.parse import unquote

            name = "" if "?" in name or "#" in name else unquote(name)
        return safe_name(name)

    @property
    def folders(self) -> dict[str, list[str]]:
        """As of any store."""
        if not self._listed:
            _ = self.sizes
        return self._folders

    @cached_property
    def _folders(self) -> dict[str, list[str]]:
        return Store.folders.func(self)  # type: ignore[attr-defined]

    def size(self, name: str) -> int:
        """As listed; the folder is not listed for it."""
        return self.sizes.get(name, -1) if self._listed else -1

    def has(self, name: str) -> bool:
        """Where the folder has not been listed: asked for what may be missing, else assumed."""
        if self._listed:
            return name in self.sizes
        if not name.lower().endswith(_BESIDE):
            return True
        try:
            return bool(retried(lambda: file_system(self.protocol).isfile(self.url_of(name))))
        except Exception:
            return False

    def marks(self, name: str) -> dict[str, Any]:
        """As listed, where that tells more than the size; else asked for.

        Raises:
            InputError: It cannot be asked for.
        """
        listed = self._marks.get(name, {})
        return listed if listed.keys() - {"size"} else marks_of(self.url_of(name))

    def is_named(self, name: str) -> bool:
        """Where the URL has no secret and no query."""
        return self.url == self.root

    def order(self, name: str) -> int:
        """Objects have no place among each other."""
        return 0

    def url_of(self, name: str) -> str:
        """The URL of a content."""
        return joined(self.url, name)

    def open(self, name: str) -> BinaryIO:
        """The whole file, brought here at once and tried again where that is worth it."""
        if safe_name(name) != name:
            raise OSError(errno.EACCES, "the name leads out of its folder")
        return fetched(self.url_of(name), self.size(name))


def marks_of(url: str) -> dict[str, Any]:
    """What a store says of a file: by this, one that was replaced is known as another one.

    Raises:
        InputError: It cannot be asked for.
    """
    try:
        return _marks(retried(lambda: file_system(protocol_of(url)).info(url)))
    except Exception as error:
        raise InputError(
            f"{shown(url)}: {cause_of(error)}", fix="check the address and the credentials"
        ) from error


def _marks(told: Mapping[str, Any]) -> dict[str, Any]:
    return {mark: told[mark] for mark in _MARKS if told.get(mark) is not None}


def retried(request: Callable[[], T]) -> T:
    """What a request answers; it is tried again after a failure that may pass."""
    for wait in RETRIES:
        try:
            return request()
        except Exception as error:
            if not is_transient(error):
                raise
            time.sleep(wait)
    return request()


def fetched(url: str, size: int = -1) -> BinaryIO:
    """A remote file, whole and at its beginning: in memory while it is small.

    Raises:
        OSError: It is larger than :data:`~cas_metric.stores.base.MAX_FILE`.
        Exception: Whatever the client raises after the last try.
    """
    protocol = protocol_of(url)
    bring = _from_http if protocol in ("http", "https") else _from_store
    return retried(lambda: bring(url, file_system(protocol), size))


def _from_store(url: str, system: Any, size: int) -> BinaryIO:
    size = system.size(url) if size < 0 else size
    if size is not None and size > MAX_FILE:
        raise OSError(errno.EFBIG, too_large(size))
    return io.BytesIO(system.cat_file(url))


def _from_http(url: str, system: Any, _: int) -> BinaryIO:
    """One request, read as it comes: what a server says of a size is no promise."""
    file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115  # handed over
    with system.open(url, "rb", block_size=0, size=1) as answer:
        promised = answer.r.headers.get("Content-Length", "")
        while part := answer.read(_CHUNK):
            file.write(part)
            if file.tell() > MAX_FILE:
                raise OSError(errno.EFBIG, too_large(file.tell()))
    plain = promised.isdigit() and "Content-Encoding" not in answer.r.headers
    if plain and file.tell() < int(promised):
        raise ConnectionError(f"cut off after {file.tell():,} of {promised} bytes")
    file.seek(0)
    return file  # type: ignore[return-value]


def seekable(place: Path) -> BinaryIO:
    """A file that can be read anywhere: local, by ranges, or else as a copy on the disk.

    Raises:
        OSError: It cannot be read.
    """
    return by_ranges(place) or copied(place)


def by_ranges(place: Path) -> BinaryIO | None:
    """A file that can be read anywhere where it lies; None where only a copy of it can.

    Raises:
        OSError: It cannot be read.
    """
    if not isinstance(place, Address):
        return place.open("rb")
    store = place.store
    if not isinstance(store, Folder):
        return None
    try:
        return _by_ranges(store.url_of(place.key), store.protocol)
    except Exception as error:
        raise OSError(errno.EIO, cause_of(error)) from error


def _by_ranges(url: str, protocol: str) -> BinaryIO | None:
    """The remote file by ranges; None where its server cannot tell them."""
    system = file_system(protocol)
    file = retried(lambda: system.open(url, "rb", block_size=_CHUNK, cache_type="readahead"))
    size = getattr(file, "size", None)
    try:
        if not size or not file.seekable():
            return None
        file.seek(max(0, size - 1))
        if len(file.read(1)) != 1:
            return None
        file.seek(0)
    except (ValueError, NotImplementedError):  # the server sends everything, whatever is asked
        return None
    return file


def copied(place: Path) -> BinaryIO:
    """The content in a file without a name, which the disk forgets when it is closed."""
    file = tempfile.TemporaryFile()  # noqa: SIM115  # handed over
    if isinstance(place, Address) and isinstance(place.store, Folder):
        url, system = place.store.url_of(place.key), file_system(place.store.protocol)
        with system.open(url, "rb", block_size=0 if url.startswith("http") else _CHUNK) as source:
            while part := source.read(_CHUNK):
                file.write(part)
    else:
        with place.open("rb") as source:
            while part := source.read(_CHUNK):
                file.write(part)
    file.seek(0)
    return file
