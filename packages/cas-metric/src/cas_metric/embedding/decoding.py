"""Image files to model input, by worker threads that run ahead of the model.

Threads, not processes: reading, hashing, decoding and resizing release the interpreter lock for
nearly all of their time, and nothing has to be started, forked or copied between processes. They
share one budget of memory, however many they are: a file's part is known from its header.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from cas_metric.errors import CasError, ImageError
from cas_metric.files import is_local
from cas_metric.images import decoding_cost, load_image, sha256_file, to_uint8
from cas_metric.images.limits import BUDGET, naming
from cas_metric.images.values import at_hand

if TYPE_CHECKING:
    from torch import Tensor

    from cas_metric.encoders import Encoder
    from cas_metric.images import Window

#: Files that one task hashes: small ones take less time than handing over a task.
_HASHED_TOGETHER: Final = 32

Item = TypeVar("Item")
Result = TypeVar("Result")


class FileState(NamedTuple):
    """A file as it was when it was hashed; ``error`` is empty where it could be read."""

    digest: bytes
    size: int = -1
    changed: int = -1
    error: str = ""


class Decoded(NamedTuple):
    """Model input ``(3, S, S)``, and what was done to the stored values on the way to 8 bits."""

    inputs: Tensor
    steps: tuple[str, ...]


def default_workers() -> int:
    """Processors that this process may use, eight at most."""
    if hasattr(os, "sched_getaffinity"):
        return min(8, len(os.sched_getaffinity(0)))
    return min(8, os.cpu_count() or 1)


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int, ahead: int
) -> Iterator[Result]:
    """Results of ``function`` in the order of ``items``, at most ``ahead`` of them computed early.

    Unlike :meth:`concurrent.futures.Executor.map` it holds a bounded number of results, however
    many items there are.
    """
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # whoever interrupts a run does not wait for work that nobody will ask for
            pool.shutdown(wait=False, cancel_futures=True)


def hash_files(paths: Sequence[Path], workers: int) -> list[FileState]:
    """State of every file, in order; an unreadable one carries its reason."""
    order = reading_order(paths)
    together = _HASHED_TOGETHER if all(map(is_local, paths)) else 1
    groups = _groups([paths[position] for position in order], together)
    states = ordered_map(_hash_group, groups, workers=workers, ahead=4 * workers)
    by_position = dict(zip(order, itertools.chain.from_iterable(states), strict=True))
    return [by_position[position] for position in range(len(paths))]


def reading_order(paths: Sequence[Path]) -> list[int]:
    """Positions in an order in which the contents of an archive or table lie one after another.

    Local files come first, as they are given.
    """
    places = [("", row) if is_local(p) else p.position for row, p in enumerate(paths)]  # type: ignore[attr-defined]
    return sorted(range(len(paths)), key=places.__getitem__)


def decode(path: Path, state: FileState, window: Window | None, encoder: Encoder) -> Decoded | str:
    """Model input of one file, through ``window`` where one is given; or why there is none.

    Whatever goes wrong, memory that runs out included, is the failure of this file alone.
    """
    try:
        with at_hand(path) as file, naming(file, "try the image by itself"):
            cost = decoding_cost(file, resized_to=encoder.image_size)
            with BUDGET.reserved(cost):
                image = load_image(file, window=window)
                if _has_changed(path, file, state):
                    raise ImageError(
                        f"{file}: the file changed while it was being scored",
                        fix="wait until it is complete, then score again",
                    )
                inputs = encoder.official_preprocess([to_uint8(image.pixels)])[0]
                return Decoded(inputs, image.steps)
    except CasError as error:
        return error.problem


def _has_changed(path: Path, file: Path, state: FileState) -> bool:
    """Whether an image is no longer the one that was hashed: by its times, else by its content."""
    if file is path:
        return _stat(path) != (state.size, state.changed)
    return bytes.fromhex(sha256_file(file)) != state.digest


def _groups(paths: Sequence[Path], size: int) -> Iterator[Sequence[Path]]:
    for start in range(0, len(paths), size):
        yield paths[start : start + size]


def _hash_group(paths: Sequence[Path]) -> list[FileState]:
    return [_hash(path) for path in paths]


def _hash(path: Path) -> FileState:
    try:
        size, changed = _stat(path)
        return FileState(bytes.fromhex(sha256_file(path)), size, changed)
    except ImageError as error:
        return FileState(b"", error=error.problem)


def _stat(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}", fix="check the path") from error
    return status.st_size, status.st_mtime_ns
