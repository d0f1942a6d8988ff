"""What this machine remembers of encoders: small records in the user's cache directory.

A record is found by everything that it is true of, hashed into its name. A cache directory that
cannot be read or written costs time, never correctness.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, NamedTuple

#: Files up to this size are read rather than believed: it takes some hundredths of a second.
CHEAP_BYTES: Final = 16 << 20
#: Two writes within one step of a file system's clock cannot be told apart by their times.
_CLOCK_STEP_NS: Final = 2_000_000_000


class Memory:
    """One record.

    Args:
        kind: Folder of records of its kind.
        key: Everything that the record depends on; JSON-able.
    """

    def __init__(self, kind: str, key: Any) -> None:
        self.path = user_cache() / kind / f"{digest_of(key)}.json"

    def recall(self) -> dict[str, Any]:
        """What is remembered; empty where nothing is, or where it is damaged."""
        with suppress(OSError, ValueError):
            record = json.loads(self.path.read_text(encoding="utf-8"))
            return record if isinstance(record, dict) else {}
        return {}

    def keep(self, record: Mapping[str, Any]) -> None:
        """Remember."""
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial = self.path.with_suffix(f".{os.getpid()}")
            partial.write_text(json.dumps(dict(record)), encoding="utf-8")
            partial.replace(self.path)

    def forget(self) -> None:
        """Remove what is remembered."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


def digest_of(description: Any) -> str:
    """sha256, as hex, of a JSON-able description, independent of the order of keys."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def digest_file(path: Path, *, verify: bool = False) -> str:
    """sha256 of a file's content, as hex.

    Weights are gigabytes, so the digest of a large file is remembered by its path, inode, size,
    modification and change time; the last moves with every write and cannot be set. Small files
    are read each time.

    Args:
        path: The file.
        verify: Read it whatever is remembered.
    """
    real = path.resolve()
    before = _state(real)
    memory = Memory("digests", [str(real), *before])
    remembered = "" if verify or before.size <= CHEAP_BYTES else memory.recall().get("sha256", "")
    if len(remembered) == 64:
        return str(remembered)
    with real.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    settled = time.time_ns() - max(before.modified, before.changed) > _CLOCK_STEP_NS
    if before.size > CHEAP_BYTES and settled and _state(real) == before:
        memory.keep({"sha256": digest})
    return digest


class _State(NamedTuple):
    """What the file system says of a file."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int


def _state(path: Path) -> _State:
    status = path.stat()
    return _State(
        *(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    )


def distribution_version(package: str) -> str:
    """The installed version of a distribution; empty where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def user_cache() -> Path:
    """``$CAS_CACHE``, else ``cas-metric`` in the user's cache directory, if there is one."""
    if own := os.environ.get("CAS_CACHE"):
        return Path(own).expanduser()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "cas-metric"
    try:
        return Path.home() / ".cache" / "cas-metric"
    except RuntimeError:  # an unknown user in a container has no home: nothing is remembered
        return Path(os.devnull) / "cas-metric"
