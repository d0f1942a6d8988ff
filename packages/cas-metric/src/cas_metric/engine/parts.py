"""Scoring in parts: the generated images go through in groups, each a Parquet file when it is done.

A part is the unit of work that can be given to another process, lost and done again. Its file is
written at once and carries a key of all that its rows depend on, so that a part that is there is
never scored again, whoever scored it: a run that was killed goes on, an array of jobs shares the
parts, and a cluster retries those of a lost worker. The rows are those of a run in one piece.

The real images, the training split and the probe are the same for every part: whoever hands out the
parts embeds them, once.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.embedding.passes import Progress, embed_image_files
from cas_metric.engine.keys import digest_of
from cas_metric.engine.states import States
from cas_metric.errors import CasError, InputError
from cas_metric.files import is_local, place, write_bytes
from cas_metric.scoring.diagnosis import Judge
from cas_metric.scoring.embeddings import ImageSet, embed_all_texts, too_many
from cas_metric.scoring.inputs import Inputs
from cas_metric.scoring.per_image import COLUMNS, OPTIONAL_COLUMNS, Side, score_side
from cas_metric.scoring.pipeline import Options, Scores, conditions_of, score_inputs

if TYPE_CHECKING:
    from cas_metric.encoders import Encoder
    from cas_metric.scoring.probe import Probe

#: Folder of the parts, within that of the run.
FOLDER: Final = "rows"
#: Images in a part: enough of them for few files, few enough that a lost one costs minutes.
MOST: Final = 4096
#: A small set is cut into about as many parts, so that several workers have something to do.
PARTS: Final = 256
#: Fewer would not fill a batch.
FEWEST: Final = 32

#: What a part keeps beside its rows: what was read of each file.
_READ: Final = ("digest", "steps")
_KEY: Final = b"cas_part"


@dataclass(frozen=True, eq=False)
class Work:
    """What every worker needs to score any part.

    Attributes:
        inputs: Domain, classes, windows; without images.
        open_encoder: Loads the encoder.
        references: Embeddings of the real images.
        reference_names: Their paths, as the real manifest writes them.
        judge: The probe.
        cache: Directory of the worker's store of embeddings, on its own host; None for the user's.
        options: Sizes of batches, threads.
        device: What was asked for: ``auto``, ``cpu``, ``cuda``, …
        folder: Where the parts go; one that all hosts share.
        digest: Of all that the rows of every part depend on.
    """

    inputs: Inputs
    open_encoder: Callable[[], Encoder]
    references: ImageSet
    reference_names: list[str]
    judge: Judge
    cache: str | None
    options: Options
    device: str
    folder: Path
    digest: str


@dataclass(frozen=True, eq=False)
class Part:
    """A group of generated images.

    Attributes:
        number: Of the group.
        table: Their rows in the table of the inputs.
        key: Of all that the scores depend on, where images lie elsewhere and only whoever hands the
            part out asks how they are; else the worker looks.
    """

    number: int
    table: pd.DataFrame
    key: bytes = b""

    @property
    def name(self) -> str:
        """Of its file."""
        return f"part-{self.number:06d}.parquet"


class Count(NamedTuple):
    """What a part took: its images, and how many contents were embedded, or lay in the cache."""

    images: int
    embedded: int
    cached: int


#: Scores parts and writes their files; yields what each took when it is done.
Executor = Callable[[Work, Sequence[Part]], Iterator[Count]]


class Worker:
    """Scores one part after the other: an encoder that stays loaded, and a store of embeddings."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.encoder = work.open_encoder()
        self.store = EmbeddingCache(work.cache)

    def __call__(self, part: Part) -> Count:
        """Score a part and write its file."""
        work, table = self.work, part.table
        key = part.key or _key(work, table, States())  # of the files before they are read
        inputs = replace(work.inputs, generated=table)
        texts = embed_all_texts(inputs, self.encoder, self.store)
        found = embed_image_files(
            list(table["path"]),
            self.encoder,
            self.store,
            windows=[inputs.windows["generated"]] * len(table),
            batch_size=work.options.batch_size,
            num_workers=work.options.num_workers,
        )
        partners = table["reference_row"].to_numpy(dtype=np.int64, copy=True)
        side = Side(
            table=table,
            images=ImageSet(found.embeddings, found.digests, found.reasons, found.steps),
            references=work.references,
            reference_rows=partners,
            reference_names=[work.reference_names[row] if row >= 0 else "" for row in partners],
            judged_by=partners,
            missing_reference="no real partner",
        )
        rows = score_side(side, inputs, texts, work.judge)
        rows = rows.assign(digest=list(found.digests), steps=[json.dumps(s) for s in found.steps])
        write_bytes(work.folder / part.name, _parquet(rows, key))
        return Count(len(table), found.embedded, found.cached)


def here(work: Work, parts: Sequence[Part]) -> Iterator[Count]:
    """The executor that is this process."""
    worker = Worker(work)
    with worker.store:
        for part in parts:
            yield worker(part)


@dataclass(eq=False)
class Parted:
    """A set that is scored in parts.

    Attributes:
        head: A run of the real images and one generated image of each label: what does not depend
            on the others.
        inputs: All of them.
        work: What the workers need.
        parts: All parts.
        progress: Told how many images of the missing parts are done.
        embedded: Contents that :meth:`run` embedded.
        cached: Contents that it found in the cache; those of parts that were there are in neither.
        states: Of the images.
    """

    head: Scores
    inputs: Inputs
    work: Work
    parts: tuple[Part, ...]
    progress: Progress | None = None
    embedded: int = 0
    cached: int = 0
    states: States = field(default_factory=States)

    def missing(self, shard: tuple[int, int] = (1, 1)) -> list[Part]:
        """Parts of a share, ``k`` of ``n`` from 1, whose files are not there as they should be."""
        k, n = shard
        found = []
        for part in self.parts[k - 1 :: n]:
            key = _key(self.work, part.table, self.states)
            if _written_key(self.work.folder / part.name) != key:
                here = all(map(is_local, part.table["path"]))
                found.append(part if here else replace(part, key=key))
        return found

    def run(self, executor: Executor, shard: tuple[int, int] = (1, 1)) -> None:
        """Score what is missing of a share.

        Raises:
            CasError: A part is missing still.
        """
        todo = self.missing(shard)
        total = sum(len(part.table) for part in todo)
        done = 0
        if todo:
            for count in executor(self.work, todo):
                done += count.images
                self.embedded += count.embedded
                self.cached += count.cached
                if self.progress is not None:
                    self.progress(done, total)
        if left := self.missing(shard):
            raise CasError(
                f"{len(left)} of {len(self.parts)} parts are not in {self.work.folder}, first "
                f"{left[0].name}",
                fix="run the same command again; --out must lie where every worker can write, and "
                "the images must not change meanwhile",
            )

    def failures(self, shard: tuple[int, int] = (1, 1)) -> tuple[dict[str, str], ...]:
        """What could not be read of a share of the generated images, and of the real side.

        Raises:
            TooManyFailures: More than allowed.
        """
        k, n = shard
        found: list[dict[str, str]] = []
        for part in self.parts[k - 1 :: n]:
            rows = pd.read_parquet(
                self.work.folder / part.name,
                columns=["id", "image", "error", "status"],
                filters=[("status", "==", "failed")],
            ).drop(columns="status")
            found += [{"set": "generated", **row} for row in rows.to_dict("records")]
        found += [one for one in self.head.material.failures if one["set"] != "generated"]
        allowed = self.work.options.max_failures
        if allowed is not None and len(found) > allowed:
            raise too_many(found, allowed)
        return tuple(found)

    def scores(self) -> Scores:
        """What a run in one piece would have found; loads all rows.

        Raises:
            TooManyFailures: More images failed than allowed.
        """
        paths = [self.work.folder / part.name for part in self.parts]
        rows, read = _joined([pd.read_parquet(path) for path in paths], self.inputs)
        failures = self.failures()
        material = self.head.material
        generated = ImageSet(
            np.empty((0, material.images["real"].embeddings.shape[1]), np.float32),
            tuple(read["digest"]),
            tuple(rows["error"].where(rows["status"] == "failed", "")),
            tuple(tuple(json.loads(steps)) for steps in read["steps"]),
        )
        images = {**material.images, "generated": generated}
        return replace(
            self.head,
            rows=rows,
            inputs=self.inputs,
            material=replace(
                material,
                images=images,
                failures=failures,
                embedded=material.embedded + self.embedded,
                cached=material.cached + self.cached,
            ),
        )


def part_out(
    inputs: Inputs,
    open_encoder: Callable[[], Encoder],
    store: EmbeddingCache,
    folder: Path,
    *,
    cache: str | None = None,
    probe: Probe | None = None,
    options: Options | None = None,
    device: str = "auto",
    size: int | None = None,
) -> Parted:
    """Score the real side, and cut the generated images into parts.

    Args:
        inputs: What :func:`~cas_metric.scoring.inputs.prepare` has checked.
        open_encoder: Loads the encoder; called by every worker.
        store: Embeddings of the real images.
        folder: Of the run; the parts go into ``rows/`` below it.
        cache: Directory of each worker's store.
        probe: A fitted probe.
        options: How to go about it.
        device: As the encoder was asked for.
        size: Images in a part; by default about a 256th of them, 32 to 4,096.

    Raises:
        PreflightError: Under ``strict_text`` a text is too long.
        InputError: The probe does not fit the classes.
    """
    options = options or Options()
    encoder = open_encoder()
    if options.strict_text:
        embed_all_texts(inputs, encoder, store, strict=True)
    first = inputs.generated.drop_duplicates("label").reset_index(drop=True)
    plain = replace(options, progress=None, max_failures=None)
    head = score_inputs(
        replace(inputs, generated=first), encoder, store, probe=probe, options=plain
    )
    assert head is not None  # rank 0 of one
    head = replace(head, conditions=conditions_of(inputs, encoder, head.judge))
    none = inputs.real.iloc[:0]
    work = Work(
        inputs=replace(inputs, generated=inputs.generated.iloc[:0], real=none, train=None),
        open_encoder=open_encoder,
        references=head.material.images["real"],
        reference_names=inputs.real["image"].tolist(),
        judge=head.judge,
        cache=cache,
        options=replace(options, progress=None),  # a terminal does not travel
        device=device,
        folder=folder.absolute() / FOLDER,
        digest=digest_of(inputs, encoder, head, probe),
    )
    table = inputs.generated
    size = size or min(MOST, max(FEWEST, -(-len(table) // PARTS)))
    parts = tuple(
        Part(number, table.iloc[start : start + size].reset_index(drop=True))
        for number, start in enumerate(range(0, len(table), size))
    )
    return Parted(head, inputs, work, parts, options.progress)


def shard_of(text: str) -> tuple[int, int]:
    """``k/n``, from ``1/n`` to ``n/n``, as numbers.

    Raises:
        InputError: It is none.

    Examples:
        >>> shard_of("3/16")
        (3, 16)
    """
    k, _, n = text.partition("/")
    if not (k.isdecimal() and n.isdecimal() and 1 <= int(k) <= int(n)):
        raise InputError(f"{text!r} is no share", fix="give --shard k/n, from 1/n to n/n")
    return int(k), int(n)


def _joined(parts: Sequence[pd.DataFrame], inputs: Inputs) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All rows with the columns that a run in one piece has, and what was read of the files."""
    whole = pd.concat(parts, ignore_index=True)
    optional = [name for name in OPTIONAL_COLUMNS if name in whole]
    for name in optional:  # a part whose images lack it has no such column
        whole[name] = whole[name].fillna("")
    by = [name for name in inputs.by if name in whole and name not in (*COLUMNS, *optional)]
    return whole[[*COLUMNS, *optional, *by]], whole[list(_READ)]


def _key(work: Work, table: pd.DataFrame, states: States) -> bytes:
    """Of all that the rows of a part depend on; of the images their states."""
    whole = hashlib.sha256(work.digest.encode())
    for line in table.astype(str).to_numpy(dtype=object):
        whole.update(json.dumps(list(line), ensure_ascii=False).encode())
    for state in states.of([place(path) for path in table["path"]]):
        whole.update(f"{state}\n".encode())
    return whole.hexdigest().encode()


def _parquet(rows: pd.DataFrame, key: bytes) -> bytes:
    table = pa.Table.from_pandas(rows, preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), _KEY: key})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def _written_key(path: Path) -> bytes:
    """The key of a part's file; empty where there is none, or half of one."""
    try:
        return (pq.read_schema(path).metadata or {}).get(_KEY, b"")
    except (OSError, pa.ArrowInvalid):
        return b""
