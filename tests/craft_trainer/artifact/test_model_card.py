"""Model cards: a header that hubs read, what was judged, and nothing that a manifest smuggles."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from tests.support.preferences import write_pairs_of
from tests.support.tiny_families import build_flux, build_sana, build_sdxl
from typer.testing import CliRunner

from craft_trainer.artifact.model_card import fenced, plain
from craft_trainer.bases.loading import require_sampling
from craft_trainer.bases.weights import base_hash
from craft_trainer.cli import main as cli
from craft_trainer.config.stage import method_names, stage_class
from craft_trainer.training import trainer


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
    artifact = trainer.train_stages(config, cache="none")
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


def test_every_method_has_a_title_and_says_what_it_trained(
    settings: Any, images: Path, tmp_path: Path
) -> None:
    assert all(stage_class(name).title for name in method_names())
    pairs = str(write_pairs_of(images, tmp_path / "pairs"))
    seen = {}
    for stage in (
        {"method": "zero_shot"},
        {"method": "textual_inversion", "steps": 1},
        {"method": "dpo", "steps": 1, "pairs": pairs},
    ):
        config = settings(stage, output=str(tmp_path / stage["method"]))
        text = (trainer.train_stages(config, cache="none") / "README.md").read_text()
        _, header, body = text.split("---\n", 2)
        seen[stage["method"]] = body
        assert f"# {stage_class(stage['method']).title} on phantom-chexpert" in body
        tags = yaml.safe_load(header)["tags"]
        assert ("lora" in tags) == (stage["method"] == "dpo")
    assert "Diffusion-DPO of a latent diffusion model" in seen["dpo"]
    assert "| steps | 1 |" in seen["dpo"]
    assert "Learned tokens:" in seen["textual_inversion"]
    assert "steps" not in seen["zero_shot"].split("## Configuration")[0].split("```")[0]
    assert "These weights" not in seen["zero_shot"]


@pytest.mark.parametrize("family", ["sd", "sdxl", "flux", "sana"])
def test_the_lines_under_use_draw_with_diffusers_alone(
    settings: Any,
    base: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    family: str,
) -> None:
    builders = {"sd": lambda folder: base, "sdxl": build_sdxl, "flux": build_flux}
    builders["sana"] = build_sana
    lora = {"method": "lora", "steps": 1, "learning_rate": 0.1}
    stages = [{"method": "textual_inversion", "steps": 1}, {**lora, "prompt": "{token} {prompt}"}]
    source = builders[family](tmp_path / "base")
    flow = family in ("flux", "sana")
    side = 32 if family == "sana" else 16
    data = {"train": str(images), "resolution": side, "domain": "phantom-chexpert"}
    config = settings(*([lora] if flow else stages), base=str(source), data=data)
    artifact = trainer.train_stages(config, cache="none")
    (code,) = re.findall(
        r"## Use\n\n```python\n(.*?)\n```", (artifact / "README.md").read_text(), re.S
    )
    monkeypatch.chdir(artifact)
    space: dict[str, Any] = {}
    exec(code, space)
    assert space["image"].size == (side, side)
    pipe = space["pipe"]
    assert pipe.get_active_adapters()
    if family == "sdxl":
        assert pipe.text_encoder_2.text_model.eos_token_id == pipe.tokenizer_2.eos_token_id != 2
    if family == "sana":  # whose solver of the second order takes other steps than training
        assert pipe.scheduler.config.solver_order == 1
    if not flow:
        assert tuple(pipe.scheduler.timesteps.tolist()) == require_sampling(config)
        for tokenizer in (pipe.tokenizer, getattr(pipe, "tokenizer_2", pipe.tokenizer)):
            assert "<pleural-effusion>" in tokenizer.get_vocab()


def test_a_card_says_that_diffusers_has_no_ancestral_steps(settings: Any, tmp_path: Path) -> None:
    source = build_flux(tmp_path / "base")
    for kind in ("euler", "ancestral"):
        lora = {"method": "lora", "steps": 1}
        sampling = {"steps": 2, "flow_sampler": kind}
        run = settings(lora, base=str(source), sampling=sampling, output=str(tmp_path / kind))
        text = (trainer.train_stages(run, cache="none") / "README.md").read_text()
        assert ("diffusers does not have" in text) == (kind == "ancestral")


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
    sheet = np.asarray(Image.open(tmp_path / "demo" / "samples.png"))
    assert sheet.shape == (4 * 64, 4 * 64, 3)  # real, before, after LoRA, after CRAFT; 4 prompts
    after = tmp_path / "demo" / "run" / "3-craft" / "samples" / "heldout-0000001.png"
    assert np.array_equal(sheet[-64:], np.asarray(Image.open(after)))
