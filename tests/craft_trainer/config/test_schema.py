"""Configurations: overrides, errors that name the nearest key, and the example that is shipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cas_metric.errors import InputError
from craft_trainer.config.schema import load_config, parse_config, parse_overrides, to_yaml
from craft_trainer.cost.estimate import cost_of
from craft_trainer.methods.craft import CraftStage

EXAMPLE = Path(__file__).parents[3] / "packages/craft-trainer/examples/chexpert.yaml"


def written(tmp_path: Path, **changes: Any) -> Path:
    values = yaml.safe_load(EXAMPLE.read_text()) | changes
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_the_example_holds_the_values_of_the_paper() -> None:
    config = load_config(EXAMPLE)
    inversion, lora, craft = config.stages
    assert (inversion.steps, lora.epochs, craft.epochs) == (3000, 10, 10)
    assert config.data.resolution == 512
    assert config.sampling.steps == 20
    assert isinstance(craft, CraftStage)
    assert (craft.gradient_steps, craft.repeats, craft.batch_size) == (1, 2, 4)
    assert (craft.lambda_diff, craft.lambda_cam) == (0.2, 0.8)
    assert {0.8 * weight for weight in craft.rewards.weights().values()} == {0.2}
    assert config.seed == 42


def test_overrides_reach_every_depth_and_win(tmp_path: Path) -> None:
    config = load_config(
        written(tmp_path),
        ["seed=7", "data.resolution=256", "stages.2.rewards.dd=0.1", "critic.encoder=phantom-x"],
    )
    assert (config.seed, config.data.resolution, config.critic.encoder) == (7, 256, "phantom-x")
    assert config.stages[2].rewards.dd == 0.1  # type: ignore[union-attr]


def test_a_resolved_configuration_reads_back_as_itself(tmp_path: Path) -> None:
    config = load_config(EXAMPLE)
    path = tmp_path / "resolved.yaml"
    path.write_text(to_yaml(config))
    assert load_config(path) == config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sead=1", r"unknown key 'sead'\n  fix: did you mean 'seed'\?"),
        ("data.resolutoin=1", r"unknown key 'data.resolutoin'\n  fix: did you mean 'resolution'"),
        ("stages.2.repeat=1", r"unknown key 'stages.2.repeat'\n  fix: did you mean 'repeats'"),
        ("stages.2.rewards.ddd=1", r"'stages.2.rewards.ddd'\n  fix: did you mean 'dd'"),
        ("stages.2.trajectory.guidence=3", r"'stages.2.trajectory.guidence'\n  fix: .* 'guidance'"),
        ("stages.2.safeguards.ccs_contrst=1", r"ccs_contrst'\n  fix: did you mean 'ccs_contrast'"),
        ("stages.2.prefix.solvr=a", r"prefix.solvr'\n  fix: did you mean 'solver'"),
        # What stands further in.
        (
            "trajectory.steps=3",
            r"'trajectory'\n  fix: 'trajectory' stands within a stage \(stages.N.trajectory\)",
        ),
        ("pairs=a", r"fix: 'pairs' stands within a stage \(stages.N.pairs\)"),
        ("rank=4", r"fix: 'rank' stands within `lora` \(lora.rank\)"),
        ("steps=4", r"a stage \(stages.N.steps\) or `sampling` \(sampling.steps\)"),
        ("stages.9.repeats=1", "no position in a list of 3"),
        (
            "stages.2.repeats=0",
            r"stages\.2\.repeats: Input should be greater than 0\n  fix: `craft-trainer new",
        ),
        ("stages.2.lora={}", r"unknown key 'stages.2.lora'\n  fix: 'lora' stands at the left"),
        (
            "stages.2.method=crafft",
            r"stages\.2\.method: no method 'crafft'\n  fix: did you mean 'craft'",
        ),
        ("stages.2.gradient_steps=21", "gradient_steps 21 exceeds sampling.steps 20"),
        # K is one number for a whole trajectory, and nothing draws it anew step by step.
        ("stages.2.gradient_steps=[1, 5]", r"stages\.2\.gradient_steps: a number is expected"),
        # Half precision gives black images with Stable Diffusion 2.1.
        ("dtype=float16", "dtype: Input should be 'float32' or 'bfloat16'"),
        ("stages.1.prompt='{token} {lable}'", r"stages\.1\.prompt: .*only \{prompt\}, \{label\}"),
        ("stages.0.prompt=a film", r"stages\.0: .*lacks \{token\}"),
        ("stages.2={method: craft, steps: 1, lambda_diff: 0, lambda_cam: 0}", "nothing is learned"),
        # What would be left out without a word.
        ("stages.2.prefix={own_steps: 2}", "own_steps are those of repeat_mode: renoise"),
        ("stages.2.prefix={steps: 2}", "steps are those of a solver"),
        ("stages.2.prefix={replay_age: 5}", "replay_age is that of a replayed prefix"),
        ("stages.2={method: craft, steps: 1, lambda_cam: 0, safeguards: {grey: true}}", "is 0"),
        ("stages.2={method: craft, steps: 1, lambda_cam: 0, prefix: {replay: 1}}", "lambda_cam is"),
        ("stages.0.learning_rate=1e39", r"stages\.0\.learning_rate: Input should be less"),
        ("stages.1.steps=5", "either `steps` or `epochs`"),
        ("seed", "is no key=value"),
        ("seed.deeper=1", "no keys below it"),
        ("data.resolution=[", r"override 'data\.resolution=\[', line 1: not valid YAML"),
        # A misspelt key is named, and not the one that is missing because of it.
        ("stages.0={methd: lora, steps: 1}", r"stages\.0\.method: no method ''"),
        ("data={trian: data/train}", r"unknown key 'data.trian'\n  fix: did you mean 'train'"),
        ("stages={method: lora}", "stages: a list is expected"),
        ("stages=", "stages: a list is expected"),
        ("stages=[]", "stages: one entry at least is expected"),
        ("data=data/train", "data: keys are expected below it"),
        ("base=a: b", "base: text is expected"),
        ("output=[a]", "output: text is expected"),
        ("offline=2", "offline: true or false is expected"),
        # Nothing else in a step would notice these before a file holds NaN.
        ("sampling.guidance=inf", r"sampling\.guidance: Input should be a finite number"),
        ("sampling.guidance=.inf", r"sampling\.guidance: a number is expected"),
        ("stages.1.learning_rate=.inf", r"stages\.1\.learning_rate: a number is expected"),
        ("stages.1.learning_rate=1e39", r"stages\.1\.learning_rate: Input should be less"),
        ("seed=9223372036854775808", "seed: Input should be less"),
        ("validation={every: 1, seed: 9223372036854775808}", r"validation\.seed: Input should be"),
        ("lora.rank_pattern={'(': 4}", r"lora\.rank_pattern.*no regular expression"),
        ("lora.alpha_pattern={'(': 4}", r"lora\.alpha_pattern.*no regular expression"),
        # Python takes truth values for 1 and 0.
        ("seed=true", "seed: a whole number is expected"),
        ("stages.1.batch_size=yes", r"stages\.1\.batch_size: a whole number is expected"),
        ("stages.1.learning_rate=on", r"stages\.1\.learning_rate: .*a number is expected"),
        ("stages.2.prefix={replay: true}", r"stages\.2\.prefix\.replay: a whole number"),
        ("stages.2.rewards.dd=false", r"stages\.2\.rewards\.dd: .*a number is expected"),
        ("guards.grid.patience=true", r"guards\.grid\.patience: a whole number is expected"),
        ("lora.rank_pattern={'.*to_q': true}", r"lora\.rank_pattern\..*: a whole number"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_config(written(tmp_path), [override])


def test_options_that_stand_further_in_are_told_where() -> None:
    with pytest.raises(
        InputError, match=r"stands within a stage \(stages.N.trajectory\); an option"
    ):
        parse_overrides(["trajectory.steps=3"])


def test_python_s_truth_values_are_no_numbers() -> None:
    values = yaml.safe_load(EXAMPLE.read_text())
    for changes in ({"seed": True}, {"lora": {"rank_pattern": {"to_q": True}}}):
        with pytest.raises(InputError, match="a number is expected; yes, no"):
            parse_config(values | changes)


@pytest.mark.parametrize(
    ("override", "read"),
    [
        # By YAML 1.1 these are 8, 90, text, false, a date and 1234567.
        ("seed=010", 10),
        ("seed=1_000", 1000),
        ("seed=1:30", None),
        ("seed=0o10", None),
        ("seed=0x10", None),
        ("sampling.guidance=2e0", 2.0),
        ("guards.divergence.reaction=off", "off"),
        ("output=2026-01-31", Path("2026-01-31")),
        ("revision=0123456", "0123456"),
        ("tracking.run=no", "no"),
        ("offline=on", True),
    ],
)
def test_a_value_is_what_its_key_takes(tmp_path: Path, override: str, read: Any) -> None:
    key, _, value = override.partition("=")
    lines = [f"{'  ' * depth}{part}:" for depth, part in enumerate(key.split("."))]
    values = yaml.safe_load(EXAMPLE.read_text())
    values.pop(key.partition(".")[0], None)
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(values) + "\n".join(lines) + f" {value}\n")
    for file, overrides in ((path, []), (EXAMPLE, [override])):
        if read is None:
            with pytest.raises(InputError, match="seed: a whole number is expected, in decimal"):
                load_config(file, overrides)
            continue
        found: Any = load_config(file, overrides)
        for part in key.split("."):
            found = getattr(found, part)
        assert found == read


def test_truth_values_and_numbers_as_text_are_read_where_they_belong(tmp_path: Path) -> None:
    # YAML reads 1e-5, without a point, as text.
    words = ["offline=true", "stages.1.learning_rate=1e-5", "stages.1.warmup_steps='5'"]
    config = load_config(written(tmp_path), words)
    lora = config.stages[1]
    assert (config.offline, lora.learning_rate, lora.warmup_steps) == (True, 1e-5, 5)  # type: ignore[attr-defined]


def test_textual_inversion_comes_first(tmp_path: Path) -> None:
    stages = yaml.safe_load(EXAMPLE.read_text())["stages"]
    with pytest.raises(InputError, match="must be the first stage"):
        load_config(written(tmp_path, stages=stages[::-1]))


@pytest.mark.parametrize("text", ["", "- 1\n", "a: 1\na: 2\n", "a: !!python/object:os.system x\n"])
def test_files_that_are_no_configuration_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(InputError):
        load_config(path)


def test_cost_counts_forwards_as_worked_out_by_hand() -> None:
    config = load_config(EXAMPLE, ["gradient_checkpointing=true"])
    craft = config.stages[2]
    assert isinstance(craft, CraftStage)
    # With guidance and checkpointing a trajectory costs 2(T − K) + 8K.
    assert craft.reward_forwards(4.0, 2, 20) == 2 * (2 * 19 + 8)
    shared = craft.model_copy(update={"repeat_mode": "renoise"})
    assert shared.reward_forwards(4.0, 2, 20) == 2 * 19 + 2 * 8
    stopped = craft.model_copy(update={"unconditional_gradient": "stop"})
    assert stopped.reward_forwards(4.0, 2, 20) == 2 * (2 * 19 + 5)
    cost = cost_of(config, craft, 495)
    assert cost.steps == 1238
    assert cost.forwards_per_step == 4 * (4 + 2 * 46)


def test_a_misspelt_key_is_named_before_the_one_that_it_leaves_missing(tmp_path: Path) -> None:
    values = yaml.safe_load(EXAMPLE.read_text())
    for right, wrong in (("base", "bsae"), ("stages", "stags")):
        path = tmp_path / f"{wrong}.yaml"
        misspelt = {wrong if name == right else name: one for name, one in values.items()}
        path.write_text(yaml.safe_dump(misspelt))
        with pytest.raises(
            InputError, match=f"unknown key '{wrong}'\\n  fix: did you mean '{right}'"
        ):
            load_config(path)
    del values["stages"]
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match="stages: is missing"):
        load_config(path)


def test_an_override_reaches_below_a_section_that_is_off(tmp_path: Path) -> None:
    path = tmp_path / "resolved.yaml"
    path.write_text(to_yaml(load_config(EXAMPLE)))  # `safeguards: null`
    found = load_config(path, ["stages.2.safeguards.clip_at_real=true", "lora=", "lora.rank=4"])
    assert found.stages[2].guarded.clip_at_real
    assert found.lora.rank == 4


def test_what_other_programs_write_is_read_or_named(tmp_path: Path) -> None:
    path, text = tmp_path / "run.yaml", EXAMPLE.read_text()
    path.write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
    assert load_config(path) == load_config(EXAMPLE)
    path.write_bytes(text.encode("utf-16"))
    with pytest.raises(InputError, match="UTF-16\n  fix: save it as UTF-8"):
        load_config(path)
    path.write_bytes("# für\n".encode("latin-1") + text.encode())
    with pytest.raises(InputError, match="line 1: byte 0xfc is not UTF-8"):
        load_config(path)


def test_a_home_folder_is_found_where_no_shell_replaces_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    values = {
        "base": "~/sd",
        "output": "~/runs",
        "data": {"train": "~/train", "domain": "~/own.yaml"},
    }
    config = parse_config({**values, "stages": [{"method": "dpo", "steps": 1, "pairs": "~/pairs"}]})
    assert (config.output, config.data.train) == (tmp_path / "runs", tmp_path / "train")
    assert config.stages[0].sources() == (tmp_path / "pairs",)
    assert (config.base, config.data.domain) == (f"{tmp_path}/sd", f"{tmp_path}/own.yaml")
