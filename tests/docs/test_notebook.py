"""The notebook of the documentation runs, cell by cell, as a notebook user would run it."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from tests.docs.blocks import ROOT

from cas_metric.verbs.demo import draw_world

NOTEBOOK = ROOT / "docs" / "notebooks" / "three-cells.ipynb"


def test_three_cells_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_world(tmp_path / "demo", "chexpert", 8, 0)
    monkeypatch.setenv("CAS_CACHE", str(tmp_path / "cache"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    score, worst, plot = (cell for cell in notebook.cells if cell.cell_type == "code")
    assert "not medical data" in score.outputs[-1].data["text/html"]
    assert "cas" in worst.outputs[-1].data["text/html"]
    assert "image/png" in plot.outputs[-1].data
