"""The notebooks of the documentation run, cell by cell, as a notebook user would run them."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from tests.docs.blocks import ROOT

from cas_metric.verbs.demo import draw_world

NOTEBOOKS = ROOT / "docs" / "notebooks"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def run(name: str, folder: Path) -> list[NotebookNode]:
    """Run a notebook in a folder; its cells of code, with what they put out."""
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_three_cells_run(tmp_path: Path) -> None:
    draw_world(tmp_path / "demo", "chexpert", 8, 0)
    score, worst, plot = run("three-cells.ipynb", tmp_path)
    assert "not medical data" in score.outputs[-1].data["text/html"]
    assert "cas" in worst.outputs[-1].data["text/html"]
    assert "image/png" in plot.outputs[-1].data


def test_a_domain_of_ones_own(tmp_path: Path) -> None:
    _, domain, means, by_label, worst = run("own-domain.ipynb", tmp_path)
    assert "one round gap" in domain.outputs[-1].data["text/plain"]
    assert "careless" in means.outputs[-1].data["text/plain"]
    holes = by_label.outputs[-1].data["text/plain"].splitlines()
    assert next(line.split() for line in holes if line.startswith("Hole"))[1] == "0.0"
    assert "Intact" in worst.outputs[-1].data["text/plain"]


def test_a_loop_of_ones_own(tmp_path: Path) -> None:
    draw_world(tmp_path / "demo", "chexpert", 8, 0)
    *_, history, pictures = run("own-loop.ipynb", tmp_path)
    assert "sfs" in history.outputs[-1].data["text/plain"]
    assert "image/png" in pictures.outputs[-1].data
    assert list((tmp_path / "mine").glob("*.safetensors"))


def test_notebooks_hold_no_outputs() -> None:
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            assert not cell.get("outputs"), path.name
