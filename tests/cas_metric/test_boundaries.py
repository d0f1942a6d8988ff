"""Rooms that promise to wait for no model library keep the promise, module by module."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import cas_metric

#: Rooms whose import must not load torch or transformers.
LIGHT = ("statistics", "manifest", "domains", "runs", "images", "report", "study", "verbs")
HEAVY = ("torch", "transformers")


@pytest.mark.parametrize("room", LIGHT)
def test_importing_a_light_room_loads_no_model_library(room: str) -> None:
    package = f"cas_metric.{room}"
    found = pkgutil.walk_packages([f"{cas_metric.__path__[0]}/{room}"], f"{package}.")
    modules = [package, *(one.name for one in found)]
    assert len(modules) > 2
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}:\n"
        "    importlib.import_module(name)\n"
        f"    assert not {{*{HEAVY!r}}} & set(sys.modules), name"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_escapes_the_text_of_pages_is_set_up_once() -> None:
    root = Path(cas_metric.__path__[0])
    found = [
        str(path.relative_to(root))
        for path in root.glob("**/*.py")
        if "jinja2.Environment(" in path.read_text(encoding="utf-8")
    ]
    assert found == ["report/rendering.py"]
