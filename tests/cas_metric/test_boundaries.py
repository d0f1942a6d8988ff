"""Rooms that promise to wait for no model library keep the promise, module by module."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import cas_metric

#: Rooms whose import must not load torch or transformers.
LIGHT = ("statistics", "manifest", "domains", "runs", "images", "report", "study", "verbs")
HEAVY = ("torch", "transformers")


#: Each room in a child of a process that has imported what is light and takes long.
_IMPORTS = """
import importlib, json, os, sys
import matplotlib.figure, numpy, pandas, scipy.stats

for modules in json.loads(sys.argv[1]):
    child = os.fork()
    if not child:
        try:
            for name in modules:
                importlib.import_module(name)
                found = {*sys.argv[2:]} & set(sys.modules)
                if found:
                    print(name, "loads", *found, flush=True)
                    break
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    print("looked at", modules[0], flush=True)
"""


def test_importing_a_light_room_loads_no_model_library() -> None:
    rooms = [_modules(f"cas_metric.{room}") for room in LIGHT]
    command = [sys.executable, "-c", _IMPORTS, json.dumps(rooms), *HEAVY]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [f"looked at cas_metric.{room}" for room in LIGHT]


def _modules(package: str) -> list[str]:
    place = f"{cas_metric.__path__[0]}/{package.partition('.')[2]}"
    found = [package, *(one.name for one in pkgutil.walk_packages([place], f"{package}."))]
    assert len(found) > 2
    return found


def test_what_escapes_the_text_of_pages_is_set_up_once() -> None:
    root = Path(cas_metric.__path__[0])
    found = [
        str(path.relative_to(root))
        for path in root.glob("**/*.py")
        if "jinja2.Environment(" in path.read_text(encoding="utf-8")
    ]
    assert found == ["report/rendering.py"]
