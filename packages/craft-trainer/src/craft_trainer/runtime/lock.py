"""One process at a time writes into a folder that it continues."""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from cas_metric.errors import CasError, InputError

#: It stays where it is: a file that is removed while another process waits for it locks nothing.
LOCK_FILE: Final = ".lock"
#: What an operating system says of a lock that another process holds.
_HELD: Final = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
_LOG = logging.getLogger(__name__)

if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[bytes]) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def alone_in(folder: Path, option: str) -> Iterator[None]:
    """Hold a folder within the block; the operating system lets go when the process dies.

    A file system without locks is written to without one, and a warning says so.

    Args:
        folder: Made where it does not exist.
        option: By which a user names another folder.

    Raises:
        InputError: Another process holds it.
        CasError: Nothing can be written there.

    Examples:
        >>> with alone_in(tmp / "run", "`output`"):
        ...     [file.name for file in (tmp / "run").iterdir()]
        ['.lock']
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        opened = (folder / LOCK_FILE).open("ab")
    except OSError as error:
        raise CasError(f"{folder} cannot be written to: {error.strerror}") from error
    with opened as file:
        try:
            _lock(file)
        except OSError as error:
            if error.errno in _HELD:
                raise InputError(
                    f"another process is writing into {folder}",
                    fix=f"wait for its end, or name another folder with {option}",
                ) from error
            _LOG.warning("%s cannot be locked (%s): start no second process", folder, error)
        yield
