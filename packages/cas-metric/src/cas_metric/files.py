"""Files that are either there as a whole or not at all, and JSON that is always the same."""

from __future__ import annotations

import contextlib
import glob
import json
import math
import os
import platform
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import psutil
from platformdirs import user_cache_path

from cas_metric.errors import CasError, InputError

#: File systems whose locks and maps do not hold between hosts.
_NETWORK: Final = frozenset(
    (
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "9p", "ceph", "lustre", "gpfs", "beegfs"),
        *("fuse.sshfs", "fuse.glusterfs"),
    )
)

#: Paths that may lead to a remote store, or into an archive or a table.
ELSEWHERE: Final = re.compile(
    r"\A[A-Za-z][A-Za-z0-9+.\-]+:[/\\]"
    r"|\.(?:tar(?:\.\w+)?|zip|tgz|t[bx]z2?|parquet|arrow|feather|lance)(?:[/\\]|\Z)",
    re.IGNORECASE,
)

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+:/")


def place(path: str | os.PathLike[str], *, offline: bool = False, foreign: bool = False) -> Path:
    """The path; of what lies on a remote store, in an archive or in a table, its address.

    Args:
        path: As a user writes it; see :func:`cas_metric.stores.located`.
        offline: Whether remote stores are refused, also by an address that is open already.
        foreign: Whether a file names it, and no person.

    Raises:
        InputError: A store that is not read, a damaged archive, or one on the network ``offline``.
        MissingDependency: The package for a remote store is not installed.
    """
    if isinstance(path, Path) and not is_local(path) and not offline:
        return path
    if ELSEWHERE.search(os.fspath(path)):
        from cas_metric.stores import located

        return located(path, offline=offline, foreign=foreign)
    return path if isinstance(path, Path) else Path(path)


def is_local(path: Path) -> bool:
    """Whether a path is that of a file, and no :class:`~cas_metric.stores.Address`."""
    return not hasattr(path, "store")


def told_words(words: Sequence[str]) -> list[str]:
    """The words of a command without user names, passwords and query strings in its URLs."""
    if not any(":/" in word for word in words):
        return list(words)
    from cas_metric.stores.urls import shown

    return [
        re.sub(rf"{_URL.pattern}.*", lambda url: shown(url[0]), word, count=1, flags=re.S)
        for word in words
    ]


def require_local(path: Path) -> Path:
    """The path of a result, which lies on this machine.

    Raises:
        InputError: It is a URL.
    """
    if _URL.match(path.as_posix()) and not path.exists():
        from cas_metric.stores.urls import shown, url_of

        raise InputError(
            f"{shown(url_of(path.as_posix()))}: results are written to a local folder only",
            fix="name a folder of this machine, and copy it from there",
        )
    return path


def require_utf8(path: Path, *, fix: str) -> None:
    """Refuse a name that no report and no table can hold.

    Raises:
        InputError: Its bytes are no UTF-8.
    """
    if (name := str(path)) != name.encode(errors="replace").decode():
        raise InputError(f"{name!a} is no UTF-8, as reports and tables are", fix=fix)


def require_writable(
    folder: Path, names: Iterable[str] = (), *, fix: str = "give --out another directory"
) -> None:
    """Refuse a folder into which nothing can be written; it need not exist.

    Args:
        folder: Where something is to be written.
        names: Of the files that are to be written.
        fix: How a person names another one.

    Raises:
        InputError: It, or the nearest folder above it, cannot be written to, the disk is full, or
            one of the names is that of a folder in it.
    """
    require_utf8(folder, fix=fix)
    above = (folder, *folder.absolute().parents)
    # A link that leads nowhere is no place to make a folder in, whatever lies above it.
    nearest = next(one for one in above if one.is_symlink() or one.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest) as file:
            file.write(bytes(1 << 20))  # a full disk still takes names
            file.flush()
    except OSError as error:
        raise InputError(f"{folder} cannot be written to: {error.strerror}", fix=fix) from error
    if taken := next((folder / name for name in names if (folder / name).is_dir()), None):
        raise InputError(f"{taken} is a folder, where a file is to be written", fix=fix)


def title(path: Path) -> str:
    """The name of a folder, or of an archive or table of images without its ending.

    Examples:
        >>> title(Path("runs/gen")), title(Path("gen.tar")), title(Path("shards/*.tar"))
        ('gen', 'gen', 'shards')
    """
    match = ELSEWHERE.search(path.name)
    stem = path.name[: match.start()] if match else path.name
    if match and any(mark in stem for mark in "*?{"):
        return title(path.parent)
    return stem or path.name


def cache_directory() -> Path:
    """``$CAS_CACHE``, else ``$XDG_CACHE_HOME/cas-metric``, else the platform's place for caches.

    That is ``~/.cache/cas-metric`` on Linux. Where there is no home directory, as under the
    arbitrary user of a container, it is a folder of this user's among the temporary ones.
    """
    if own := os.environ.get("CAS_CACHE"):
        return Path(own).expanduser()
    place = user_cache_path("cas-metric", appauthor=False)
    if place.is_absolute():
        return place
    return Path(tempfile.gettempdir()) / f"cas-metric-{os.getuid()}"


def network_file_system(path: Path) -> str:
    """The kind of network file system that ``path`` lies on, e.g. ``nfs4``; empty if on none.

    Known on Linux only; see ``man 5 proc_pid_mountinfo``.
    """
    kinds: dict[Path, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
            fields, _, rest = line.partition(" - ")
            kinds[Path(fields.split()[4])] = rest.split()[0]
    place = path.resolve()
    kind = next((kinds[one] for one in (place, *place.parents) if one in kinds), "")
    return kind if kind in _NETWORK else ""


def installed(package: str) -> str:
    """Version of an installed distribution; ``not installed`` without one."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def read_text(path: Path, *, limit: int | None = None) -> str:
    """The text of a UTF-8 file, without its byte-order mark.

    Args:
        path: The file.
        limit: How many bytes it may have.

    Raises:
        InputError: The file cannot be read, is too large, or in another encoding.
    """
    try:
        if limit is not None and path.stat().st_size > limit:
            raise InputError(f"{path}: larger than {limit:,} bytes", fix="name another file")
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: {cause}", fix="check the path and its permissions") from error
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{path}: the text is UTF-16", fix="save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8",
            fix="save the file as UTF-8",
        ) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, meets the old content or the new one.

    Raises:
        CasError: The folder cannot be written to, or the disk is full. The old content stays.
    """
    write_together({path: content})


def write_together(contents: Mapping[Path, bytes], obsolete: Iterable[Path] = ()) -> None:
    """Write several files: nothing is replaced or removed before all of them lie on the disk.

    Args:
        contents: By path, in the order in which they take their places.
        obsolete: Files to remove in between, before the first takes its place.

    Raises:
        CasError: As :func:`write_bytes`; every old file stays.
    """
    staged: dict[Path, Path] = {}
    for path in contents:
        require_local(path)
    try:
        for path, content in contents.items():
            staged[path] = _stage(path, content)
        for path in obsolete:
            path.unlink(missing_ok=True)
        for path, temporary in staged.items():
            temporary.replace(path)
    except OSError as error:
        for temporary in staged.values():
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        raise CasError(
            f"{path} cannot be written: {error.strerror or error}",
            fix="free space, or choose another folder with --out",
        ) from error


def _stage(path: Path, content: bytes) -> Path:
    """A file beside ``path`` with the content that it is to have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    begins = f".{path.name}.{platform.node()}-"
    for left in path.parent.glob(f"{glob.escape(begins)}*"):
        process = left.name.removeprefix(begins).partition("-")[0]
        if process.isdigit() and not psutil.pid_exists(int(process)):
            left.unlink(missing_ok=True)  # it was killed before it could
    handle, name = tempfile.mkstemp(prefix=f"{begins}{os.getpid()}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o666 & ~_umask())
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)


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
