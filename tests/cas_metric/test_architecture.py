"""The page on the house is true: its floors are those of the rules, its walk that of a run."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from tests.support.walk import check_walk
from typer.testing import CliRunner

from cas_metric.cli.score import app
from cas_metric.verbs.demo import draw_world

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture" / "cas-metric.md"


def floors() -> list[set[str]]:
    """Rooms by floor, the highest first, as the checked contract has them."""
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    return [set(re.split(r" \| ", one)) for one in rules["contracts"][0]["layers"]]


def test_the_drawing_is_that_of_the_rules() -> None:
    text = PAGE.read_text(encoding="utf-8")
    drawing = PAGE.with_suffix(".mmd").read_text(encoding="utf-8")
    lines = re.findall(r"^\s*([\w &]+?) --> ([\w &]+?)$", drawing, re.MULTILINE)
    drawn = [set(lines[0][0].split(" & ")), *(set(lower.split(" & ")) for _, lower in lines)]
    assert drawn == floors()
    assert [set(upper.split(" & ")) for upper, _ in lines] == drawn[:-1]
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == set().union(*floors())


def test_the_walk_is_that_of_a_run(tmp_path: Path) -> None:
    real, generated = draw_world(tmp_path, "chexpert", 8, 0)
    words = [str(generated), str(real), "--out", str(tmp_path / "run"), "--device", "cpu"]

    def job() -> None:
        result = CliRunner().invoke(app, [*words, "--cache", str(tmp_path / "cache")])
        assert result.exit_code == 0, result.output

    check_walk(PAGE, "## An image on its way", "cas_metric", job)
