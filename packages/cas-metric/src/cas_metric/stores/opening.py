"""From a path or URL to the address of what it means; every store is opened once."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, TypeVar

from cas_metric.errors import InputError
from cas_metric.stores.address import Address
from cas_metric.stores.archives import ARCHIVES, COMPRESSED, Shards, Tar, Zip
from cas_metric.stores.base import Store
from cas_metric.stores.links import Links
from cas_metric.stores.remote import Folder
from cas_metric.stores.tables import TABLES, Rows, part_of
from cas_metric.stores.urls import cause_of, forget_listings, problem, require_online, url_of

S = TypeVar("S", bound=Store)

#: Endings of what holds contents, and of what else is a file at the end of a URL.
_CONTAINERS: Final = (*ARCHIVES, *COMPRESSED, *TABLES)
_TEXTS: Final = (".csv", ".tsv", ".jsonl", ".json", ".yaml")
_FILES: Final = (
    *(*_TEXTS, ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".webp", ".bmp", ".gif"),
    *(".jp2", ".j2k", ".dcm", ".dicom", ".nii", ".gz"),
)
#: Files that a pattern may stand for.
MAX_SHARDS: Final = 100_000
#: Stores of this process, by what they were opened as: secrets stay in memory.
_OPEN: dict[object, Store] = {}
_OPENING = threading.RLock()


def located(path: str | os.PathLike[str], *, offline: bool = False, foreign: bool = False) -> Path:
    """The path itself, or the address of what it names on a store, in an archive or in a table.

    A URL names a folder or file on a remote store. A path that goes on behind the name of an
    archive or table, such as ``gen.tar/Edema/1.png``, names a content of it; the archive by itself
    stands for the folder that is in it.

    Args:
        path: As a user writes it, or as an :class:`~cas_metric.stores.address.Address` prints.
        offline: Whether remote stores are refused.
        foreign: Whether a file names it, and no person: hosts of the machine's own network are
            refused before anything is asked.

    Raises:
        InputError: A protocol that is not read, a compressed tar, an archive that is damaged.
        MissingDependency: The package for a remote store is not installed.

    Examples:
        >>> located("gen/1.png")
        PosixPath('gen/1.png')
        >>> str(located("memory://bucket/gen/1.png"))
        'memory://bucket/gen/1.png'
    """
    if isinstance(path, Address):
        if isinstance(path.holder, Address):
            require_online(str(path.holder), offline)
        return path
    text = path.as_posix() if isinstance(path, Path) else os.fspath(path)
    url = url_of(text)
    if url.startswith(("file:", "local:")):
        return located("/" + url.partition("://")[2])
    if url and not Path(text).exists():
        if foreign and (why := problem(url)):
            raise InputError(why, fix="name another address")
        require_online(url, offline)
        return _remote(url)
    return _local(Path(text))


def _remote(url: str) -> Path:
    """The address of a URL: of a folder, of a file in the folder around it, or of a content."""
    if known := _known(url):
        return known
    plain, mark, query = url.partition("?")
    start, _, rest = plain.rstrip("/").partition("://")
    host, *parts = rest.split("/")
    for depth, name in enumerate(parts):
        is_last = depth == len(parts) - 1
        if name.lower().endswith(_CONTAINERS) or (is_last and name.lower().endswith(_FILES)):
            if name.lower().endswith((*_CONTAINERS, *_TEXTS)):  # not once an image
                forget_listings(start)
            around = f"{start}://{'/'.join([host, *parts[:depth]])}{mark}{query}"
            return _opened(Address(_folder(around), name), "/".join(parts[depth + 1 :]))
    return Address(_folder(url))


def _folder(url: str) -> Folder:
    """A remote folder as it is now: what was listed before may have changed."""
    folder = Folder(url)
    _OPEN.pop(("folder", url), None)  # the newest is found first
    _OPEN["folder", url] = folder
    return folder


def _known(shown: str) -> Path | None:
    """The address of one of the links, or of what lies below a folder, that are open already.

    Of several the last one opened: its signature is the newest.
    """
    for store in reversed(list(_OPEN.values())):
        if isinstance(store, Links) and store.has(shown):
            return store.address(shown)
        if isinstance(store, Folder) and store.listed and shown.startswith(f"{store.root}/"):
            key = shown[len(store.root) + 1 :]
            if store.has(key) and not key.lower().endswith(_CONTAINERS):
                return Address(store, key)
    return None


def _local(path: Path) -> Path:
    """The path, or the address of what lies in the archive or table that is one of its parts."""
    around = [one for one in (path, *path.parents) if one.name.lower().endswith(_CONTAINERS)]
    for place in reversed(around):
        is_lance = place.suffix.lower() == ".lance" and place.is_dir()
        if place.is_file() or is_lance or _is_pattern(place.name):
            key = path.relative_to(place).as_posix()
            if ".." in place.parts:
                place = Path(os.path.realpath(place))
            return _opened(place.absolute(), "" if key == "." else key)
    return path


def _opened(place: Path, key: str) -> Path:
    """The address of a content of an archive or table, or of its root; a table by itself is a file.

    Args:
        place: The file, or a pattern of the names of several.
        key: What follows it.
    """
    name = place.name.lower()
    if not name.endswith(_CONTAINERS):
        return place
    is_table = name.endswith(TABLES)
    if _is_pattern(place.name):
        found = matching(place)
        if is_table:
            return Address(rows(str(place), found), key)
        key_of = (str(place), *map(_state, found))
        return Address(
            once(key_of, lambda: Shards(str(place), [archive(one) for one in found])), key
        )
    if is_table:
        return Address(rows(str(place), (place,)), key) if key else place
    return Address(archive(place), key)


def matching(place: Path) -> list[Path]:
    """The files that a pattern stands for, sorted: ``*`` and ``?``, ``{a,b}``, ``{000..099}``.

    Raises:
        InputError: There is none.
    """
    try:
        names = {one.name: one for one in place.parent.iterdir()}
    except OSError as error:
        raise InputError(f"{place.parent}: {cause_of(error)}", fix="check the path") from error
    patterns = list(_expanded(place.name))
    found = [
        one for name, one in sorted(names.items()) if any(fnmatchcase(name, p) for p in patterns)
    ]
    if not found:
        raise InputError(f"{place}: no file has such a name", fix="check the pattern")
    return found


def _expanded(pattern: str) -> Iterator[str]:
    """The pattern with its first braces, and all others, spelt out."""
    match = re.search(r"\{([^{}]*)\}", pattern)
    if match is None:
        yield pattern
        return
    numbers = re.fullmatch(r"([0-9]+)\.\.([0-9]+)", match[1])
    if numbers:
        first, last = int(numbers[1]), int(numbers[2])
        if last - first > MAX_SHARDS:
            raise InputError(f"{pattern}: more than {MAX_SHARDS:,} files", fix="correct the range")
        choices = [str(one).zfill(len(numbers[1])) for one in range(first, last + 1)]
    else:
        choices = match[1].split(",")
    for choice in choices:
        yield from _expanded(pattern[: match.start()] + choice + pattern[match.end() :])


def _is_pattern(name: str) -> bool:
    return any(mark in name for mark in "*?{")


def archive(place: Path) -> Store:
    """The store in an archive.

    Raises:
        InputError: It is compressed as a whole, or damaged.
    """
    if place.name.lower().endswith(COMPRESSED):
        raise InputError(
            f"{place}: what lies in a compressed tar can only be found by unpacking it",
            fix=f"decompress it to a plain .tar, or pack a .zip: {place.name} → .tar",
        )
    kind: Callable[[Path], Store] = Zip if place.suffix.lower() == ".zip" else Tar
    return once(_state(place), lambda: kind(place))


def rows(root: str, places: Sequence[Path], column: str | None = None) -> Rows:
    """The store in a table of one file or several."""
    key = (root, column, *(_state(place) for place in places))
    return once(key, lambda: Rows(root, [part_of(place) for place in places], column))


def once(key: object, make: Callable[[], S]) -> S:
    """The store that was opened by this key, or a new one."""
    with _OPENING:
        _OPEN[key] = _OPEN.pop(key) if key in _OPEN else make()
        return _OPEN[key]  # type: ignore[return-value]


def _state(place: Path) -> tuple[str, object, object]:
    """A file as it is now; one that changes is another one."""
    if isinstance(place, Address) and isinstance(place.store, Folder):
        return str(place), place.store.url, repr(place.store.marks(place.key))
    status = place.stat()
    return str(place), status.st_size, status.st_mtime_ns
