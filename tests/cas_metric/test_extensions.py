"""A package that is installed beside ours brings verbs and domains, without an edit of ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cas_metric.report.synthetic_run import write_synthetic_run
from tests.support.installed import install

from cas_metric.cli.main import VERBS
from cas_metric.runs import Run

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
RENDERER = """\
import numpy as np

from cas_metric.phantoms import FindingSpec


class Knee:
    domain = "phantom-knees"
    classes = ("Healthy", "Worn")
    context = ()

    def sample(self, label, rng):
        return FindingSpec(self.domain, label, {"gap": int(rng.integers(3, 6))})

    def render(self, spec, size=64):
        return np.full((size, size, 3), 40 * spec.finding["gap"], np.uint8)

    def describe(self, spec):
        return f"{spec.label}, a joint space of {spec.finding['gap']} mm."


RENDERER = Knee()
"""
ENTRY_POINTS = """\
[cas_metric.verbs]
greet = clinic.greet
torn = clinic.torn
score = clinic.greet

[cas_metric.domains]
clinic = clinic.packs

[cas_metric.phantoms]
phantom-knees = clinic.knee
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    files = {
        "greet.py": VERB,
        "torn.py": BROKEN,
        "knee.py": RENDERER,
        "packs/__init__.py": "",
        "packs/knees.yaml": PACK,
    }
    return install(tmp_path_factory.mktemp("site"), "clinic", files, ENTRY_POINTS)


def python(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(site), *sys.path])
    return subprocess.run(
        [sys.executable, *words],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )


def cas(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return python(site, "-m", "cas_metric.cli", *words)


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


def test_a_renderer_of_another_package_draws_by_name(site: Path) -> None:
    code = (
        "from cas_metric.phantoms import make_phantom\n"
        "from cas_metric.phantoms.dataset import class_counts\n"
        "drawn = make_phantom('knees', 'Worn', 1, 32)\n"
        "print(drawn.image.shape, drawn.prompt.split(',')[0], class_counts('knees', 4, 'train'))"
    )
    done = python(site, "-c", code)
    assert done.stdout == "(32, 32, 3) Worn {'Healthy': 2, 'Worn': 2}\n", done.stderr


def test_every_verb_says_in_its_first_line_what_it_does() -> None:
    assert list(VERBS)[:4] == ["score", "demo", "doctor", "compare"]
    assert all(line.endswith(".") for _, line in VERBS.values())


def test_a_section_of_the_report_is_one_file_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cas_metric.report import sections
    from cas_metric.report.document import render_report

    (tmp_path / "oldest.py").write_text(
        '"""``oldest``: the first image."""\n'
        "from cas_metric.report.sections import Section\n\n"
        "def section(run, methods):\n"
        "    return Section('Oldest', 'The oldest', f'<{run.rows[\"id\"].iloc[0]}>')\n"
    )
    run = Run.load(write_synthetic_run(tmp_path, images=False))
    assert "oldest" not in render_report(run)
    monkeypatch.setattr(sections, "__file__", str(tmp_path / "__init__.py"))
    monkeypatch.setattr(sections, "__path__", [str(tmp_path)])
    page = render_report(run)
    assert '<section id="oldest"><h2>The oldest</h2>' in page
    assert f"&lt;{run.rows['id'].iloc[0]}&gt;" in page
    assert 'href="#oldest"' in page
