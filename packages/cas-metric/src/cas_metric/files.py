"""Files that are either there as a whole or not at all, and JSON that is always the same."""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

from cas_metric.errors import CasError


def cache_directory() -> Path:
    """``$CAS_CACHE``, else ``cas-metric`` under ``$XDG_CACHE_HOME``, else ``~/.cache/cas-metric``.

    See https://specifications.freedesktop.org/basedir-spec/latest/.
    """
    if own := os.environ.get("CAS_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "cas-metric"


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, meets the old content or the new one.

    Raises:
        CasError: The folder cannot be written to, or the disk is full. The old content stays.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()
        raise CasError(
            f"{path} cannot be written: {error.strerror or error}",
            fix="free space, or choose another folder with --out",
        ) from error


def to_json(value: Any) -> str:
    """JSON with sorted keys; NaN and infinities, which JSON lacks, become null."""
    return json.dumps(_plain(value), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    """The same value out of types that JSON has."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy scalars and arrays
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
