"""A package that is installed beside ours brings verbs and domains, without an edit of ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.installed import install

from cas_metric.cli.main import VERBS

VERB = '''"""``cas greet``: say hello to a domain."""

import typer

app = typer.Typer()


@app.command()
def greet(domain: str) -> None:
    from cas_metric.domains import load_domain

    typer.echo(f"hello {load_domain(domain).title}")
'''
BROKEN = '''"""``cas torn``: cannot be imported."""

import no_such_module_anywhere
'''
PACK = """\
name: knees
title: Knees from the side
modality: knee radiograph
classes:
  - {name: Healthy, checklist: {Joint space: wide and even}}
  - {name: Worn, checklist: {Joint space: narrow on one side}}
"""
ENTRY_POINTS = """\
[cas_metric.verbs]
greet = clinic.greet
torn = clinic.torn
score = clinic.greet

[cas_metric.domains]
clinic = clinic.packs
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    files = {"greet.py": VERB, "torn.py": BROKEN, "packs/__init__.py": "", "packs/knees.yaml": PACK}
    return install(tmp_path_factory.mktemp("site"), "clinic", files, ENTRY_POINTS)


def cas(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(site), *sys.path])
    return subprocess.run(
        [sys.executable, "-m", "cas_metric.cli", *words],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_verb_and_a_domain_of_another_package_work_by_name(site: Path) -> None:
    done = cas(site, "greet", "knees")
    assert done.stdout == "hello Knees from the side\n", done.stderr


def test_the_help_lists_it_last_without_importing_it(site: Path) -> None:
    done = cas(site, "--help")
    assert done.returncode == 0, done.stderr
    assert "Say hello to a domain." in done.stdout
    assert "Cannot be imported." in done.stdout  # and yet the help is there
    assert done.stdout.index("greet") > done.stdout.index("datasets")


def test_none_takes_the_place_of_one_of_ours(site: Path) -> None:
    assert "Clinical Alignment Score" in cas(site, "score", "--help").stdout


def test_one_that_cannot_be_imported_is_one_message(site: Path) -> None:
    done = cas(site, "torn")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "the package clinic cannot be imported" in done.stderr


def test_domains_are_listed_with_the_package_that_brings_them(site: Path) -> None:
    listed = json.loads(cas(site, "domains", "list", "--json").stdout)
    assert {"knees": "clinic"}.items() <= {one["name"]: one["origin"] for one in listed}.items()


def test_every_verb_says_in_its_first_line_what_it_does() -> None:
    assert list(VERBS)[:4] == ["score", "demo", "doctor", "compare"]
    assert all(line.endswith(".") for _, line in VERBS.values())
