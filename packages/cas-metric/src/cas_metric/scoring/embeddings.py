"""The embeddings that a run needs: all its texts, then all its images in one pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.embedding.passes import Progress, TextVectors, embed_image_files, embed_texts
from cas_metric.embedding.ranks import ALONE, Ranks
from cas_metric.errors import PreflightError, TooManyFailures
from cas_metric.scoring.inputs import Inputs

if TYPE_CHECKING:
    from cas_metric.encoders import Encoder

#: The tables of a run whose images are embedded, in the order of the pass.
SETS: Final = ("generated", "real", "train")

_SHOWN: Final = 10


@dataclass(frozen=True, eq=False)
class Texts:
    """Embedded texts, found by their words.

    Attributes:
        position: Text to its row.
        embeddings: ``(U, D)`` float32.
        tokens: ``(U,)`` tokens of the whole texts.
        truncated: ``(U,)`` whether some of the text was cut off.
        limit: Tokens that the encoder reads; 0 where it reads no text.
    """

    position: Mapping[str, int]
    embeddings: NDArray[np.float32]
    tokens: NDArray[np.int64]
    truncated: NDArray[np.bool_]
    limit: int

    def rows(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Row of each text; -1 for one that was not embedded, such as the empty text."""
        return np.array([self.position.get(text, -1) for text in texts], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class ImageSet:
    """The images of one table, in its order.

    Attributes:
        embeddings: ``(N, D)`` float32; NaN where an image failed.
        digests: ``N`` hexadecimal sha256 of the files.
        errors: ``N`` reasons of failure; empty where there was none.
        steps: ``N`` records of what was done to the stored values of each image.
    """

    embeddings: NDArray[np.float32]
    digests: tuple[str, ...]
    errors: tuple[str, ...]
    steps: tuple[tuple[str, ...], ...] = ()

    @property
    def usable(self) -> NDArray[np.bool_]:
        """``(N,)`` whether each image has an embedding."""
        return np.array([not error for error in self.errors], dtype=bool)

    def groups(self, patients: Sequence[str]) -> list[str]:
        """What counts as one origin: the patient, else the content of the file.

        Equal files are of one origin, and with them the patients that they are of.

        Examples:
            >>> images = ImageSet(np.zeros((3, 2), np.float32), ("ab", "ab", "cd"), ("",) * 3)
            >>> images.groups(["", "A", "A"])
            ['patient A', 'patient A', 'patient A']
        """
        names = [
            f"patient {patient}" if patient else digest
            for patient, digest in zip(patients, self.digests, strict=True)
        ]
        above: dict[str, str] = {}

        def top(name: str) -> str:
            while name in above:  # halves the path on its way
                above[name] = name = above.get(above[name], above[name])
            return name

        for name, digest, error in zip(names, self.digests, self.errors, strict=True):
            if name != digest and not error:
                low, high = sorted((top(name), top(digest)))  # digits and a to f precede "patient"
                if low != high:
                    above[low] = high
        return [top(name) for name in names]


@dataclass(frozen=True, eq=False)
class Material:
    """Everything embedded.

    Attributes:
        texts: Prompts and checklists.
        images: By set; ``train`` only where there is one.
        failures: One mapping a failed file: ``set``, ``id``, ``image``, ``error``.
        embedded: Distinct images embedded now.
        cached: Distinct images that the cache had.
    """

    texts: Texts
    images: Mapping[str, ImageSet]
    failures: tuple[dict[str, str], ...]
    embedded: int
    cached: int


def embed_all_texts(
    inputs: Inputs,
    encoder: Encoder,
    cache: EmbeddingCache,
    *,
    strict: bool = False,
    ranks: Ranks = ALONE,
) -> Texts:
    """Embed every prompt and checklist; none for an encoder without a text tower.

    Raises:
        PreflightError: Under ``strict``, lists the texts beyond the encoder's limit.
    """
    prompts = set(inputs.generated["prompt"]) | set(inputs.real["prompt"])
    labels = set(inputs.generated["label"]) | set(inputs.real["label"])
    texts = sorted((prompts | {inputs.checklist(label) for label in labels}) - {""})
    if not encoder.token_limit:
        texts = []
    found = embed_texts(texts, encoder, cache, ranks=ranks)
    if strict:
        ranks.main_first(lambda: _require_whole(texts, found, encoder))
    position = {text: row for row, text in enumerate(texts)}
    return Texts(position, *found, encoder.token_limit)


def _require_whole(texts: Sequence[str], found: TextVectors, encoder: Encoder) -> None:
    """Refuse texts that the encoder cannot read to the end; other ranks than 0 know of none."""
    if found.truncated.any():
        raise PreflightError(
            [
                f"{count} tokens, {encoder.name} reads {encoder.token_limit}: {text!r}"
                for text, count, cut in zip(texts, found.tokens, found.truncated, strict=True)
                if cut
            ],
            fix="shorten them, choose --text-policy chunk-mean, or leave --strict-text out",
        )


def embed_all_images(
    inputs: Inputs,
    texts: Texts,
    encoder: Encoder,
    cache: EmbeddingCache,
    *,
    batch_size: int | None = None,
    num_workers: int | None = None,
    max_failures: int | None = None,
    progress: Progress | None = None,
    ranks: Ranks = ALONE,
) -> Material:
    """Embed the images of all tables in one pass.

    Raises:
        TooManyFailures: More images could not be read than ``max_failures``.
    """
    tables: dict[str, pd.DataFrame] = {
        name: table for name in SETS if (table := getattr(inputs, name)) is not None
    }
    paths = [path for table in tables.values() for path in table["path"]]
    windows = [inputs.windows[name] for name, table in tables.items() for _ in range(len(table))]
    found = embed_image_files(
        paths,
        encoder,
        cache,
        windows=windows,
        batch_size=batch_size,
        num_workers=num_workers,
        progress=progress,
        ranks=ranks,
    )
    errors = found.reasons
    images, failures, start = {}, [], 0
    for name, table in tables.items():
        part = slice(start, start + len(table))
        images[name] = ImageSet(
            found.embeddings[part], found.digests[part], errors[part], found.steps[part]
        )
        failures += _failures(name, table, errors[part])
        start += len(table)
    if ranks.main and max_failures is not None and len(failures) > max_failures:
        raise too_many(failures, max_failures)
    return Material(texts, images, tuple(failures), found.embedded, found.cached)


def gather(source: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """``(n, D)`` rows of ``source`` ``(M, D)``; NaN for row -1."""
    taken = np.full((len(rows), source.shape[1]), np.nan, dtype=np.float32)
    known = rows >= 0
    taken[known] = source[rows[known]]
    return taken


def _failures(name: str, table: pd.DataFrame, errors: Sequence[str]) -> list[dict[str, str]]:
    rows = zip(table["id"], table["image"], errors, strict=True)
    return [
        {"set": name, "id": key, "image": image, "error": error}
        for key, image, error in rows
        if error
    ]


def too_many(failures: Sequence[Mapping[str, str]], allowed: int) -> TooManyFailures:
    """The error of more failures than are allowed, which shows the first of them."""
    lines = [f"  - {one['set']} {one['id']!r}: {one['error']}" for one in failures[:_SHOWN]]
    if len(failures) > _SHOWN:
        lines.append(f"  … and {len(failures) - _SHOWN} more")
    head = f"{len(failures)} images failed, {allowed} are allowed by --max-failures:"
    return TooManyFailures(
        "\n".join([head, *lines]), fix="replace these files, or allow more failures"
    )
