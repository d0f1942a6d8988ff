"""Generated folders: what `cas score` reads, the same whatever the batch, and resumable."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cas_metric.manifest import pair, read_manifest
from craft_trainer.cli import main as cli
from craft_trainer.config import to_yaml

LORA = {"method": "lora", "steps": 1}


def invoke(monkeypatch: pytest.MonkeyPatch, *words: str) -> Any:
    monkeypatch.setattr(sys, "argv", ["craft-trainer", *words])
    return CliRunner().invoke(cli.app, list(words))


def test_train_then_generate_then_pair(
    settings: Any, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(settings(LORA)))
    trained = invoke(monkeypatch, "train", str(file), "stages.0.steps=2", "--json")
    assert trained.exit_code == 0, trained.output
    artifact = json.loads(trained.stdout)["artifact"]

    def generate(out: Path, batch: int) -> dict[str, Any]:
        options = ["--seeds", "2", "--batch-size", str(batch), "--json"]
        words = ["generate", artifact, str(images), "--out", str(out), *options]
        result = invoke(monkeypatch, *words)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    whole = tmp_path / "whole"
    assert generate(whole, 4)["drawn"] == 12
    generated, real = read_manifest(whole), read_manifest(images)
    joined = pair(generated, real)
    assert list(joined["reference_id"]) == [f"p{i}" for i in range(6)] * 2
    assert list(joined["reference_label"]) == list(joined["label"])
    assert set(joined["method"]) == {"lora"}
    assert sorted(set(joined["seed"])) == [0, 1]
    assert len({whole.joinpath(name).read_bytes() for name in generated.rows["image"]}) == 12

    for name in ("seed0/000003.png", "seed1/000005.png"):
        before = (whole / name).read_bytes()
        (whole / name).unlink()
        assert generate(whole, 4) == {"out": str(whole), "drawn": 1, "kept": 11}
        assert (whole / name).read_bytes() == before


def test_estimate_tells_what_a_run_costs(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(settings({"method": "craft", "epochs": 2, "repeats": 1})))
    result = invoke(monkeypatch, "estimate", str(file), "--json")
    assert result.exit_code == 0, result.output
    (cost,) = json.loads(result.stdout)
    assert cost["steps"] == 6
    assert cost["forwards_per_image"] == 3 + 2 * 2 + 2 * 3


def test_a_mistake_is_a_message_and_an_exit_code(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(settings(LORA)))
    monkeypatch.setattr(sys, "argv", ["craft-trainer", "train", str(file), "sead=1"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "did you mean 'seed'?" in capsys.readouterr().err
