"""A guard that ends a stage: what is said, written and kept, and how such a run goes on."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.craft_trainer.conftest import WATCHED
from tests.craft_trainer.guards.test_heldout import journal, prepared

from cas_metric.errors import InputError
from craft_trainer.artifact.folder import load_trained
from craft_trainer.cli import main as cli
from craft_trainer.config.schema import Config, to_yaml
from craft_trainer.guards.watch import StoppedByGuard
from craft_trainer.training import trainer

#: Nothing but the reward, at a rate at which the adapter soon pleases its critic alone.
HACKED = {
    **WATCHED,
    "steps": 14,
    "learning_rate": 2e-2,
    "lambda_diff": 0.0,
    "repeats": 1,
    "batch_size": 6,
}
DIVERGENCE = {"divergence": {"reaction": "stop", "patience": 2, "drop": 0.02}}
LORA_FILE = "pytorch_lora_weights.safetensors"


class Stopped(NamedTuple):
    """A run that a guard ended."""

    config: Config
    folder: Path
    error: StoppedByGuard

    @property
    def looks(self) -> list[dict[str, Any]]:
        return journal(self.folder)


def hacked(make_settings: Any, evaluator: Path, unseen: Path, output: Path, **changes: Any) -> Any:
    validation = {"every": 2, "encoder": str(evaluator), "manifest": str(unseen), "prompts": 5}
    values = {"validation": validation, "guards": DIVERGENCE, **changes}
    stages = values.pop("stages", (HACKED,))
    return make_settings(*stages, output=str(output), **values)


@pytest.fixture(scope="module")
def run(
    make_settings: Any, evaluator: Path, unseen: Path, tmp_path_factory: pytest.TempPathFactory
) -> Stopped:
    """Real training, in which held-out CAS falls while the critic's reward rises."""
    output = tmp_path_factory.mktemp("stopped") / "run"
    config = hacked(make_settings, evaluator, unseen, output)
    with pytest.raises(StoppedByGuard) as caught:
        trainer.train_stages(config, cache="none")
    return Stopped(config, output / "1-craft", caught.value)


def cas(look: dict[str, Any]) -> float:
    return float(np.mean(look["scores"]["cas"]))


def test_the_sign_was_there(run: Stopped) -> None:
    """Told from the journal alone, not by the code that stopped the run."""
    looks = run.looks
    best = max(looks, key=cas)
    last = looks[-1]
    assert last["step"] < HACKED["steps"]
    assert cas(best) - cas(last) > 0.02
    reward = best["reward"] if best["reward"] is not None else looks[1]["reward"]
    assert last["reward"] > reward
    steps = [row["step"] for row in journal(run.folder, "metrics.jsonl")]
    assert steps == list(range(1, last["step"] + 1))  # and no step was taken after it


def test_the_reason_is_said_and_written(run: Stopped) -> None:
    best, last = max(run.looks, key=cas), run.looks[-1]
    said = run.error.problem
    assert said.startswith(f"stopped after step {last['step']} by the guard divergence: ")
    assert f"held-out CAS fell to {cas(last):.3f} from {cas(best):.3f} at step" in said
    assert f"while the critic's reward rose to {last['reward']:.3f} from" in said
    assert f"{run.folder / 'artifact'} holds the best weights, of step {best['step']}" in said
    for way_out in ("learning_rate", "guards.divergence.reaction=warn", "another `output`"):
        assert way_out in run.error.fix
    summary = json.loads((run.folder / "guards.json").read_text())
    assert (summary["stopped"], summary["best_step"]) == ("divergence", best["step"])
    (finding,) = [one for one in summary["findings"] if one["reaction"] == "stop"]
    assert finding["message"] in said
    assert finding["step"] == last["step"]
    assert finding["value"] > finding["limit"] == 0.02
    card = (run.folder / "artifact" / "README.md").read_text()
    assert f"**divergence** (stop), step {last['step']}: held-out CAS fell to" in card
    assert "The guard divergence ended the stage early; these are its best weights." in card
    assert f"| steps | {last['step']}, the weights after step {best['step']} |" in card


def test_the_artefact_holds_the_best_weights_by_the_held_out_encoder(run: Stopped) -> None:
    best = max(run.looks, key=cas)
    (kept,) = (run.folder / "best").glob("*.safetensors")
    assert kept.name == f"step-{best['step']:07d}.safetensors"
    held_out = prepared(run.config)
    model = load_trained(run.folder / "artifact", run.config, torch.device("cpu"))
    look, _ = held_out.look(model, held_out.examples.prompts, 0, None)
    np.testing.assert_allclose(look.scores["cas"], best["scores"]["cas"], atol=1e-5)


def test_the_same_command_trains_no_further_and_says_so(
    run: Stopped, caplog: pytest.LogCaptureFixture
) -> None:
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    with caplog.at_level(logging.WARNING):
        assert trainer.train_stages(run.config, cache="none") == run.folder / "artifact"
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before
    assert "was ended by the guard divergence" in caplog.text
    assert json.loads((run.folder / "guards.json").read_text())["findings"][-1]["message"] in (
        caplog.text
    )


def test_a_run_killed_before_its_artefact_stops_again_at_the_same_step(
    run: Stopped, make_settings: Any, evaluator: Path, unseen: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    shutil.copytree(run.folder.parent, output)
    shutil.rmtree(output / "1-craft" / "artifact")
    with pytest.raises(StoppedByGuard) as caught:
        trainer.train_stages(hacked(make_settings, evaluator, unseen, output), cache="none")
    assert caught.value.problem == run.error.problem.replace(str(run.folder.parent), str(output))
    for name in ("metrics.jsonl", "heldout.jsonl"):
        assert (output / "1-craft" / name).read_bytes() == (run.folder / name).read_bytes()
    ours, theirs = (
        load_file(folder / "artifact" / LORA_FILE) for folder in (output / "1-craft", run.folder)
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_command_ends_with_exit_code_3_and_goes_on_when_it_is_given_again(
    make_settings: Any,
    evaluator: Path,
    unseen: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    next_stage = {"method": "lora", "steps": 1, "learning_rate": 1e-9}
    output, file = tmp_path / "run", tmp_path / "config.yaml"
    stages = (HACKED, next_stage)
    file.write_text(to_yaml(hacked(make_settings, evaluator, unseen, output, stages=stages)))
    words = ["train", str(file), "--cache", "none"]
    monkeypatch.setattr(sys, "argv", ["craft-trainer", *words])

    def ended() -> int:
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return int(caught.value.code or 0)

    assert ended() == 3
    told = capsys.readouterr()
    assert "Trained" not in told.out
    assert "by the guard divergence: held-out CAS fell" in told.err
    assert not (output / "2-lora").exists()
    assert ended() == 0
    looks = journal(output / "1-craft")
    best = load_file(output / "1-craft" / "artifact" / LORA_FILE)
    after = load_file(output / "2-lora" / "artifact" / LORA_FILE)
    for name, value in best.items():  # the next stage started from the best weights
        torch.testing.assert_close(after[name], value, atol=1e-6, rtol=0)
    start = journal(output / "2-lora")[0]
    np.testing.assert_allclose(start["scores"]["cas"], max(looks, key=cas)["scores"]["cas"])


def test_a_guard_cannot_be_switched_off_half_way(
    run: Stopped, make_settings: Any, evaluator: Path, unseen: Path
) -> None:
    guards = {"divergence": {**DIVERGENCE["divergence"], "reaction": "warn"}}
    config = hacked(make_settings, evaluator, unseen, run.folder.parent, guards=guards)
    with pytest.raises(InputError, match=r"guards\.divergence\.reaction: stop then, warn now"):
        trainer.train_stages(config, cache="none")


def test_a_statistic_that_nobody_rewards_stops_a_run_as_well(watched: Any) -> None:
    # A learning rate that destroys the model; the band of the edge density is left at once.
    stage = {**WATCHED, "steps": 12, "learning_rate": 4.0}
    drift = {"reaction": "stop", "patience": 1, "tolerance": 0.01, "slack": 0.0}
    config = watched(stage, guards={"baseline": 1, "edge_density": drift})
    with pytest.raises(StoppedByGuard, match="by the guard edge_density") as caught:
        trainer.train_stages(config, cache="none")
    assert caught.value.exit_code == 3
    summary = json.loads((config.output / "1-craft" / "guards.json").read_text())
    assert summary["stopped"] == "edge_density"
    assert summary["looks"][-1] < 12
