"""The tutorial works as printed: its blocks are run in order, with a tiny random encoder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
from tests.support.tiny_models import build_siglip

from cas_metric.domains import parse_domain

TUTORIAL = Path(__file__).parents[3] / "docs" / "tutorial-own-domain.md"


def blocks(language: str) -> list[str]:
    text = TUTORIAL.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_tutorial_runs_as_printed(tmp_path):
    encoder = build_siglip(tmp_path / "encoder")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "CAS_CACHE": str(tmp_path / "cache"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    files = dict(
        re.match(r"# (\S+)\n(.*)", block, re.DOTALL).groups()
        for block in blocks("yaml")
        if block.startswith("# ")
    )
    for script in blocks("bash"):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script.replace("phantom-siglip", str(encoder))],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        if "domains new" in script:
            assert "…" in (tmp_path / "textile.yaml").read_text(encoding="utf-8")
            for name, content in files.items():
                (tmp_path / name).write_text(content, encoding="utf-8")

    for method in ("careful", "careless"):
        rows = pd.read_parquet(tmp_path / "runs" / method / "per_image.parquet")
        assert len(rows) == 30
        assert (rows["status"] == "ok").all()
        assert rows["cas"].notna().all()
        assert set(rows["label"]) == {"Intact", "Hole", "Oil Stain"}
        summary = json.loads((tmp_path / "runs" / method / "summary.json").read_text("utf-8"))
        assert summary["domain"] == "textile"
        assert summary["protocol"] == "custom"


def test_schema_of_the_tutorial_is_valid_in_its_pack():
    pack = next(block for block in blocks("yaml") if block.startswith("# textile.yaml"))
    addition = next(block for block in blocks("yaml") if block.startswith("prompt_schema"))
    schema = parse_domain(pack + addition).prompt_schema
    answer = {"place": "left", "summary": "soft brown blot"}
    assert schema.render(answer, "Oil Stain") == "Oil Stain, soft brown blot, left"
    assert schema.validate({"place": "left", "summary": "a hole"}, "Intact")
