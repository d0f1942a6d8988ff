"""What images are like before they are read: by this a part that is there is known to be theirs."""

from __future__ import annotations

import uuid
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cas_metric.errors import CasError
from cas_metric.files import is_local

#: Questions to a store at once.
_AT_ONCE = 16


class States:
    """The states of images: of local files now, of remote ones when they were first asked for.

    The state of an image in an archive or a table is that of its container. A remote file of which
    its store tells no more than the size is another one in every run.
    """

    def __init__(self) -> None:
        self._far: dict[Hashable, str] = {}

    def of(self, paths: Sequence[Path]) -> list[str]:
        """The state of each of them; ``-`` where it cannot be had."""
        places: list[Any] = [path if is_local(path) else path.holder for path in paths]  # type: ignore[attr-defined]
        new = {
            (one.store, one.key): one
            for one in places
            if not is_local(one) and (one.store, one.key) not in self._far
        }
        if new:
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                self._far.update(zip(new, pool.map(_asked, new.values()), strict=True))
        return [_here(one) if is_local(one) else self._far[one.store, one.key] for one in places]


def _here(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return "-"
    return f"{status.st_size} {status.st_mtime_ns}"


def _asked(address: Any) -> str:
    try:
        marks = address.store.marks(address.key)
    except (OSError, CasError) as error:
        # A file that is not there stays so; of one that cannot be asked for nothing is known.
        gone = isinstance(error.__cause__ or error, FileNotFoundError)
        return "-" if gone else uuid.uuid4().hex
    return repr(marks) if marks.keys() - {"size"} else uuid.uuid4().hex
