"""What is odd about images and prompts is said once, also where they were encoded before."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cas_metric.errors import PreflightError
from cas_metric.manifest import read_manifest, write_manifest
from craft_trainer import generation
from craft_trainer.training import trainer

LORA = {"method": "lora", "steps": 1, "prompt": "{prompt}"}


@pytest.fixture
def odd(images: Path, tmp_path: Path) -> Path:
    """The training images with a faint one, a prompt that is cut, and labels in two cases."""
    folder = shutil.copytree(images, tmp_path / "odd")
    (folder / "cas.yaml").unlink()
    twelve_bits = np.linspace(0, 4095, 32 * 32).reshape(32, 32).astype(np.uint16)
    Image.fromarray(twelve_bits).save(folder / "3.png")
    rows = read_manifest(folder).rows
    rows.loc[0, "prompt"] = "long " * 200
    rows.loc[2, "label"] = "cardiomegaly"
    write_manifest(rows, folder)
    return folder


def test_a_run_tells_what_is_odd(
    settings: Any, odd: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = {"train": str(odd), "resolution": 16}
    for name in ("first", "again"):  # the second finds everything in the store
        caplog.clear()
        config = settings(LORA, data=data, output=str(tmp_path / name))
        trainer.train_stages(config, cache=tmp_path / "cache")
        told = [record.getMessage() for record in caplog.records]
        assert [line for line in told if "images are" in line] == [
            "1 of 6 images are faint (first: 3.png)"
        ]
        (cut,) = [line for line in told if "texts are cut" in line]
        assert cut.startswith("1 of 6 texts are cut at ")
        assert len(cut) < 150
        assert any("differ in case only" in line for line in told)
        assert not [line for line in told if "was truncated because" in line]
    caplog.clear()
    generation.generate(config.output, odd, tmp_path / "gen", seeds=1)
    told = [record.getMessage() for record in caplog.records]
    assert [line.partition(" at ")[0] for line in told if "cut" in line] == ["1 of 6 texts are cut"]
    assert any("differ in case only" in line for line in told)
    assert not [line for line in told if "was truncated because" in line]


def test_blanks_are_no_prompt(settings: Any, images: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(images, tmp_path / "blank")
    rows = read_manifest(folder).rows
    rows.loc[0, "prompt"] = "  "
    rows.loc[1, "prompt"] = " as written "
    write_manifest(rows, folder)
    examples = generation.read_examples(folder, None)
    assert examples.prompts[1] == " as written "
    with pytest.raises(PreflightError, match=r"0\.png has no prompt"):
        trainer.train_stages(settings(LORA, data={"train": str(folder)}), cache="none")
