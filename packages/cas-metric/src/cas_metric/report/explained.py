"""What ``cas explain`` wrote beside a run, for its report."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cas_metric.report.gallery import Explained, key, thumbnail
from cas_metric.report.tables import number

if TYPE_CHECKING:
    import pandas as pd

    from cas_metric.runs.run import Run

FILE: Final = "explanation.json"
MAPS: Final = "maps"


def digest(rows: pd.DataFrame) -> str:
    """What an explanation belongs to: sha256 over the rows of a run."""
    return hashlib.sha256(rows.to_csv(index=False).encode()).hexdigest()


def read_explained(run: Run) -> dict[str, Explained]:
    """Explanations by :func:`key`; none where the file is not there, or of other rows."""
    if run.path is None or not (run.path / FILE).is_file():
        return {}
    try:
        told = json.loads((run.path / FILE).read_text(encoding="utf-8"))
        if told["rows"] != digest(run.rows):
            return {}
        return {key(one): _explained(one, run.path) for one in told["images"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # an edited file explains nothing


def _explained(one: Mapping[str, Any], folder: Path) -> Explained:
    lowest = f"{one['lowest'].upper()} {number(one['deviation'], 1)}" if one["lowest"] else ""
    maps = tuple(
        (
            f"{item['attribute']} {number(item['deviation'], 1)}",
            thumbnail(folder / MAPS / Path(item["map"]).name),
        )
        for item in one["attributes"]
    )
    return Explained(lowest, maps)
