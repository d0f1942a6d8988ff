"""The JSON schema says what every key means and takes what runs; a new file is a configuration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from craft_trainer.cli.main import app
from craft_trainer.config.description import SCHEMA_FILE, beginning, json_schema, write_new
from craft_trainer.config.schema import load_config, to_yaml
from craft_trainer.config.stage import method_names

EXAMPLES = Path(__file__).parents[3] / "packages" / "craft-trainer" / "examples"


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return json_schema()


def undescribed(node: dict[str, Any], place: str = "") -> Iterator[str]:
    for name, part in node.get("properties", {}).items():
        if len(part.get("description", "")) < 5:
            yield f"{place}.{name}"
    for name, part in node.get("$defs", {}).items():
        yield from undescribed(part, name)


def test_every_key_has_a_description(schema: dict[str, Any]) -> None:
    assert not list(undescribed(schema))


def test_the_schema_takes_what_runs_and_marks_a_mistake(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    valid = jsonschema.Draft202012Validator(schema)
    for path in EXAMPLES.glob("*.yaml"):
        valid.validate(yaml.safe_load(path.read_text()))
        valid.validate(yaml.safe_load(to_yaml(load_config(path))))  # every default spelt out
        values = yaml.safe_load(path.read_text())
        values["stages"][0]["learning_rat"] = 1
        assert not valid.is_valid(values)
        assert not valid.is_valid({**yaml.safe_load(path.read_text()), "sede": 1})


@pytest.mark.parametrize("method", list(method_names()))
def test_a_new_file_is_the_configuration_of_its_values(method: str, tmp_path: Path) -> None:
    own = (
        ["textual_inversion", method]
        if method not in ("zero_shot", "textual_inversion")
        else [method]
    )
    values = beginning(own, base="phantom-sd", train="data/train", domain=None, output="runs/a")
    path, _ = write_new(tmp_path / "run.yaml", values)
    config = load_config(path)
    assert [stage.method for stage in config.stages] == own
    assert yaml.safe_load(path.read_text()) == values
    uncommented = [
        line
        for line in path.read_text().splitlines()
        if line.startswith("# seed") or line == "# lora:"
    ]
    assert uncommented == ["# seed: 42", "# lora:"]


def test_the_verbs_write_and_print(tmp_path: Path) -> None:
    path = tmp_path / "own" / "run.yaml"
    done = CliRunner().invoke(app, ["new", str(path), "--method", "lora", "--train", "here"])
    assert done.exit_code == 0, done.output
    assert load_config(path).data.train == Path("here")
    assert path.read_text().startswith(f"# yaml-language-server: $schema=./{SCHEMA_FILE}\n")
    printed = CliRunner().invoke(app, ["schema"])
    assert yaml.safe_load(printed.stdout) == yaml.safe_load((path.parent / SCHEMA_FILE).read_text())
