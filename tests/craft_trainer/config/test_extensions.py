"""A method or a family of base models of another package is used by its name, with no edit here."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from tests.support.warm import Warm

from cas_metric.errors import InputError
from craft_trainer.bases.base import family_of
from craft_trainer.config.schema import parse_config, to_yaml
from craft_trainer.config.stage import method_names, stage_class

PAGE = Path(__file__).parents[3] / "docs" / "architecture" / "craft-trainer.md"
#: One file: settings, costs and loss of a method of one's own, as the documentation prints it.
(METHOD,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
BASE = '''
"""A family of base models of one's own."""

from craft_trainer.bases.stable_diffusion import StableDiffusion


class Other(StableDiffusion):
    pipeline_name = "OtherPipeline"
'''


def installed(folder: Path) -> Path:
    """A package as an installer leaves it: modules, and metadata that names the entry points."""
    folder.mkdir()
    (folder / "another_method.py").write_text(METHOD)
    (folder / "another_base.py").write_text(BASE)
    metadata = folder / "another-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: another\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[craft_trainer.methods]\nabsolute = another_method:AbsoluteStage\n"
        "broken = another_base:Other\n"
        "[craft_trainer.bases]\nother = another_base:Other\n"
    )
    return folder


@pytest.fixture
def another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = installed(tmp_path / "another")
    monkeypatch.syspath_prepend(folder)
    yield folder
    for name in ("another_method", "another_base"):
        sys.modules.pop(name, None)


def test_a_method_of_another_package_trains_by_its_name(
    settings: Any, another: Path, warm: Warm, tmp_path: Path
) -> None:
    stage = {"method": "absolute", "steps": 2}
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(settings(stage)))
    search = os.pathsep.join([str(another), os.environ.get("PYTHONPATH", "")])
    run = partial(
        warm.run,
        "from craft_trainer.cli.main import main; main()",
        env={**os.environ, "PYTHONPATH": search},
    )
    trained = run("train", str(file), "--cache", "none")
    assert trained.returncode == 0, trained.stderr
    artifact = tmp_path / "run" / "1-absolute" / "artifact"
    weights = load_file(artifact / "pytorch_lora_weights.safetensors")
    assert any(float(value.abs().max()) > 0 for name, value in weights.items() if "up" in name)
    assert "# Absolute error on phantom-chexpert" in (artifact / "README.md").read_text()
    estimated = run("estimate", str(file), "--json")
    assert '"forwards": 12.0' in estimated.stdout, estimated.stderr  # 2 steps, 2 images, 3 each


def test_mistakes_are_told_as_of_any_method(settings: Any, another: Path) -> None:
    assert "absolute" in list(method_names())
    with pytest.raises(InputError, match=r"unknown key 'stages\.0\.stesp'\n.*'steps'"):
        settings({"method": "absolute", "steps": 1, "stesp": 1})
    with pytest.raises(InputError, match=r"entry point 'broken' of .* is no Stage"):
        stage_class("broken")


def test_a_family_of_another_package_is_found_by_its_pipeline(another: Path) -> None:
    assert family_of("OtherPipeline").__module__ == "another_base"
    known = r"(?s)is a NoSuchPipeline.*flux, other, sana, stable_diff"
    with pytest.raises(InputError, match=known):
        family_of("NoSuchPipeline")


def test_without_the_package_the_methods_that_are_there_are_named() -> None:
    values = {
        "output": "x", "base": "x", "data": {"train": "x"},
        "stages": [{"method": "qqq", "steps": 1}],
    }  # fmt: skip
    with pytest.raises(InputError, match="craft, dpo, lora, nft, textual_inversion, zero_shot"):
        parse_config(values)
    for wrong in ("os", "denoising", "base", "..config", ""):  # files that are no method
        with pytest.raises(InputError, match="no method"):
            stage_class(wrong)
