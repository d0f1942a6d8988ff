"""`craft-trainer doctor`: what it finds, its exit codes, and that it leaves everything alone."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image
from tests.support.preferences import write_pairs_of
from tests.support.tiny_families import build_flux
from typer.testing import CliRunner

from cas_metric.manifest import read_manifest, write_manifest
from craft_trainer.cli import main as cli
from craft_trainer.config.schema import Config, to_yaml
from craft_trainer.data import readable

CRAFT = {"method": "craft", "steps": 4}


@pytest.fixture
def examined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def run(config: Config) -> tuple[int, dict[str, dict[str, Any]]]:
        file = tmp_path / "config.yaml"
        file.write_text(to_yaml(config))
        words = ["doctor", str(file), "--json"]
        monkeypatch.setattr(sys, "argv", ["craft-trainer", *words])
        result = CliRunner().invoke(cli.app, words)
        assert not config.output.exists()
        checks = json.loads(result.stdout)["checks"]
        return result.exit_code, {check["name"]: check for check in checks}

    return run


def test_a_run_that_can_start(settings: Any, examined: Any) -> None:
    code, checks = examined(settings(CRAFT))
    assert code == 0
    assert checks["base model"]["status"] == checks["critic"]["status"] == "ok"
    assert checks["held-out data"]["status"] == "warn"


def test_a_rate_that_is_never_reached(settings: Any, examined: Any) -> None:
    code, checks = examined(settings({**CRAFT, "steps": 2, "warmup_steps": 100}))
    assert code == 0
    assert checks["rate of stage 1"]["status"] == "warn"
    assert "comes to 2%" in checks["rate of stage 1"]["detail"]
    _, checks = examined(settings({**CRAFT, "steps": 2, "warmup_steps": 2}))
    assert "rate of stage 1" not in checks


def test_models_that_are_not_here_are_exit_code_4(settings: Any, examined: Any) -> None:
    code, checks = examined(settings(CRAFT, base="nobody/nothing", offline=True))
    assert code == 4
    assert checks["base model"]["status"] == "missing"
    code, checks = examined(settings(CRAFT, critic={"encoder": "nobody/nothing"}))
    assert code == 4
    assert checks["critic"]["status"] == "missing"


def test_incomplete_data_are_exit_code_2(settings: Any, examined: Any, tmp_path: Path) -> None:
    folder = tmp_path / "incomplete"
    folder.mkdir()
    rows = []
    for number in range(2):
        Image.new("RGB", (20, 20), (99 * number,) * 3).save(folder / f"{number}.png")
        prompt = " ".join(["opacity"] * 200) if number else ""
        rows.append({"image": f"{number}.png", "label": f"class {number}", "prompt": prompt})
    write_manifest(pd.DataFrame(rows), folder)
    code, checks = examined(settings(CRAFT, data={"train": str(folder), "resolution": 16}))
    assert code == 2
    assert "0.png has no prompt" in checks["training data"]["detail"]
    assert "column `prompt`" in checks["training data"]["fix"]
    assert "class 'class 0' has no checklist" in checks["training data"]["detail"]
    assert checks["prompts of stage 1"]["status"] == "warn"
    assert "1.png (" in checks["prompts of stage 1"]["detail"]


def test_a_copy_of_the_critic_is_no_evaluator(
    settings: Any, examined: Any, critic: Path, images: Path, tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(critic, tmp_path / "renamed")
    validation = {"every": 1, "encoder": str(tmp_path / "renamed"), "manifest": str(images)}
    code, checks = examined(settings(CRAFT, validation=validation))
    assert code == 2
    assert "the very weights of the critic" in checks["evaluator"]["detail"]
    assert "is a training image" in checks["held-out data"]["detail"]


def test_nor_is_one_of_a_further_critic(
    settings: Any, examined: Any, evaluator: Path, images: Path, tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(evaluator, tmp_path / "renamed")
    stage = {**CRAFT, "safeguards": {"critics": [str(tmp_path / "renamed")]}}
    validation = {"every": 1, "encoder": str(evaluator), "manifest": str(images)}
    _, checks = examined(settings(stage, validation=validation))
    assert "the very weights of the critic 2" in checks["evaluator"]["detail"]


def test_what_stages_start_from_is_looked_at(
    settings: Any, examined: Any, images: Path, tmp_path: Path
) -> None:
    there, gone = write_pairs_of(images, tmp_path / "pairs"), tmp_path / "gone"
    lora = {"method": "lora", "steps": 1}

    def dpo(pairs: Path) -> dict[str, Any]:
        return {"method": "dpo", "steps": 1, "pairs": str(pairs)}

    _, checks = examined(settings(dpo(there)))
    assert checks["pairs of stage 1"]["status"] == "ok"
    code, checks = examined(settings(lora, dpo(gone)))  # they can still be drawn of stage 1
    assert (code, checks["pairs of stage 2"]["status"]) == (0, "warn")
    code, checks = examined(settings(dpo(gone), start=str(tmp_path / "nowhere")))
    assert (code, checks["pairs of stage 1"]["status"], checks["start"]["status"]) == (
        2,
        "fail",
        "fail",
    )


def test_a_tracker_a_probe_and_a_critic_that_would_stop_a_run(
    settings: Any, examined: Any, critic: Path, tmp_path: Path
) -> None:
    lacking = {"encoder": str(critic), "probe": str(tmp_path / "probe.safetensors")}
    code, checks = examined(settings(CRAFT, tracker="aim", critic=lacking))
    assert (code, checks["tracker"]["status"], checks["probes"]["status"]) == (2, "fail", "fail")
    assert "critic.probe: " in checks["probes"]["detail"]
    assert checks["training data"]["status"] == "ok"  # which named the probe too
    code, checks = examined(settings(CRAFT, critic={"encoder": "phantom-dino"}))
    assert (code, checks["critic"]["status"], checks["tracker"]["status"]) == (2, "fail", "ok")
    assert "embeds images only" in checks["critic"]["detail"]


def test_images_that_cannot_be_read_are_found(
    settings: Any, examined: Any, images: Path, tmp_path: Path
) -> None:
    """They were called ok, and the run failed at them."""
    folder = shutil.copytree(images, tmp_path / "unreadable")
    (folder / "1.png").write_text("no image")
    (folder / "2.png").write_bytes(b"")
    code, checks = examined(settings(CRAFT, data={"train": str(folder)}))
    assert (code, checks["training data"]["status"]) == (2, "fail")
    assert "1.png: the content is no readable image" in checks["training data"]["detail"]
    assert "2.png: the file is empty" in checks["training data"]["detail"]


def test_images_that_break_off_are_found(
    settings: Any, examined: Any, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their headers are whole, and the run failed at their pixels."""
    folder = shutil.copytree(images, tmp_path / "truncated")
    whole = (folder / "0.png").read_bytes()
    (folder / "0.png").write_bytes(whole[: len(whole) // 2])
    pairs = write_pairs_of(folder, tmp_path / "pairs")
    dpo = {"method": "dpo", "steps": 1, "pairs": str(pairs)}
    code, checks = examined(settings(dpo, data={"train": str(folder)}))
    assert (code, checks["training data"]["status"]) == (2, "fail")
    for name in ("training data", "pairs of stage 1"):
        assert "all decoded; " in checks[name]["detail"], name
        assert "0.png: " in checks[name]["detail"], name
    monkeypatch.setattr(readable, "DECODED", 3)
    _, checks = examined(settings(CRAFT, data={"train": str(images)}))
    assert "all headers were read and" in checks["training data"]["detail"]
    assert "decoded, one in" in checks["training data"]["detail"]


def test_a_problem_of_several_checks_is_named_once(
    settings: Any, examined: Any, tmp_path: Path
) -> None:
    _, checks = examined(settings(CRAFT, data={"train": str(tmp_path / "gone")}))
    named = [one for one in checks.values() if str(tmp_path / "gone") in one["detail"]]
    assert [one["name"] for one in named] == ["training data"]


def test_prompts_are_counted_as_the_base_model_reads_them(
    settings: Any, examined: Any, images: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(images, tmp_path / "long")
    rows = read_manifest(folder).rows
    rows.loc[0, "prompt"] = " ".join(["a"] * 74)
    write_manifest(rows, folder)
    data = {"train": str(folder), "resolution": 16}
    learned = {"method": "textual_inversion", "steps": 1, "prompt": "{token} {prompt}"}
    # The tiny tokenizer counts the blanks between the words of a token, too.
    for count, status in ((1, "ok"), (7, "warn")):
        _, checks = examined(settings({**learned, "vectors_per_token": count}, data=data))
        assert checks["prompts of stage 1"]["status"] == status
    assert "1 of 6 exceed 77 tokens: 0.png (89)" in checks["prompts of stage 1"]["detail"]
    _, checks = examined(settings(CRAFT, base=str(build_flux(tmp_path / "flux")), data=data))
    assert checks["prompts of stage 1"]["detail"] == "6 within 512 tokens"


def test_a_side_that_the_base_model_cannot_draw_is_found(
    settings: Any, examined: Any, images: Path
) -> None:
    code, checks = examined(settings(CRAFT, data={"train": str(images), "resolution": 18}))
    assert (code, checks["base model"]["status"]) == (2, "fail")
    assert "data.resolution 18" in checks["base model"]["detail"]


@pytest.mark.parametrize(
    "lacking",
    [
        "unet/*.safetensors",
        "text_encoder/*.safetensors",
        "vae/config.json",
        "scheduler/*",
        "tokenizer/*",
    ],
)
def test_a_base_model_that_is_not_whole_is_found(
    settings: Any, examined: Any, base: Path, tmp_path: Path, lacking: str
) -> None:
    copy = shutil.copytree(base, tmp_path / "part")
    for file in copy.glob(lacking):
        file.unlink()
    code, checks = examined(settings(CRAFT, base=str(copy)))
    assert (code, checks["base model"]["status"]) == (4, "missing")
    assert lacking.partition("/")[0] in checks["base model"]["detail"]
