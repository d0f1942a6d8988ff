"""A package that is installed as far as Python can tell: its files and its entry points."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def install(site: Path, name: str, files: Mapping[str, str], entry_points: str) -> Path:
    """Write a package and its metadata into ``site``, a folder to be put on the path.

    Args:
        site: Folder; made where it is missing.
        name: Of the package and of its distribution.
        files: Name within the package to content.
        entry_points: Content of ``entry_points.txt``.
    """
    metadata = site / f"{name}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(entry_points)
    for file, content in {"__init__.py": "", **files}.items():
        path = site / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return site
