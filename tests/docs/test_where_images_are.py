"""The page on inputs runs as printed; its hosts are a server and a store of this machine."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import fsspec
import pandas as pd
import pytest
from tests.docs.blocks import ROOT, blocks_of, run_block
from tests.support.containers import as_parquet, as_webdataset, files_of, http_server

from cas_metric.verbs.demo import draw_world

PAGE = ROOT / "docs" / "guide" / "where-your-images-are.md"


def test_the_page_runs_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_world(tmp_path, "chexpert", 8, 0)
    generated = tmp_path / "generated"
    as_parquet(generated, tmp_path / "gen.parquet")
    as_webdataset(generated, tmp_path / "shards", 2)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CAS_CACHE", str(tmp_path / "cache"))
    system = fsspec.filesystem("memory")
    for name in ("generated", "gen.parquet"):
        place = tmp_path / name
        for path in files_of(place) if place.is_dir() else [Path()]:
            far = f"/bucket/{name}" if path == Path() else f"/bucket/{name}/{path.as_posix()}"
            system.pipe(far, (place / path).read_bytes())
    system.pipe("/you/made/data/train-0.parquet", (tmp_path / "gen.parquet").read_bytes())
    try:
        with http_server(tmp_path) as url:
            hosts = {
                "https://images.example.org": url,
                "s3://": "memory://",
                "hf://datasets/": "memory://",
            }
            for block in blocks_of(PAGE):
                assert block.reason is None
                if block.language == "bash":
                    run_block(
                        re.sub("|".join(hosts), lambda one: hosts[one[0]], block.text), tmp_path
                    )
                elif block.language == "python":
                    exec(block.text, {})
    finally:
        system.rm("/bucket", recursive=True)
        system.rm("/you", recursive=True)
    tables = [path for path in sorted((tmp_path / "runs").iterdir()) if path.name != "urls"]
    assert len(tables) == 8
    assert len({(path / "per_image.csv").read_bytes() for path in tables}) == 1
    copied = pd.read_csv(tmp_path / "runs" / "urls" / "per_image.csv")
    assert copied["sfs"].tolist() == pytest.approx([1, 1], abs=1e-6)
