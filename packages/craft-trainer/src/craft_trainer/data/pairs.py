"""A table of preference pairs: two images a row, of which a judge preferred one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Final

import pandas as pd

from cas_metric.errors import CasError, InputError, PreflightError
from cas_metric.manifest import Manifest
from craft_trainer.data.dataset import Examples

TABLE: Final = "pairs.csv"
#: Columns of the table. ``chosen`` and ``rejected`` are paths relative to it; ``margin`` is by how
#: much the judge prefers the one, in the judge's own unit; ``reference`` is the id of the prompt's
#: row in its manifest.
COLUMNS: Final = (
    "id", "prompt", "label", "chosen", "rejected", "margin", "judge", "reference"
)  # fmt: skip


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
