"""What a release says of itself is true, and the same everywhere."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import cas_metric

ROOT = Path(__file__).parents[2]
PROJECTS = {
    name: tomllib.loads((ROOT / "packages" / name / "pyproject.toml").read_text())["project"]
    for name in ("cas-metric", "craft-trainer")
}
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
WORKFLOWS = {
    path.stem: yaml.safe_load(path.read_text())
    for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))
}


def test_the_version_is_one() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    told = {citation["version"], cas_metric.__version__, *(p["version"] for p in PROJECTS.values())}
    assert told == {cas_metric.__version__}
    assert re.fullmatch(r"\d+\.\d+\.\d+", cas_metric.__version__)


@pytest.mark.parametrize("name", PROJECTS)
def test_the_pythons_are_those_that_are_tested(name: str) -> None:
    project = PROJECTS[name]
    told = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    assert told == PYTHONS
    assert project["requires-python"] == f">={PYTHONS[0]}"
    assert WORKFLOWS["ci"]["jobs"]["wheels"]["strategy"]["matrix"]["python"] == PYTHONS


def test_the_workflow_runs_what_a_developer_runs() -> None:
    for workflow, job in (("ci", "suite"), ("release", "build")):
        steps = WORKFLOWS[workflow]["jobs"][job]["steps"]
        assert {"run": ".ci/run"} in steps
        assert WORKFLOWS[workflow]["permissions"] == {"contents": "read"}
    assert {"run": "make docs-version PUSH=--push"} in WORKFLOWS["release"]["jobs"]["site"]["steps"]
    makefile = (ROOT / "Makefile").read_text()
    for target in ("dist", "sbom", "docs-version"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_the_site_is_called_after_the_version_and_names_nobodys_address() -> None:
    done = subprocess.run(
        ["make", "--dry-run", "--old-file=.venv/.installed", "docs-version", "PUSH=--push"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    minor = cas_metric.__version__.rpartition(".")[0]
    assert f"mike deploy --push --update-aliases {minor} latest" in done.stdout
    assert "mike set-default --push latest" in done.stdout
    settings = (ROOT / "mkdocs.yml").read_text()
    assert re.findall(r"^(?:site|repo)_url: (.*)$", settings, re.MULTILINE) == [
        '!ENV [SITE_URL, ""]', '!ENV [REPO_URL, ""]'
    ]  # fmt: skip
    assert "provider: mike" in settings


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.citation-file-format", ["CITATION.cff"]),
        ("vendor.github-workflows", [".github/workflows/ci.yml", ".github/workflows/release.yml"]),
    ],
)
def test_files_that_others_read_follow_their_schema(schema: str, files: list[str]) -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("check-jsonschema"), "--builtin-schema", schema, *files],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_security_page_names_switches_that_exist() -> None:
    from cas_metric.cli.options import AllowRoot

    text = (ROOT / "SECURITY.md").read_text()
    assert AllowRoot
    sources = "".join(path.read_text() for path in (ROOT / "packages").rglob("*.py"))
    for name in ("weights_only=True", "CAS_ALLOW_ROOT"):
        assert name in text
        assert name in sources
