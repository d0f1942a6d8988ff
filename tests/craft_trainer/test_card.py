"""Model cards: a header that hubs read, what was judged, and nothing that a manifest smuggles."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from craft_trainer import trainer
from craft_trainer.card import fenced, plain
from craft_trainer.cli import main as cli
from craft_trainer.provenance import base_hash


def test_text_from_outside_stays_text() -> None:
    hostile = "<img src=x onerror=a> [x](javascript:a) | `code`\n# heading"
    shown = plain(hostile)
    assert "<" not in shown
    assert "\n" not in shown
    assert r"\[x\](javascript:a) \| \`code\` \# heading" in shown
    block = fenced("a: '```'\n```\n# out", "yaml")
    assert block.startswith("````yaml\n")
    assert block.endswith("\n````")


def test_an_artefact_carries_its_card(settings: Any, base: Path) -> None:
    stage = {"method": "lora", "steps": 3, "prompt": "{prompt}"}
    config = settings(stage, validation={"every": 3, "images": 2})
    artifact = trainer.train(config, cache="none")
    text = (artifact / "README.md").read_text()
    _, header, body = text.split("---\n", 2)
    values = yaml.safe_load(header)
    assert values["library_name"] == "diffusers"
    assert "base_model" not in values  # a local folder is no id of a hub
    assert body.lstrip().startswith("**Drawn phantoms, not medical data.**")
    assert base_hash(str(base), None, offline=True) in body
    assert json.loads((artifact / "stage.json").read_text())["base_sha256"] in body
    assert "nothing guarded this run" in body
    assert Image.open(artifact / "samples.png").size == (32, 16)
    assert np.asarray(Image.open(artifact / "curves.png")).std() > 0


def test_the_demo_shows_cas_before_and_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = ["--train", "8", "--prompts", "4", "--inversion", "1", "--lora", "1", "--craft", "1"]
    words = ["demo", "--out", str(tmp_path / "demo"), *sizes]
    monkeypatch.setattr(sys, "argv", ["craft-trainer", *words])
    result = CliRunner().invoke(cli.app, words)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Drawn phantoms, not medical data.")
    assert "| before |" in result.stdout
    assert "| after craft |" in result.stdout
    assert (tmp_path / "demo" / "run" / "3-craft" / "artifact" / "samples.png").is_file()
