"""The page on DICOM and NIfTI runs as printed, and prints what it says."""

from __future__ import annotations

import io
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pandas as pd
import pytest
from tests.docs.blocks import ROOT, blocks_of, run_block

PAGE = ROOT / "docs" / "guide" / "dicom-and-nifti.md"


def test_the_page_runs_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pydicom")
    pytest.importorskip("nibabel")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CAS_CACHE", str(tmp_path / "cache"))
    printed = ""
    for block in blocks_of(PAGE):
        if block.language == "bash":
            run_block(block.text, tmp_path, codes=(3,) if "runs/scans" in block.text else (0,))
        elif block.language == "python":
            with redirect_stdout(io.StringIO()) as out:
                exec(block.text, {})
            printed = out.getvalue()
        else:
            assert block.text == printed
    rows = pd.read_csv(tmp_path / "runs" / "slices" / "per_image.csv", dtype=str)
    assert rows["id"].tolist() == ["09", "13", "17"]
    assert rows["sfs"].notna().all()
