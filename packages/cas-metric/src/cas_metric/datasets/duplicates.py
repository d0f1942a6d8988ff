"""Copies of one picture in a data set: exact ones by content, near ones by perceptual hash."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cas_metric.datasets.base import Collection, Partition
from cas_metric.datasets.splits import split_groups
from cas_metric.errors import ImageError, InputError
from cas_metric.images import load_image, sha256_file, to_uint8
from cas_metric.protocol import PHASH_THRESHOLD

#: Wraps an iterable in a progress bar; the second argument says what is being done.
Track = Callable[[Iterable[Path], str], Iterable[Path]]


def untracked(paths: Iterable[Path], description: str) -> Iterable[Path]:
    """No progress bar."""
    return paths


@dataclass(frozen=True)
class Pair:
    """Two images that show the same; ``distance`` counts differing pHash bits, 0 when exact."""

    first: int
    second: int
    distance: int


def exact_copies(paths: Sequence[Path], track: Track = untracked) -> list[list[int]]:
    """Positions of files with the same bytes, one list a set of copies."""
    by_digest: dict[str, list[int]] = defaultdict(list)
    for position, path in enumerate(track(paths, "comparing files")):
        by_digest[sha256_file(path)].append(position)
    return [positions for positions in by_digest.values() if len(positions) > 1]


def near_copies(
    paths: Sequence[Path], track: Track = untracked, threshold: int = PHASH_THRESHOLD
) -> tuple[list[Pair], list[int]]:
    """Pairs of images at a pHash distance of at most ``threshold`` (Appendix M).

    Returns:
        The pairs, and the positions of images that cannot be decoded and were left out.
    """
    from cas_metric.copies.phash import pairs_within, phash

    words, decoded, broken = [], [], []
    for position, path in enumerate(track(paths, "hashing images")):
        try:
            words.append(phash(to_uint8(load_image(path).pixels)))
            decoded.append(position)
        except ImageError:
            broken.append(position)
    found = pairs_within(np.array(words, dtype=np.uint64), threshold=threshold)
    pairs = [Pair(decoded[i], decoded[j], int(distance)) for i, j, distance in found]
    return pairs, broken


def split_apart(collection: Collection, seed: int, track: Track = untracked) -> Partition:
    """Halve every class so that no near-duplicates lie on different sides.

    Raises:
        InputError: An image is missing.
    """
    records = collection.records
    paths = [collection.root / image for image in records["image"]]
    absent = next((path for path in paths if not path.is_file()), None)
    if absent is not None:
        raise InputError(
            f"{absent} is missing, and near-duplicates cannot be found without the images",
            fix="complete the data set, or use another split",
        )
    pairs, broken = near_copies(paths, track)
    groups = group_copies(len(records), pairs)
    parted = split_groups(records["label"].tolist(), groups, seed)
    notes = [f"{len(records) - len(set(groups))} near-duplicates stay with their originals"]
    if broken:
        notes.append(f"{len(broken)} images cannot be decoded, e.g. {paths[broken[0]]}")
    return Partition(parted.train, parted.test, tuple(notes))


def group_copies(count: int, pairs: Iterable[Pair]) -> list[str]:
    """A group name for each of ``count`` images; images joined by any chain of pairs share one."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = np.array([(pair.first, pair.second) for pair in pairs], dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    return [str(number) for number in component]
