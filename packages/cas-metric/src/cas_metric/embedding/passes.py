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
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import numpy as np

from cas_metric.embedding.cache import EmbeddingCache, Entry, image_key, text_key
from cas_metric.embedding.decoding import (
    Decoded,
    FileState,
    decode,
    default_workers,
    hash_files,
    ordered_map,
    reading_order,
)
from cas_metric.embedding.ranks import ALONE, Ranks
from cas_metric.errors import CasError
from cas_metric.files import place

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cas_metric.encoders import Encoder
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


class TextVectors(NamedTuple):
    """What became of a list of texts, in its order.

    Attributes:
        embeddings: ``(N, D)`` float32 of unit norm.
        tokens: ``(N,)`` tokens of the whole texts.
        truncated: ``(N,)`` whether some of the text was not seen by the model.
    """

    embeddings: NDArray[np.float32]
    tokens: NDArray[np.int64]
    truncated: NDArray[np.bool_]


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


def default_batch_size(device: Any) -> int:
    """Images in one forward pass on ``device``, a ``torch.device`` or its name."""
    return BATCH_ON_CPU if str(device).startswith("cpu") else BATCH_ON_ACCELERATOR


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
        CasError: The device has no memory for a single image, the cache no space, or an embedding
            is neither in the cache nor known to have failed.

    Examples:
        >>> from cas_metric.encoders import load_encoder
        >>> files = [Path("demo/real/test/images/test-00000.png"), Path("lost.png")]
        >>> with EmbeddingCache("demo/cache") as cache:
        ...     found = embed_image_files(files, load_encoder("phantom-siglip"), cache)
        >>> found.embeddings.shape, [path.name for path in found.errors]
        ((2, 128), ['lost.png'])
    """
    paths = [place(path) for path in paths]
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
    own = ranks.shard(absent)
    places = reading_order([files[one][0] for one in own])
    share = {own[place]: files[own[place]] for place in places}
    failed = (
        _fill(share, encoder, cache, batch_size=batch_size, workers=workers, progress=progress)
        if share
        else {}
    )
    failed = dict(ranks.gather(list(failed.items())))
    _bring_home([one for one in absent if one not in failed], cache, ranks)
    embeddings, steps = _read(keys, cache, encoder.dim)
    reasons = [state.error for state in states]
    for row, one in enumerate(keys):
        if one in failed:  # of copies one was read, but each reason must name its own file
            reasons[row] = failed[one].replace(str(files[one][0]), str(paths[row]))
    if ranks.main:
        _require_all(paths, embeddings, reasons)
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
    batch_size: int | None,
    workers: int,
    progress: Progress | None,
) -> dict[bytes, str]:
    """Decode and embed ``files``, by the key of their entries; the reasons of those that failed."""
    from cas_metric.embedding.batches import FixedBatches

    model = FixedBatches(encoder, batch_size or default_batch_size(encoder.device))
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
            good = np.isfinite(vectors.sum(axis=1))
            found = zip(images.items(), vectors, good, strict=True)
            writer.add((one, Entry(v, steps=image.steps)) for (one, image), v, ok in found if ok)
            failed |= {
                one: f"{encoder.name} in {encoder.dtype} gives no finite embedding of it"
                for one, ok in zip(images, good, strict=True)
                if not ok
            }
            if progress is not None:
                progress(done, len(files))
    return failed


def embed_texts(
    texts: Sequence[str],
    encoder: Encoder,
    cache: EmbeddingCache,
    *,
    ranks: Ranks = ALONE,
) -> TextVectors:
    """Embed texts, in the order given, each distinct one once; on ranks other than 0 none.

    Raises:
        InputError: The encoder has no text tower.
        CasError: An embedding is not finite, or is in no rank's cache.

    Examples:
        >>> from cas_metric.encoders import load_encoder
        >>> with EmbeddingCache("none") as cache:
        ...     found = embed_texts(["edema", "edema"], load_encoder("phantom-siglip"), cache)
        >>> found.embeddings.shape, found.truncated.tolist()
        ((2, 128), [False, False])
    """
    keys = {text: text_key(text, encoder.fingerprint) for text in sorted(set(texts))}
    absent_keys = set(_absent(list(keys.values()), cache, ranks))
    absent = [text for text, one in keys.items() if one in absent_keys]
    share = ranks.shard(absent)
    with _Writer(cache) as writer:
        for start in range(0, len(share), _TEXTS_TOGETHER):
            some = share[start : start + _TEXTS_TOGETHER]
            found = [part.cpu().numpy() for part in encoder.embed_texts(some)]
            for text, vector, tokens, cut in zip(some, *found, strict=True):
                _require_finite(text, vector, encoder)
                writer.add([(keys[text], Entry(vector, int(tokens), bool(cut)))])
    ranks.wait()
    _bring_home([keys[text] for text in absent], cache, ranks)
    if not ranks.main:
        texts = []
    entries = cache.get_many([keys[text] for text in texts])
    known = [entry for entry in entries if entry is not None]
    if len(known) < len(entries):
        raise _lost([repr(t) for t, entry in zip(texts, entries, strict=True) if entry is None])
    vectors = [entry.vector for entry in known]
    return TextVectors(
        embeddings=np.stack(vectors) if vectors else np.zeros((0, encoder.dim), np.float32),
        tokens=np.array([entry.tokens for entry in known], dtype=np.int64),
        truncated=np.array([entry.truncated for entry in known], dtype=bool),
    )


def _require_finite(text: str, vector: NDArray[np.float32], encoder: Encoder) -> None:
    if not np.isfinite(vector).all():
        raise CasError(
            f"{encoder.name} in {encoder.dtype} gives no finite embedding of the text {text!r}",
            fix="score in float32 (--dtype float32)",
        )


def _require_all(
    paths: Sequence[Path], embeddings: NDArray[np.float32], reasons: Sequence[str]
) -> None:
    """Every file has an embedding or a reason, whatever path led here."""
    without = np.isnan(embeddings[:, 0])
    lost = [
        str(path)
        for path, none, why in zip(paths, without, reasons, strict=True)
        if none and not why
    ]
    if lost:
        raise _lost(lost)


def _lost(what: Sequence[str]) -> CasError:
    return CasError(
        f"{len(what)} embeddings are in no cache, first that of {what[0]}",
        fix="run the same command again: it embeds what is missing",
    )


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
    """Copy into the cache of rank 0 what it lacks of ``keys`` and the cache of another rank has."""
    if ranks.count == 1:
        return
    lacking = _absent(keys, cache, ranks)
    own = [] if ranks.main else lacking
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
