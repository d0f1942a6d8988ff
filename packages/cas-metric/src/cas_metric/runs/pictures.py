"""The image files behind the rows of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cas_metric.images import Window


def roots(
    summary: Mapping[str, Any],
    generated: str | Path | None = None,
    real: str | Path | None = None,
) -> tuple[Path | None, Path | None]:
    """Folders of the generated and the real images: as given, else as the summary names them."""
    given = zip((generated, real), _inputs(summary), strict=True)
    first, second = (Path(g or n["root"]) if g or n.get("root") else None for g, n in given)
    return first, second


def windows(summary: Mapping[str, Any]) -> tuple[Window | None, Window | None]:
    """Display windows of the generated and the real images, as the summary states them."""
    first, second = (Window(*w) if (w := n.get("window")) else None for n in _inputs(summary))
    return first, second


def locate(root: Path | None, row: Mapping[Any, Any], column: str) -> Path | None:
    """The file that a row names in ``column``; an absolute path needs no root."""
    name = row.get(column)
    if not isinstance(name, str) or not name:
        return None
    path = Path(name)
    if ".." in path.parts or (root is None and not path.is_absolute()):
        return None
    return (root or Path()) / path


def _inputs(summary: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """What the summary says of the generated and of the real images."""
    inputs = (summary.get("provenance") or {}).get("inputs") or {}
    return inputs.get("generated") or {}, inputs.get("real") or {}
