"""What can be known stops a run before its first stage: no model is loaded, nothing is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support.tiny_families import build_sd3

from cas_metric.errors import CasError
from cas_metric.manifest import read_manifest, write_manifest
from craft_trainer.training import trainer

INVERSION = {"method": "textual_inversion", "steps": 1}
LORA = {"method": "lora", "steps": 1}
CRAFT = {"method": "craft", "steps": 1}


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Trains, expects the error, and that it came before any model and any file."""

    def loaded(*_: Any) -> None:
        pytest.fail("a model was loaded")

    monkeypatch.setattr(trainer, "load_base", loaded)

    def refused(config: Any, message: str, code: int = 2) -> None:
        with pytest.raises(CasError, match=message) as caught:
            trainer.train_stages(config, cache="none")
        assert caught.value.exit_code == code
        assert not (tmp_path / "run").exists() or not list((tmp_path / "run").rglob("*.*"))

    return refused


def test_a_critic_that_is_not_here(settings: Any, untouched: Any) -> None:
    stages = (INVERSION, LORA, CRAFT)
    nowhere = {"encoder": "nobody/no-such-encoder"}
    untouched(settings(*stages, critic=nowhere, offline=True), "no-such-encoder", 4)
    untouched(settings(*stages, critic={"encoder": "./no/folder"}), "no/folder", 4)


def test_a_third_stage_that_the_base_model_cannot_train(
    settings: Any, untouched: Any, tmp_path: Path
) -> None:
    flow = str(build_sd3(tmp_path / "sd3"))
    untouched(settings(LORA, LORA, {**CRAFT, "repeat_mode": "renoise"}, base=flow), "Euler steps")
    untouched(settings(INVERSION, LORA, base=flow), "textual inversion is not offered")


def test_a_token_that_nobody_learns(settings: Any, untouched: Any) -> None:
    third = {**CRAFT, "prompt": "{token}. {prompt}"}
    untouched(settings(LORA, LORA, third), "prompt of stage 3 .* has no learned token")


def test_prompts_that_a_later_stage_needs(
    settings: Any, untouched: Any, images: Path, tmp_path: Path
) -> None:
    rows = read_manifest(images).rows
    rows.loc[[1, 4], "prompt"] = ""
    folder = tmp_path / "train"
    folder.mkdir()
    for name in rows["image"]:
        (folder / name).write_bytes((images / name).read_bytes())
    write_manifest(rows, folder)
    data = {"train": str(folder), "resolution": 16, "domain": "phantom-chexpert"}
    inverted = {**INVERSION, "prompt": "{token}"}
    craft = {**CRAFT, "prompt": "{token}"}
    untouched(settings(inverted, craft, data=data), "(?s)1.png has no prompt.*4.png has no prompt")


def test_a_craft_stage_without_any_reward(settings: Any) -> None:
    with pytest.raises(CasError, match="every reward is switched off"):
        settings(LORA, {**CRAFT, "rewards": {"vdc": 0, "ccs": 0, "dd": 0, "sfs": 0}})
