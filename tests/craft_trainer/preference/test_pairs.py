"""``craft-trainer pairs``: what is drawn, who is preferred, and the stage that learns from it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.encoders import load_encoder
from cas_metric.errors import InputError
from cas_metric.images import load_image, to_tensor
from cas_metric.mllm import Conversation, Reply
from craft_trainer.cli import main as cli
from craft_trainer.data import dataset as data
from craft_trainer.preference import judges, pairs
from craft_trainer.rewards.targets import load_critic, prepare_targets
from craft_trainer.training import trainer


def test_pairs_are_drawn_judged_continued_and_learned_from(
    settings: Any, images: Path, tmp_path: Path, critic: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = trainer.train_stages(settings({"method": "lora", "steps": 1}), cache="none")
    out = tmp_path / "pairs"

    def run(*changes: str) -> Any:
        words = ["pairs", str(artifact), str(images), "--out", str(out), "--pairs", "8"]
        words += ["--cache", "none", "--json", *changes]
        monkeypatch.setattr(sys, "argv", ["craft-trainer", *words])
        return CliRunner().invoke(cli.app, words)

    def invoke(*changes: str) -> dict[str, Any]:
        result = run(*changes)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    first = invoke()
    assert (first["drawn"], first["count"], first["without_preference"]) == (16, 8, 0)
    table = pd.read_csv(out / pairs.TABLE)
    before = (out / pairs.TABLE).read_bytes()
    (out / table["chosen"][0]).unlink()
    assert invoke()["drawn"] == 1
    assert (out / pairs.TABLE).read_bytes() == before
    assert invoke("--judge", "r_cam")["drawn"] == 0  # of the same images
    invoke()

    # Images of another seed, or of nobody knows what, are not taken for these.
    refused = run("--seed", "1").exception
    assert isinstance(refused, InputError)
    assert "seed: 0 then, 1 now" in refused.problem
    assert "--out" in refused.fix
    told = (out / "cas.yaml").rename(tmp_path / "cas.yaml")
    refused = run().exception
    assert isinstance(refused, InputError)
    assert "nothing says what they were drawn with" in refused.problem
    told.rename(out / "cas.yaml")
    assert (out / pairs.TABLE).read_bytes() == before

    # The margin again, from the definitions.
    examples = data.read_examples(images, None)
    encoder = load_encoder(str(critic), device="cpu")
    with EmbeddingCache("none") as cache:
        judge = judges.AlignmentJudge(examples, encoder, cache)
    row = list(examples.manifest.rows["id"]).index(table["reference"][0])

    def score(name: str) -> float:
        vector = encoder.embed_images(to_tensor(load_image(out / name).pixels)[None])[0]
        sides = [getattr(judge.targets, key)[row] for key in ("prompt", "checklist", "reference")]
        right = int(judge.probe.logits(vector[None]).argmax()) == int(judge.targets.label[row])
        return float((sum(float(vector @ side) for side in sides) + right) / 4)

    margin = score(table["chosen"][0]) - score(table["rejected"][0])
    assert margin == pytest.approx(table["margin"][0], abs=5e-3)  # of another preprocessing
    stage = {"method": "dpo", "steps": 1, "pairs": str(out)}
    learned = trainer.train_stages(settings(stage, output=str(tmp_path / "dpo")), cache="none")
    assert (learned / "pytorch_lora_weights.safetensors").is_file()


class Scripted:
    """A language model that always takes the brighter image, or says nonsense to one prompt."""

    name = "scripted"
    identity: ClassVar = {"name": "scripted"}
    concurrent = False
    notes = ()

    def reply(self, conversation: Conversation) -> Reply:
        request = conversation.request
        if "number 2" in request.prompt:
            return Reply("neither")
        light = [float(load_image(path).pixels.mean()) for path in request.images]
        return Reply(json.dumps({"choice": "AB"[int(np.argmax(light))]}))


def test_a_language_model_is_not_fooled_by_the_order(images: Path, tmp_path: Path) -> None:
    from craft_trainer.inference import write_image

    examples = data.read_examples(images, None)
    candidates = pairs.plan(6, 6, seed=0)
    for number, pair in enumerate(candidates):
        for side, name in enumerate(pair.images):
            light = 0.8 if side == number // 2 % 2 else 0.2
            write_image(torch.full((3, 8, 8), light), tmp_path / name)
    judge = judges.LanguageModelJudge(examples, Scripted())  # type: ignore[arg-type]
    found = judge.prefer(candidates, tmp_path, lambda done, total: None)
    for number, (pair, preference) in enumerate(zip(candidates, found, strict=True)):
        expected = 1.0 if number // 2 % 2 == 0 else -1.0
        assert preference == (None if pair.row == 2 else expected)
    table = pairs.write_pairs(tmp_path, candidates, found, examples, judge.name)
    assert len(table) == 5
    for row in table.itertuples():
        assert load_image(tmp_path / row.chosen).pixels.mean() > 150
        assert load_image(tmp_path / row.rejected).pixels.mean() < 100


def test_the_critic_judges_in_its_own_precision(
    settings: Any, critic: Path, images: Path, tmp_path: Path
) -> None:
    stage, cpu = {"method": "craft", "steps": 1}, torch.device("cpu")
    examples = data.read_examples(images, None)
    own = {
        "encoder": str(critic),
        "dtype": "bfloat16",
        "probe": str(tmp_path / "probe.safetensors"),
    }
    config = settings(stage, critic=own)
    with EmbeddingCache("none") as cache:
        loaded = load_critic(str(critic), config, cpu)
        _, probe = prepare_targets(examples, loaded, cache, {"dd": 1.0})
        assert probe is not None
        probe.save(tmp_path / "probe.safetensors")
        judge = judges.judge_of("cas", None, config, examples, cpu, cache)
    assert isinstance(judge, judges.AlignmentJudge)
    assert judge.encoder.fingerprint == loaded.fingerprint
