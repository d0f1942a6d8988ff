"""Files and texts to embeddings, through the cache, over worker threads and ranks.

Each distinct content is embedded once, whatever the number of its names. The model always sees
batches of one size, the last one filled up: on a CPU the bits of an embedding then do not depend
on what else is embedded with it, so that an interrupted run ends with the bytes of an
uninterrupted one.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np
import torch
from torch import Tensor

from cas_metric.embedding.cache import EmbeddingCache, Entry, image_key, text_key
from cas_metric.embedding.decoding import (
    Decoded,
    FileState,
    decode,
    default_workers,
    hash_files,
    ordered_map,
)
from cas_metric.embedding.ranks import ALONE, Ranks
from cas_metric.encoders import Encoder, TextEmbeddings
from cas_metric.errors import CasError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cas_metric.images import Window

#: Images in one forward pass where the caller does not say.
BATCH_ON_CPU: Final = 32
BATCH_ON_ACCELERATOR: Final = 128

#: Embeddings are committed after as many batches or seconds, whichever comes first: a killed run
#: loses no more than that.
_COMMIT_BATCHES: Final = 4
_COMMIT_SECONDS: Final = 2.0

#: Texts handed to the encoder at once; it pads its own passes.
_TEXTS_TOGETHER: Final = 64

#: Entries read from the cache at once.
_READ_TOGETHER: Final = 1024

T = TypeVar("T")

#: Called with (done, total) images of this rank.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ImageEmbeddings:
    """What became of a list of files, in its order.

    Attributes:
        paths: ``N`` files.
        embeddings: ``(N, D)`` float32 of unit norm; NaN where the file could not be read.
        digests: ``N`` hexadecimal sha256 of the files' bytes; empty for an unreadable file.
        reasons: ``N`` reasons why a file could not be embedded; empty where it was.
        steps: ``N`` records of what was done to the stored values of each image.
        embedded: Distinct contents that were embedded now.
        cached: Distinct contents that the cache had.
    """

    paths: tuple[Path, ...]
    embeddings: NDArray[np.float32]
    digests: tuple[str, ...]
    reasons: tuple[str, ...]
    steps: tuple[tuple[str, ...], ...]
    embedded: int
    cached: int

    @property
    def errors(self) -> dict[Path, str]:
        """Each path that could not be embedded, with the reason."""
        return {path: why for path, why in zip(self.paths, self.reasons, strict=True) if why}


def default_batch_size(device: torch.device) -> int:
    """Images in one forward pass on ``device``."""
    return BATCH_ON_CPU if device.type == "cpu" else BATCH_ON_ACCELERATOR


def embed_image_files(
    paths: Sequence[Path],
    encoder: Encoder,
    cache: EmbeddingCache,
    *,
    windows: Sequence[Window | None] | None = None,
    batch_size: int | None = None,
    num_workers: int | None = None,
    progress: Progress | None = None,
    ranks: Ranks = ALONE,
) -> ImageEmbeddings:
    """Embed files, in the order given.

    Args:
        paths: Any number of files; the same content may come under several names.
        encoder: What embeds them.
        cache: Looked into first, and filled.
        windows: The display window of each file, for grey values without a fixed range; None
            shows every file by the range of its own type.
        batch_size: Images in one forward pass; halved when memory runs out.
        num_workers: Threads that read and decode.
        progress: Told after every batch.
        ranks: Where this process stands. Every rank embeds its share; rank 0 gets everything,
            the others what their own cache holds.

    Raises:
        CasError: The device has no memory for a single image, or the cache no space.
    """
    paths = [Path(path) for path in paths]
    windows = windows or [None] * len(paths)
    workers = num_workers or default_workers()
    states = _hash_all(paths, workers, ranks)
    keys = [
        image_key(state.digest, encoder.fingerprint, window) if state.digest else b""
        for state, window in zip(states, windows, strict=True)
    ]
    files = dict(zip(keys, zip(paths, states, windows, strict=True), strict=True))
    files.pop(b"", None)
    absent = _absent(sorted(files), cache, ranks)
    failed = _fill(
        {one: files[one] for one in ranks.shard(absent)},
        encoder,
        cache,
        batch_size=batch_size or default_batch_size(encoder.device),
        workers=workers,
        progress=progress,
    )
    failed = dict(ranks.gather(list(failed.items())))
    _bring_home(absent, cache, ranks)
    embeddings, steps = _read(keys, cache, encoder.dim)
    reasons = [state.error for state in states]
    for row, one in enumerate(keys):
        if one in failed:  # of copies one was read, but each reason must name its own file
            reasons[row] = failed[one].replace(str(files[one][0]), str(paths[row]))
    return ImageEmbeddings(
        paths=tuple(paths),
        embeddings=embeddings,
        digests=tuple(state.digest.hex() for state in states),
        reasons=tuple(reasons),
        steps=steps,
        embedded=len(absent) - len(failed),
        cached=len(files) - len(absent),
    )


def _fill(
    files: Mapping[bytes, tuple[Path, FileState, Window | None]],
    encoder: Encoder,
    cache: EmbeddingCache,
    *,
    batch_size: int,
    workers: int,
    progress: Progress | None,
) -> dict[bytes, str]:
    """Decode and embed ``files``, by the key of their entries; the reasons of those that failed."""
    model = _FixedBatches(encoder, batch_size)
    failed: dict[bytes, str] = {}
    decoded = ordered_map(
        lambda file: decode(*file, encoder),
        files.values(),
        workers=workers,
        ahead=model.size + workers,
    )
    with _Writer(cache) as writer:
        for done, batch in _batches(zip(files, decoded, strict=True), model.size):
            failed |= {one: item for one, item in batch if isinstance(item, str)}
            images = {one: item for one, item in batch if isinstance(item, Decoded)}
            vectors = model.embed([image.inputs for image in images.values()])
            writer.add(
                (one, Entry(vector, steps=image.steps))
                for (one, image), vector in zip(images.items(), vectors, strict=True)
            )
            if progress is not None:
                progress(done, len(files))
    return failed


def embed_texts(
    texts: Sequence[str],
    encoder: Encoder,
    cache: EmbeddingCache,
    *,
    ranks: Ranks = ALONE,
) -> TextEmbeddings:
    """Embed texts, in the order given, each distinct one once; the result is on the CPU.

    Raises:
        InputError: The encoder has no text tower.
    """
    keys = {text: text_key(text, encoder.fingerprint) for text in sorted(set(texts))}
    absent_keys = set(_absent(list(keys.values()), cache, ranks))
    absent = [text for text, one in keys.items() if one in absent_keys]
    share = ranks.shard(absent)
    with _Writer(cache) as writer:
        for start in range(0, len(share), _TEXTS_TOGETHER):
            some = share[start : start + _TEXTS_TOGETHER]
            rows = zip(*(part.cpu() for part in encoder.embed_texts(some)), strict=True)
            writer.add(
                (keys[text], Entry(vector.numpy(), int(tokens), bool(cut)))
                for text, (vector, tokens, cut) in zip(some, rows, strict=True)
            )
    ranks.wait()
    _bring_home([keys[text] for text in absent], cache, ranks)
    if not ranks.main:
        texts = []
    entries = [entry for entry in cache.get_many([keys[text] for text in texts]) if entry]
    vectors = [torch.from_numpy(entry.vector) for entry in entries]
    return TextEmbeddings(
        embeddings=torch.stack(vectors) if vectors else torch.zeros(0, encoder.dim),
        tokens=torch.tensor([entry.tokens for entry in entries], dtype=torch.int64),
        truncated=torch.tensor([entry.truncated for entry in entries], dtype=torch.bool),
    )


class _FixedBatches:
    """The image tower behind batches of one size, which is halved when memory runs out."""

    def __init__(self, encoder: Encoder, size: int) -> None:
        self.encoder = encoder
        self.size = size

    def embed(self, inputs: Sequence[Tensor]) -> NDArray[np.float32]:
        """``(n, D)`` of ``n`` model inputs ``(3, S, S)``, any number of them."""
        while True:
            try:
                parts = [
                    self._forward(inputs[start : start + self.size])
                    for start in range(0, len(inputs), self.size)
                ]
            except RuntimeError as error:
                if not _out_of_memory(error):
                    raise
                self._halve(error)
            else:
                empty = np.empty((0, self.encoder.dim), dtype=np.float32)
                return np.concatenate([empty, *parts])

    def _forward(self, inputs: Sequence[Tensor]) -> NDArray[np.float32]:
        filled = torch.stack([*inputs, *[inputs[-1]] * (self.size - len(inputs))])
        with torch.inference_mode():
            return self.encoder.embed_pixels(filled)[: len(inputs)].cpu().numpy()

    def _halve(self, error: RuntimeError) -> None:
        if self.size == 1:
            raise CasError(
                f"{self.encoder.device} has no memory for a single image of this encoder",
                fix="free memory, choose a smaller encoder, or --device cpu",
            ) from error
        self.size = (self.size + 1) // 2
        if self.encoder.device.type == "cuda":
            torch.cuda.empty_cache()


class _Writer:
    """Puts entries into the cache in few transactions, and what is left at the end.

    It also does so when the block is left by an error: what was computed is kept.
    """

    def __init__(self, cache: EmbeddingCache) -> None:
        self._cache = cache
        self._items: list[tuple[bytes, Entry]] = []
        self._batches = 0
        self._since = time.monotonic()

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._commit()

    def add(self, items: Iterable[tuple[bytes, Entry]]) -> None:
        """Take one batch; commit when enough have come together."""
        self._items += items
        self._batches += 1
        waited = time.monotonic() - self._since
        if self._batches >= _COMMIT_BATCHES or waited >= _COMMIT_SECONDS:
            self._commit()

    def _commit(self) -> None:
        if self._items:
            self._cache.put_many(self._items)
        self._items, self._batches, self._since = [], 0, time.monotonic()


def _out_of_memory(error: RuntimeError) -> bool:
    """Whether a device, or the CPU's allocator (which has no class of its own), is full."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _hash_all(paths: Sequence[Path], workers: int, ranks: Ranks) -> list[FileState]:
    """State of every file, each hashed by one rank."""
    positions = ranks.shard(range(len(paths)))
    states = hash_files([paths[position] for position in positions], workers)
    by_position = dict(ranks.gather(list(zip(positions, states, strict=True))))
    return [by_position[position] for position in range(len(paths))]


def _absent(keys: Sequence[bytes], cache: EmbeddingCache, ranks: Ranks) -> list[bytes]:
    """What the cache of rank 0 lacks, in the order of ``keys``; the same list on every rank."""
    missing = cache.missing(keys)
    return ranks.from_main([one for one, m in zip(keys, missing, strict=True) if m])


def _bring_home(keys: Sequence[bytes], cache: EmbeddingCache, ranks: Ranks) -> None:
    """Copy what other hosts embedded into the cache of rank 0."""
    if not ranks.hosts:
        return
    own = ranks.shard(keys) if ranks.host else []
    found = [(one, entry) for one, entry in zip(own, cache.get_many(own), strict=True) if entry]
    arrived = ranks.gather(found)
    if ranks.main:
        cache.put_many(arrived)


def _batches(items: Iterable[T], size: int) -> Iterator[tuple[int, list[T]]]:
    """Lists of ``size`` items, the last one shorter, each with the number of items so far."""
    iterator, done = iter(items), 0
    while batch := list(itertools.islice(iterator, size)):
        done += len(batch)
        yield done, batch


def _read(
    keys: Sequence[bytes], cache: EmbeddingCache, dim: int
) -> tuple[NDArray[np.float32], tuple[tuple[str, ...], ...]]:
    """``(N, D)`` embeddings and the steps of each image; NaN and none where the cache has none."""
    embeddings = np.full((len(keys), dim), np.nan, dtype=np.float32)
    steps: list[tuple[str, ...]] = [()] * len(keys)
    seen: dict[tuple[str, ...], tuple[str, ...]] = {}  # many images, few different records
    for start in range(0, len(keys), _READ_TOGETHER):
        rows = [row for row in range(start, min(start + _READ_TOGETHER, len(keys))) if keys[row]]
        entries = cache.get_many([keys[row] for row in rows])
        for row, entry in zip(rows, entries, strict=True):
            if entry is not None:
                embeddings[row] = entry.vector
                steps[row] = seen.setdefault(entry.steps, entry.steps)
    return embeddings, tuple(steps)
