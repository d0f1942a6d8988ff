"""Generated folders: what `cas score` reads, of the stage that is asked for, and resumable."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from tests.support.preferences import write_pairs_of
from torch import Tensor
from typer.testing import CliRunner

from cas_metric.cli import main as cas
from cas_metric.errors import InputError, PreflightError
from cas_metric.manifest import pair, read_folder_config, read_manifest, write_manifest
from craft_trainer import generation, inference
from craft_trainer.artifact.folder import find_artifact, load
from craft_trainer.bases.base import DiffusionModel
from craft_trainer.cli import main as cli
from craft_trainer.config.schema import to_yaml
from craft_trainer.data.pairs import TABLE
from craft_trainer.runtime.failures import NotFinite
from craft_trainer.runtime.lock import alone_in
from craft_trainer.training import run as runs
from craft_trainer.training import trainer

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
        told = {"out": str(whole), "artifact": artifact, "drawn": 1, "kept": 11}
        assert generate(whole, 4) == told
        assert (whole / name).read_bytes() == before


@pytest.fixture(scope="module")
def run(make_settings: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two stages."""
    folder = tmp_path_factory.mktemp("chained") / "run"
    stages = ({"method": "textual_inversion", "steps": 1}, {**LORA, "prompt": "{token}. {prompt}"})
    trainer.train_stages(make_settings(*stages, output=str(folder)), cache="none")
    return folder


@pytest.mark.parametrize(
    ("stage", "method"),
    [
        (None, "lora"),
        ("2", "lora"),
        ("1", "textual_inversion"),
        ("textual_inversion", "textual_inversion"),
        ("1-textual_inversion", "textual_inversion"),
    ],
)
def test_a_stage_of_a_run_is_chosen(
    run: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: str | None,
    method: str,
) -> None:
    chosen = [] if stage is None else ["--stage", stage]
    words = ["generate", str(run), str(images), "--out", str(tmp_path / "gen"), *chosen]
    result = invoke(monkeypatch, *words, "--seeds", "1", "--json")
    assert result.exit_code == 0, result.output
    (artifact,) = run.glob(f"*-{method}/artifact")
    assert json.loads(result.stdout)["artifact"] == str(artifact)
    assert set(read_manifest(tmp_path / "gen").rows["method"]) == {method}


def test_a_stage_that_is_not_there_is_answered_with_those_that_are(
    run: Path, tmp_path: Path
) -> None:
    for wrong in ("3", "craft"):
        with pytest.raises(InputError, match="1-textual_inversion, 2-lora"):
            find_artifact(run, wrong)
    assert find_artifact(run / "2-lora") == run / "2-lora" / "artifact"
    assert find_artifact(run / "2-lora" / "artifact", "lora") == run / "2-lora" / "artifact"
    with pytest.raises(InputError, match="is no run but one of its stages"):
        find_artifact(run / "2-lora" / "artifact", "1")
    with pytest.raises(InputError, match="holds no finished stage"):
        find_artifact(tmp_path)
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "2-lora" / "artifact").rename(copy / "2-lora" / ".artifact")  # not finished
    assert find_artifact(copy) == copy / "1-textual_inversion" / "artifact"
    (copy / "2-lora" / ".artifact").rename(copy / "2-lora" / "artifact")
    shutil.copytree(copy / "2-lora", copy / "10-lora")
    assert find_artifact(copy) == copy / "10-lora" / "artifact"  # after 2, not before it
    with pytest.raises(InputError, match="several finished stages are 'lora'"):
        find_artifact(copy, "lora")


def test_what_was_generated_is_scored_without_an_option(
    run: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, gen, out = (tmp_path / name for name in ("real", "gen", "scored"))
    shutil.copytree(images, real)
    (real / "cas.yaml").unlink()  # the real images say nothing of themselves
    words = ["generate", str(run), str(real), "--out", str(gen), "--seeds", "1"]
    assert invoke(monkeypatch, *words).exit_code == 0
    config = read_folder_config(gen)
    assert config is not None
    assert (config.domain, config.train) == ("phantom-chexpert", images)
    assert config.provenance["stage"] == "lora"
    scored = ["score", str(gen), str(real), "--out", str(out), "--cache", "none", "--json"]
    monkeypatch.setattr(sys, "argv", ["cas", *scored])
    result = CliRunner().invoke(cas.app, scored)
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert rows["domain"] == "phantom-chexpert"
    again = tmp_path / "named"
    named = [*scored[:4], str(again), *scored[5:-1]]
    options = ["--domain", "phantom-chexpert", "--train", str(images), "--json"]
    result = CliRunner().invoke(cas.app, [*named, *options])
    assert result.exit_code == 0, result.output
    assert (out / "per_image.csv").read_bytes() == (again / "per_image.csv").read_bytes()


def test_a_folder_holds_images_of_one_origin(
    run: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "gen"
    words = ["generate", str(run), str(images), "--out", str(out), "--seeds", "1"]
    assert invoke(monkeypatch, *words).exit_code == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for change, named in (
        (["sampling.guidance=1.5"], "sampling.guidance: 2.0 then, 1.5 now"),
        (["--stage", "1"], "stage: lora then, textual_inversion now"),
        (["--lora-scale", "0.5"], "lora_scale: 1.0 then, 0.5 now"),
        (["--prompt", "{prompt}"], "prompt: {token}. {prompt} then, {prompt} now"),
    ):
        result = invoke(monkeypatch, *words, *change)
        assert isinstance(result.exception, InputError)
        assert named in result.exception.problem
        assert "--out" in result.exception.fix
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert invoke(monkeypatch, *words[:-1], "2").exit_code == 0  # more seeds of the same


def test_settings_that_change_no_image_are_refused(run: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "gen"
    idle: dict[str, Any] = {
        "stages.1.steps": 5,
        "stages.0.prompt": "{token} {label}",  # of another stage
        "seed": 5,
        "lora.dropout": 0.5,
        "critic.encoder": "x",
        "artifact": "best",  # also what the first parameter is called
    }
    for name, value in idle.items():
        with pytest.raises(InputError, match=rf"{name}: without effect(.|\n)*base, .*sampling, "):
            generation.generate(run, images, out, seeds=1, **{name: value})
    with pytest.raises(InputError, match="did you mean 'sampling'"):
        generation.generate(run, images, out, seeds=1, **{"samplign.steps": 2})
    with pytest.raises(InputError, match="seed: without effect on the pipeline"):
        load(run, seed=5)
    with pytest.raises(InputError, match="artifact: without effect on the pipeline"):
        load(run, artifact="best")
    assert not out.exists()
    own = {"sampling.steps": 2, "data.resolution": 16, "stages.1.prompt": "{label}"}
    assert generation.generate(run, images, out, seeds=1, **own).drawn == 6
    config = read_folder_config(out)
    assert config is not None
    assert (config.provenance["prompt"], config.provenance["sampling"]["steps"]) == ("{label}", 2)


def test_more_steps_than_the_base_model_has_claim_no_folder(
    run: Path, images: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="more than the 1000 timesteps"):
        generation.generate(run, images, tmp_path / "gen", **{"sampling.steps": 1001})
    assert not (tmp_path / "gen").exists()


def test_two_processes_do_not_draw_into_one_folder(run: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "gen"
    assert generation.generate(run, images, out, seeds=1).drawn == 6
    with alone_in(out, "--out"), pytest.raises(InputError, match="another process is writing"):
        generation.generate(run, images, out, seeds=2)
    assert generation.generate(run, images, out, seeds=1).kept == 6


def test_real_images_are_not_generated_over(
    run: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tmp_path / "real"
    shutil.copytree(images, real)
    for gone in ((), ("cas.yaml",), ("cas.yaml", "metadata.csv")):
        for name in gone:
            (real / name).unlink(missing_ok=True)
        before = {path: path.read_bytes() for path in real.rglob("*")}
        result = invoke(monkeypatch, "generate", str(run), str(images), "--out", str(real))
        assert isinstance(result.exception, InputError)
        assert "nothing says what they were drawn with" in result.exception.problem
        assert {path: path.read_bytes() for path in real.rglob("*")} == before


def test_prompts_that_share_an_id_are_listed_before_any_image(
    run: Path, images: Path, tmp_path: Path
) -> None:
    rows = read_manifest(images).rows
    rows.loc[[1, 4], "id"] = "p0"
    folder = shutil.copytree(images, tmp_path / "twice")
    write_manifest(rows, folder)
    with pytest.raises(PreflightError, match="p0: 3 rows have this id"):
        generation.generate(run, folder, tmp_path / "gen", seeds=1)
    assert not (tmp_path / "gen").exists()


def test_a_model_that_draws_nan_writes_no_black_image(
    run: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(model: DiffusionModel, latents: Tensor) -> Tensor:
        return torch.full((len(latents), 3, 16, 16), torch.nan)

    monkeypatch.setattr(DiffusionModel, "decode", broken)
    out = tmp_path / "gen"
    result = invoke(monkeypatch, "generate", str(run), str(images), "--out", str(out))
    assert isinstance(result.exception, NotFinite)
    assert not list(out.rglob("*.png"))


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


def test_a_dpo_stage_passes_over_its_pairs(
    settings: Any, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = write_pairs_of(images, tmp_path / "pairs")
    table = pd.read_csv(pairs / TABLE).head(4)  # as many as images would show nothing
    table.to_csv(pairs / TABLE, index=False)
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(settings({"method": "dpo", "epochs": 2, "pairs": str(pairs)})))
    result = invoke(monkeypatch, "estimate", str(file), "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)[0]["steps"] == 4  # twice 4 pairs in batches of 2


@pytest.mark.parametrize("name", ["run #2", "null", "1e3", "läufe: 3"])
def test_a_folder_is_taken_as_it_is_written(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(settings(LORA)))
    monkeypatch.setattr(runs, "train_stages", lambda config, **_: config.output)
    told = invoke(monkeypatch, "train", str(file), "--out", name, "--json")
    assert json.loads(told.stdout)["output"] == name


def test_one_process_of_several_tells_what_was_trained(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(settings(LORA)))
    monkeypatch.setattr(runs, "train_stages", lambda config, **_: config.output)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, said in (("0", True), ("1", False)):
        monkeypatch.setenv("RANK", rank)
        assert bool(invoke(monkeypatch, "train", str(file), "--json").stdout) == said


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


def test_an_option_given_as_a_setting_is_named(
    run: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`stage=lora` in place of `--stage lora` was a TypeError."""
    for setting in ("stage=lora", "seeds=2", "lora_scale=0.5"):
        words = ["generate", str(run), str(images), "--out", str(tmp_path / "gen"), setting]
        result = invoke(monkeypatch, *words)
        assert isinstance(result.exception, InputError), result.exception
        name = setting.partition("=")[0]
        assert f"override {name!r}: a configuration has no such key" in str(result.exception)
        assert f"--{name.replace('_', '-')} VALUE" in result.exception.fix


def test_a_link_that_leads_nowhere_is_refused_before_any_model(
    run: Path, images: Path, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "unmounted" / "disk")
    monkeypatch.setattr(generation, "load_trained", lambda *_: pytest.fail("a model was loaded"))
    with pytest.raises(InputError, match="cannot be written to"):
        generation.generate(run, images, link)
    with pytest.raises(InputError, match="cannot be written to"):
        trainer.train_stages(settings(LORA, output=str(link)), cache="none")


def test_an_interrupted_batch_is_drawn_as_a_whole(
    settings: Any, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last bits of an image depend on those that it is drawn with."""
    run, out = trainer.train_stages(settings(LORA), cache="none"), tmp_path / "gen"
    batches: list[list[tuple[int, ...]]] = []
    drawn = inference.sample_images

    def noted(model: Any, texts: Any, seeds: Any, *own: Any) -> Tensor:
        batches[-1].append(tuple(seeds))
        return drawn(model, texts, seeds, *own)

    monkeypatch.setattr(inference, "sample_images", noted)
    for _ in range(2):
        batches.append([])
        made = generation.generate(run, images, out, seeds=1, batch_size=4)
        (out / "seed0" / "000002.png").unlink()
    assert (made.drawn, made.kept) == (1, 5)
    whole, again = batches
    assert (len(whole), again) == (2, whole[:1])


def test_a_side_that_cannot_be_drawn_claims_no_folder(
    settings: Any, images: Path, tmp_path: Path
) -> None:
    run, out = trainer.train_stages(settings(LORA), cache="none"), tmp_path / "gen"
    with pytest.raises(InputError, match=r"data\.resolution 18"):
        generation.generate(run, images, out, seeds=1, **{"data.resolution": 18})
    assert not out.exists()
