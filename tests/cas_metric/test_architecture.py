"""The page on the house is true: its floors are those of the rules, its walk that of a run."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.support.walk import check_walk
from typer.testing import CliRunner

from cas_metric.cli.score import app
from cas_metric.verbs.demo import draw_world

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture" / "cas-metric.md"

#: Files of ours that a second run of `cas score` takes: those with a function that it calls, and
#: those that it imports. To raise a number is to make the main job longer to read: say why.
#: The last two: class-balanced intervals, which the self-test needs as well; and the options, which
#: were executed before, and whose `--out` is spelt once for every verb.
CALLED, EXECUTED = 67, 85
#: Most lines of a file; where one needs more, it holds two things.
LONGEST = 400


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


def test_a_file_can_be_read_in_one_sitting() -> None:
    lines = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in ROOT.glob("packages/*/src/**/*.py")
    }
    assert lines
    assert {name: count for name, count in lines.items() if count > LONGEST} == {}


def test_the_walk_is_that_of_a_run_and_a_second_run_takes_few_files(tmp_path: Path) -> None:
    real, generated = draw_world(tmp_path, "chexpert", 8, 0)
    words = [str(generated), str(real), "--out", str(tmp_path / "run"), "--device", "cpu"]
    words += ["--cache", str(tmp_path / "cache")]

    def job() -> None:
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output

    check_walk(PAGE, "## An image on its way", "cas_metric", job)
    counting = [sys.executable, "-m", "benchmarks.performance.files_read", "cas", "score", *words]
    told = subprocess.run(counting, cwd=ROOT, capture_output=True, text=True, check=True)
    line = re.search(r"cas_metric: functions called in (.*)", told.stdout)
    assert line is not None
    called, executed, templates = map(int, re.findall(r"\d+", line[1]))
    assert called <= CALLED, told.stderr
    assert executed <= EXECUTED
    assert templates <= 5
