"""The page on the trainer's architecture is true: its drawing of the rooms, and its walk."""

from __future__ import annotations

import ast
import graphlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.walk import check_walk
from typer.testing import CliRunner

import craft_trainer
from craft_trainer.cli import main as cli
from craft_trainer.config.schema import to_yaml

PAGE = Path(__file__).parents[2] / "docs" / "architecture" / "craft-trainer.md"
SOURCE = Path(craft_trainer.__file__).parent


def imports() -> dict[str, set[str]]:
    """Room to the rooms that its files import, types alone left out."""
    found: dict[str, set[str]] = {}
    for path in SOURCE.rglob("*.py"):
        room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        if room == "__init__":  # the public face
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for_types = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and id(node) not in for_types:
                package, *parts = node.module.split(".")
                names = parts[:1] or [alias.name for alias in node.names]
                if package == "craft_trainer":
                    found.setdefault(room, set()).update(set(names) - {room, "__version__"})
    return found


def closure(edges: dict[str, set[str]]) -> dict[str, set[str]]:
    """Room to every room that it reaches; CycleError where there is a circle."""
    reached: dict[str, set[str]] = {}
    for room in graphlib.TopologicalSorter(edges).static_order():
        below = edges.get(room, set())
        reached[room] = below.union(*(reached[one] for one in below))
    return reached


def test_the_drawing_is_that_of_the_imports() -> None:
    drawing = PAGE.with_suffix(".mmd").read_text(encoding="utf-8")
    drawn: dict[str, set[str]] = {}
    for upper, lower in re.findall(r"^\s*([\w &]+?) --> ([\w &]+?)$", drawing, re.M):
        for room in upper.split(" & "):
            drawn.setdefault(room, set()).update(lower.split(" & "))
    assert closure(drawn) == closure(imports())


def test_the_walk_is_that_of_a_training(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(settings({"method": "craft", "steps": 1})))
    words = ["train", str(file), "--cache", "none"]
    monkeypatch.setattr(sys, "argv", ["craft-trainer", *words])

    def job() -> None:
        result = CliRunner().invoke(cli.app, words)
        assert result.exit_code == 0, result.output

    check_walk(PAGE, "## A prompt on its way", "craft_trainer", job)
