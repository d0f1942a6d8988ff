"""Preference pairs: a table of two images a row, of which a judge preferred one.

The paper's DPO baseline learns from 1,024 of them a dataset: two samples of the LoRA model that
differ in their seed, and a judge's choice (§4.1.2).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pandas as pd

from cas_metric.errors import CasError, InputError, PreflightError
from cas_metric.files import write_bytes
from cas_metric.manifest import Manifest
from craft_trainer.bases import DiffusionModel
from craft_trainer.config.schema import Sampling
from craft_trainer.data.examples import Examples
from craft_trainer.generation import noise_seed, sample_images, write_image
from craft_trainer.guards.monitoring import fits_memory

TABLE: Final = "pairs.csv"
#: Columns of the table. ``chosen`` and ``rejected`` are paths relative to it; ``margin`` is by how
#: much the judge prefers the one, in the judge's own unit; ``reference`` is the id of the prompt's
#: row in its manifest.
COLUMNS: Final = (
    "id", "prompt", "label", "chosen", "rejected", "margin", "judge", "reference"
)  # fmt: skip


class Candidates(NamedTuple):
    """Two samples of one prompt.

    Attributes:
        row: Of the prompt in its manifest.
        images: Their files, relative to the folder.
    """

    row: int
    images: tuple[str, str]


def plan(count: int, rows: int, seed: int) -> list[Candidates]:
    """``count`` pairs over ``rows`` prompts: every prompt once in random order, then again.

    A prompt that comes again gets two new samples.
    """
    order = np.random.default_rng(seed).permutation(rows)
    return [
        Candidates(
            int(order[number % rows]), (f"images/{number:06d}-a.png", f"images/{number:06d}-b.png")
        )
        for number in range(count)
    ]


def draw(
    model: DiffusionModel,
    candidates: Sequence[Candidates],
    texts: Sequence[str],
    folder: Path,
    *,
    seed: int,
    sampling: Sampling,
    resolution: int,
    batch_size: int,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Draw the images of ``candidates`` that are not there yet; returns how many.

    The two samples of a prompt have the same text and different noise.
    """
    jobs = [
        (folder / name, texts[pair.row], noise_seed(seed, 2 * number + side))
        for number, pair in enumerate(candidates)
        for side, name in enumerate(pair.images)
        if not (folder / name).is_file()
    ]
    for start in range(0, len(jobs), batch_size):
        paths, prompts, seeds = zip(*jobs[start : start + batch_size], strict=True)
        with fits_memory(f"drawing {len(paths)} images at once", "lower --batch-size"):
            images = sample_images(model, prompts, seeds, sampling, resolution)
        for path, image in zip(paths, images, strict=True):
            write_image(image, path)
        if progress is not None:
            progress(start + len(paths), len(jobs))
    return len(jobs)


def write_pairs(
    folder: Path,
    candidates: Sequence[Candidates],
    preferences: Sequence[float | None],
    examples: Examples,
    judge: str,
) -> pd.DataFrame:
    """Write the table.

    Args:
        folder: That the images are in.
        candidates: The pairs.
        preferences: By how much the first image of each is preferred: below 0 for the second, None
            where the judge gave no answer. Pairs without an answer or a preference are left out.
        examples: The prompts.
        judge: Its name.

    Returns:
        The rows that were written.
    """
    rows = []
    for number, (pair, preference) in enumerate(zip(candidates, preferences, strict=True)):
        if not preference:
            continue
        chosen, rejected = pair.images if preference > 0 else pair.images[::-1]
        rows.append(
            {
                "id": f"pair{number:06d}",
                "prompt": examples.prompts[pair.row],
                "label": examples.labels[pair.row],
                "chosen": chosen,
                "rejected": rejected,
                "margin": abs(preference),
                "judge": judge,
                "reference": examples.manifest.rows["id"].iloc[pair.row],
            }
        )
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    write_bytes(folder / TABLE, table.to_csv(index=False).encode())
    return table


def read_pairs(path: Path, examples: Examples) -> tuple[Examples, Examples]:
    """The chosen and the rejected images of a table, with their prompts and labels.

    Args:
        path: The table, or the folder that it is in.
        examples: Training images, whose classes and checklists the pairs share.

    Raises:
        PreflightError: Images that are missing or lead out of the folder; all are listed.
        InputError: No such table, or one that lacks a column.
    """
    file = path / TABLE if path.is_dir() else path
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{file} is no table of pairs: {error}", fix="make one with `craft-trainer pairs`"
        ) from error
    missing = [name for name in COLUMNS[:5] if name not in table]
    if missing or table.empty:
        problem = f"lacks the columns {', '.join(missing)}" if missing else "holds no pair"
        raise InputError(f"{file} {problem}", fix="make one with `craft-trainer pairs`")
    problems: list[str] = []
    sides = [_side(table, side, file, examples, problems) for side in ("chosen", "rejected")]
    if problems:
        raise PreflightError(problems, fix=f"correct these rows of {file}")
    return sides[0], sides[1]


def _side(
    table: pd.DataFrame, side: str, file: Path, examples: Examples, problems: list[str]
) -> Examples:
    """One column of images as examples; what is wrong with them goes to ``problems``."""
    rows = table[["id", "label", "prompt"]].assign(image=table[side])
    rows = rows.reindex(columns=examples.manifest.rows.columns, fill_value="")
    manifest = Manifest(root=file.parent.resolve(), rows=rows)
    paths, labels = [], []
    for number, (name, label) in enumerate(zip(rows["image"], rows["label"], strict=True)):
        try:
            found = manifest.path(number)
            if not found.is_file():
                raise CasError("does not exist")
            paths.append(found)
            labels.append(examples.domain.canonical(label) if examples.domain else label)
        except CasError as error:
            problems.append(f"{name}: {error.problem}")
    return dataclasses.replace(
        examples,
        paths=tuple(paths),
        labels=tuple(labels),
        prompts=tuple(rows["prompt"]),
        manifest=manifest,
    )
