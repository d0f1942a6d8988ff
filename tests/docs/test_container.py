"""The container recipe of the guide, held against what linters of such files want.

No engine runs here, so that the recipe is not built; hadolint judges it where it is installed.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/guide/physician-study.md").read_text(encoding="utf-8")
RECIPE = re.search(r"```dockerfile\n(.*?)```", PAGE, re.DOTALL).group(1)  # type: ignore[union-attr]
STEPS = [line.split(maxsplit=1) for line in RECIPE.splitlines() if line.strip()]
WORDS = [word for word, _ in STEPS]


def told(word: str) -> str:
    return next(rest for name, rest in STEPS if name == word)


def test_its_form() -> None:
    known = {"FROM", "COPY", "RUN", "USER", "VOLUME", "EXPOSE", "CMD"}
    assert WORDS[0] == "FROM"
    assert set(WORDS) <= known
    assert WORDS.count("CMD") == WORDS.count("FROM") == 1
    assert re.search(r":(?!latest)\S+$", told("FROM")), "the base image has no tag"
    assert "--no-cache-dir" in told("RUN")
    assert "sudo" not in RECIPE
    assert told("VOLUME").startswith("/")


def test_it_runs_as_a_numbered_user_that_it_makes() -> None:
    number = told("USER")
    assert number.isdecimal()
    assert int(number) > 0
    assert f"--uid {number}" in told("RUN")
    assert WORDS.index("USER") > WORDS.index("RUN")


def test_what_it_copies_and_runs_is_there() -> None:
    source = ROOT / told("COPY").split()[0]
    assert (source / "pyproject.toml").is_file()
    assert re.search(r"^study = ", (source / "pyproject.toml").read_text(), re.MULTILINE)
    version = re.search(r"python:(\d+\.\d+)", told("FROM")).group(1)  # type: ignore[union-attr]
    assert f'requires-python = ">={version}"' in (source / "pyproject.toml").read_text()
    command = json.loads(told("CMD"))  # the form without a shell
    assert command[:3] == ["cas", "study", "serve"]
    assert command[3] == told("VOLUME")
    from typer.testing import CliRunner

    from cas_metric.cli.study import app

    assert "--host" in CliRunner().invoke(app, ["serve", "--help"], env={"COLUMNS": "99"}).output
    served = re.search(r"docker run .*-p 127\.0\.0\.1:(\d+):(\d+)", PAGE)
    assert served is not None
    assert served.group(1) == served.group(2) == told("EXPOSE")


def test_hadolint_finds_nothing(tmp_path: Path) -> None:
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("hadolint is not installed")
    file = tmp_path / "Dockerfile"
    file.write_text(RECIPE, encoding="utf-8")
    done = subprocess.run([program, str(file)], capture_output=True, text=True, check=False)
    assert done.stdout == ""
