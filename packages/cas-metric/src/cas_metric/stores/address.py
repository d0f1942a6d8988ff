"""One content of a store, in the guise of a path."""

from __future__ import annotations

import io
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cas_metric.stores.base import Store

    _Path = Path
else:
    _Path = type(Path())  # 3.11 knows no subclasses of Path itself


class Address(_Path):
    """A file or folder of a :class:`~cas_metric.stores.base.Store`, read as a local one is.

    It prints, compares and sorts as the path of the store followed by the name, such as
    ``/data/gen.tar/Edema/1.png`` or ``s3://bucket/gen/1.png``. It can be read and listed, and
    nothing else: nothing is ever written through it.

    Args:
        store: Where the content lies.
        key: Its name there; empty for the root.
    """

    store: Store
    key: str

    def __new__(cls, store: Store, key: str = "") -> Address:  # noqa: D102
        made: Address = super().__new__(cls, *_lexical(store, key))
        return made

    def __init__(self, store: Store, key: str = "") -> None:
        if sys.version_info >= (3, 12):
            super().__init__(*_lexical(store, key))
        self.store, self.key = store, key

    # -- what it is called ------------------------------------------------------------------------

    def __str__(self) -> str:
        return f"{self.store.root}/{self.key}" if self.key else self.store.root

    def __fspath__(self) -> str:
        return str(self)

    def __reduce__(self) -> Any:
        return Address, (self.store, self.key)

    # Whatever else is made of it, such as by with_suffix, is a plain path.
    @classmethod
    def _from_parsed_parts(cls, *parts: Any) -> Path:
        return type(Path())._from_parsed_parts(*parts)  # type: ignore[attr-defined]

    def with_segments(self, *segments: Any) -> Path:
        """A plain path (Python 3.12)."""
        return Path(*segments)

    def __truediv__(self, name: Any) -> Address:
        added = PurePosixPath(self.key, os.fspath(name).replace("\\", "/"))
        return Address(self.store, "" if str(added) == "." else str(added))

    @property
    def parent(self) -> Path:  # type: ignore[override]
        """The folder around it; a plain path for that of the root."""
        if not self.key:
            return Path(*self.parts[:-1])
        return Address(self.store, self.key.rpartition("/")[0])

    def relative_to(self, *other: Any, **options: Any) -> Path:  # type: ignore[override]
        """A plain path."""
        plain = [Path(*one.parts) if isinstance(one, Address) else one for one in other]
        return Path(*self.parts).relative_to(*plain, **options)

    def absolute(self) -> Address:
        """Itself."""
        return self

    def resolve(self, strict: bool = False) -> Address:
        """Itself."""
        return self

    def expanduser(self) -> Address:
        """Itself."""
        return self

    # -- what is there ----------------------------------------------------------------------------

    def exists(self, **_: Any) -> bool:
        """Whether it is a content or a folder of the store."""
        return self.is_file() or self.is_dir()

    def is_file(self, **_: Any) -> bool:
        """Whether it is a content."""
        return bool(self.key) and self.store.has(self.key)

    def is_dir(self, **_: Any) -> bool:
        """Whether it is the root, or a folder in which something lies."""
        return not self.key or (self.store.listed and self.key in self.store.folders)

    def is_symlink(self) -> bool:
        """Never."""
        return False

    def iterdir(self) -> Iterator[Path]:  # type: ignore[override]
        """What lies in the folder, sorted."""
        for name in self.store.folders.get(self.key, ()):
            yield Address(self.store, name)

    def stat(self, **_: Any) -> os.stat_result:
        """Its size; 0 where that is not known. A change is found by its content, not by a time."""
        size = max(0, self.store.size(self.key))
        return os.stat_result(
            (stat.S_IFREG | 0o444, 0, 0, 1, 0, 0, size, 0, 0, 0), {"st_mtime_ns": 0}
        )

    @property
    def holder(self) -> Path:
        """The file that it is in: an archive or a table, here or remote; else itself."""
        return self.store.holder(self.key)

    @property
    def is_named(self) -> bool:
        """Whether its name leads there in another process: nothing secret, no query was needed."""
        place = self.holder
        outer = place.store.is_named(place.key) if isinstance(place, Address) else True
        return outer and self.store.is_named(self.key)

    # -- reading ----------------------------------------------------------------------------------

    def open(self, mode: str = "r", *_: Any, encoding: str | None = None, **__: Any) -> Any:
        """A stream over it, which can be read forward.

        Raises:
            OSError: It cannot be read; ``strerror`` says why, without secrets.
        """
        if set(mode) - set("rbt"):
            raise OSError(f"{self} cannot be written to")
        stream = self.store.stream(self.key)
        return stream if "b" in mode else io.TextIOWrapper(stream, encoding or "utf-8")

    def read_bytes(self) -> bytes:
        """All of it."""
        with self.open("rb") as stream:
            content: bytes = stream.read()
            return content

    @property
    def position(self) -> tuple[str, int]:
        """By this, contents that lie near each other are sorted together."""
        return self.store.root, self.store.order(self.key)


def _lexical(store: Store, key: str) -> tuple[str, ...]:
    return (store.root, key) if key else (store.root,)
