"""Copies of model directories to damage."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path


def copy_model(models: Mapping[str, Path], family: str, tmp_path: Path) -> Path:
    """A copy of the tiny model of ``family``, below ``tmp_path``."""
    return Path(shutil.copytree(models[family], tmp_path / family))


def edit_json(path: Path, change: Callable[[dict], None]) -> None:
    """Rewrite a JSON file after ``change`` was made to its content in place."""
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))
