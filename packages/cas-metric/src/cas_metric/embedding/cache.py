"""Content-addressed store of embeddings: what was embedded once is never embedded again.

An entry is found by what was embedded (the bytes of a file, a text) and by everything that decides
the result (the encoder's fingerprint, the display window of an image), never by a file's name:
copies share an entry, and a file that changed has another one. The store is LMDB
(https://www.symas.com/lmdb): one file, several processes at once, and a killed process leaves the
last committed state behind.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import os
import shutil
import struct
import tempfile
import threading
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Self

import lmdb
import numpy as np

from cas_metric.errors import CasError, InputError
from cas_metric.files import cache_directory, installed, network_file_system

if TYPE_CHECKING:
    from cas_metric.images import Window

#: Changes whenever the layout of a value does; an older store is then left alone.
STORE: Final = "embeddings-v3.lmdb"
#: Raised whenever this package makes other pixels of a file than it did.
READING: Final = 1
#: Value that stands for "no store on disk" on the command line.
NO_CACHE: Final = "none"

_FIRST_MAP: Final = 64 << 20
#: Bytes of the lock file, rounded down: LMDB makes it longer, never shorter.
_LOCKS: Final = 64 << 10
#: Free bytes below which a write that failed halfway is put down to the disk.
_FULL: Final = 1 << 20
#: CRC-32 of all that follows; tokens of a text (0 for an image); whether the text was cut; bytes of
#: the record of what was done to an image, a JSON list between header and vector.
_HEADER: Final = struct.Struct("<IIBI")

#: Packages that decode and resize images.
_PIXELS: Final = ("pillow", "torchvision", "tifffile", "pydicom", "nibabel", "numpy")

Kind = Literal["image", "text"]

#: Open stores of this process: LMDB must not open one file twice.
_OPEN: dict[Path, tuple[lmdb.Environment, int]] = {}
_OPENING: Final = threading.Lock()


class Entry(NamedTuple):
    """One stored embedding.

    Attributes:
        vector: ``(D,)`` float32.
        tokens: Tokens of the whole text; 0 for an image.
        truncated: Whether some of the text lay beyond the encoder's limit.
        steps: What was done to the stored values of an image; see
            :class:`cas_metric.images.LoadedImage`.
    """

    vector: np.ndarray
    tokens: int = 0
    truncated: bool = False
    steps: tuple[str, ...] = ()


def key(content: bytes, fingerprint: str, kind: Kind) -> bytes:
    """Key of an entry.

    Args:
        content: 32-byte sha256 of a file's bytes or of a text in UTF-8.
        fingerprint: Of the encoder.
        kind: An image and a text of the same bytes are different things.

    Returns:
        64 bytes; entries of one encoder are neighbours in the store.
    """
    return hashlib.sha256(f"{kind}\0{fingerprint}".encode()).digest() + content


def image_key(content: bytes, fingerprint: str, window: Window | None = None) -> bytes:
    """Key of an image's entry.

    The same file shown through two windows is two images, and so it is to two versions of what
    makes pixels of files.
    """
    shown = f"\0{window.bounds}" if window is not None else ""
    return key(content, f"{fingerprint}\0{pixel_versions()}{shown}", "image")


@functools.cache
def pixel_versions() -> str:
    """Versions of the packages that decide the pixels of a file, and of this one's reading."""
    return " ".join(f"{name} {installed(name)}" for name in _PIXELS) + f" {READING}"


def text_key(text: str, fingerprint: str) -> bytes:
    """Key of a text's entry."""
    return key(hashlib.sha256(text.encode()).digest(), fingerprint, "text")


class EmbeddingCache:
    """The store in a directory; a context manager.

    Args:
        directory: Created where it does not exist. ``None`` takes
            :func:`~cas_metric.files.cache_directory`, ``"none"`` a temporary directory that is
            removed on :meth:`close`.

    Raises:
        InputError: The directory cannot be used, or the store in it is damaged.

    Examples:
        >>> entry, content = Entry(np.ones(4, np.float32)), bytes(32)
        >>> known, other = (key(content, encoder * 64, "image") for encoder in "01")
        >>> with EmbeddingCache("none") as cache:
        ...     cache.put_many([(known, entry)])
        ...     cache.missing([known, other])
        [False, True]
    """

    def __init__(self, directory: str | Path | None = None) -> None:
        self._temporary = None
        if directory == NO_CACHE:
            self._temporary = tempfile.TemporaryDirectory(prefix="cas-cache-")
            directory = self._temporary.name
        self.directory = Path(directory or cache_directory()).expanduser()
        self.path = self.directory / STORE
        with self._explained(), _OPENING:
            self.path.mkdir(parents=True, exist_ok=True)
            self._place = self.path.resolve()
            opened = _OPEN.get(self._place)
            self._env = opened[0] if opened else _open(self._place)
            _OPEN[self._place] = (self._env, opened[1] + 1 if opened else 1)
            if not opened:
                self._env.reader_check()  # frees the slots of killed processes
                self._restore_length()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the store, unless another object uses it; a temporary one is removed."""
        if self._closed:
            return
        self._closed = True
        with _OPENING:
            environment, users = _OPEN.pop(self._place)
            if users > 1:
                _OPEN[self._place] = (environment, users - 1)
            else:
                environment.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def __len__(self) -> int:
        """Number of entries, of all encoders."""
        with self._reading() as transaction:
            return transaction.stat()["entries"]

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return _size(self.path)

    def get_many(self, keys: Sequence[bytes]) -> list[Entry | None]:
        """Entries in the order of ``keys``; ``None`` where there is none."""
        with self._reading() as transaction:
            return [self._unpack(transaction.get(one)) for one in keys]

    def missing(self, keys: Sequence[bytes]) -> list[bool]:
        """For each key whether it has no entry."""
        with self._reading() as transaction:
            return [transaction.get(one) is None for one in keys]

    def put_many(self, items: Iterable[tuple[bytes, Entry]]) -> None:
        """Store entries in one transaction: all of them or, after a crash, none.

        An entry that exists is left as it is.
        """
        packed = [(one, _pack(entry)) for one, entry in items]
        with self._explained():
            while True:
                try:
                    with self._begin(write=True) as transaction:
                        for one, value in packed:
                            transaction.put(one, value, overwrite=False)
                    return
                except lmdb.MapFullError:
                    self._env.set_mapsize(2 * self._env.info()["map_size"])

    @contextlib.contextmanager
    def _reading(self) -> Iterator[lmdb.Transaction[memoryview[int]]]:
        with self._explained(), self._begin(write=False) as transaction:
            yield transaction

    def _begin(self, *, write: bool) -> lmdb.Transaction[memoryview[int]]:
        """Begin a transaction, adopting a map that another process has let grow."""
        try:
            return self._env.begin(write=write, buffers=True)
        except lmdb.MapResizedError:
            self._env.set_mapsize(0)
            return self._env.begin(write=write, buffers=True)

    def _restore_length(self) -> None:
        """Bring a cut-off file back to its length.

        Pages beyond the end of a mapped file kill the process that reads them; pages of zeros are
        recognised as damage. The write lock keeps other processes from growing the file meanwhile.
        """
        with self._begin(write=True):
            length = (self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"]
            if _size(self.path) < length:
                os.truncate(self.path / "data.mdb", length)

    def _unpack(self, value: memoryview | None) -> Entry | None:
        if value is None:
            return None
        checksum, tokens, truncated, length = _HEADER.unpack_from(value)
        if zlib.crc32(value[4:]) != checksum:
            raise self._damaged("an entry does not match its checksum")
        start = _HEADER.size + length
        steps = tuple(json.loads(bytes(value[_HEADER.size : start]))) if length else ()
        # A copy: the buffer belongs to the transaction.
        vector = np.frombuffer(value, dtype="<f4", offset=start).astype(np.float32)
        return Entry(vector, tokens, bool(truncated), steps)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn the store's errors into what is wrong and what to do."""
        elsewhere = "choose another directory with --cache DIR or CAS_CACHE, or --cache none"
        try:
            yield
        except (lmdb.InvalidError, lmdb.CorruptedError, lmdb.PageNotFoundError, struct.error) as e:
            raise self._damaged(str(e)) from e
        except lmdb.VersionMismatchError as e:
            raise self._damaged("written by an incompatible LMDB") from e
        except (lmdb.DiskError, lmdb.Error, OSError) as e:
            if self._is_full(e):
                raise CasError(
                    f"no space left for the embedding cache in {self.directory}",
                    fix=f"free some, then run the same command again: what was embedded is kept; "
                    f"or {elsewhere}",
                ) from e
            raise InputError(
                f"the embedding cache in {self.directory} cannot be used: {e}", fix=elsewhere
            ) from e

    def _is_full(self, error: Exception) -> bool:
        """Whether there was no room: LMDB calls a page that was written in part an I/O error."""
        if isinstance(error, lmdb.DiskError) or getattr(error, "errno", None) == errno.ENOSPC:
            return True
        if os.strerror(errno.EIO) not in str(error):
            return False
        with contextlib.suppress(OSError):
            return shutil.disk_usage(self.directory).free < _FULL
        return False

    def _damaged(self, cause: str) -> InputError:
        return InputError(
            f"the embedding cache in {self.path} is damaged: {cause}",
            fix=f"delete the directory {self.path}; the next run embeds its images again",
        )


def _open(path: Path) -> lmdb.Environment:
    if shared := network_file_system(path):
        warnings.warn(
            f"the embedding cache in {path} lies on {shared}, on which LMDB is not safe for "
            "several hosts: choose a local disk with --cache DIR or CAS_CACHE",
            RuntimeWarning,
            stacklevel=3,
        )
    _reserve_locks(path / "lock.mdb")
    return lmdb.open(
        str(path),
        map_size=max(_FIRST_MAP, _size(path)),
        # Losing the very last commit to a power cut is harmless, an fsync each is not.
        metasync=False,
        readahead=False,
        max_readers=1024,
    )


def _reserve_locks(path: Path) -> None:
    """Give the lock file its room.

    LMDB maps it with holes, and one that a full disk cannot fill kills the process without a word.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    with path.open("ab") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, _LOCKS)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system without it
                raise


def _pack(entry: Entry) -> bytes:
    vector = np.ascontiguousarray(entry.vector, dtype="<f4")
    steps = json.dumps(entry.steps, ensure_ascii=False).encode() if entry.steps else b""
    header = _HEADER.pack(0, entry.tokens, entry.truncated, len(steps))
    body = header[4:] + steps + vector.tobytes()
    return struct.pack("<I", zlib.crc32(body)) + body


def _size(path: Path) -> int:
    try:
        return (path / "data.mdb").stat().st_size
    except FileNotFoundError:
        return 0
