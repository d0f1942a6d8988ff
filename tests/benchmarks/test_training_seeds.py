"""A further training differs from the first in its seed alone; the tables say what they hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from benchmarks.phantoms.craft import Experiment
from benchmarks.phantoms.training_seeds import (
    COMPARED,
    FIRST,
    Training,
    differences,
    means,
    measure,
)
from PIL import Image

from cas_metric.manifest import read_manifest, write_manifest
from craft_trainer.config.schema import parse_config

DOMAIN = "phantom-chexpert"


@pytest.mark.parametrize("name", COMPARED)
def test_another_seed_and_nothing_else(name: str, tmp_path: Path) -> None:
    configurations = []
    for one in (Experiment(DOMAIN, tmp_path), Training(DOMAIN, tmp_path, 43)):
        (text,) = one.continued(name).files.values()
        configurations.append(parse_config(yaml.safe_load(text)).model_dump())
    first, further = configurations
    assert {key for key in first if first[key] != further[key]} == {"seed", "output", "data"}
    assert further["seed"] == 43 != first["seed"] == FIRST
    assert first["start"] == further["start"]


def test_each_training_is_measured_once_on_as_many_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings = [Experiment(DOMAIN, tmp_path), Training(DOMAIN, tmp_path, 43)]
    for one in trainings:
        for name in COMPARED:
            folder = one.images(name).result.parent
            folder.mkdir(parents=True)
            images = [f"seed{seed}.png" for seed in range(5)]
            for image in images:
                Image.new("RGB", (8, 8)).save(folder / image)
            table = pd.DataFrame({"image": images, "label": "Pneumonia", "seed": range(5)})
            write_manifest(table.assign(reference="a"), folder)
    measured = []

    def fidelity(module: str, words: list[str], output: Path) -> int:
        table, out = Path(words[1]), Path(words[-1])
        measured.append([Path(image).name for image in read_manifest(table).rows["image"]])
        out.mkdir(parents=True)
        (out / "fidelity.json").write_text("{}")
        return 0

    monkeypatch.setattr("benchmarks.paper.steps.processes.run", fidelity)
    for _ in range(2):
        measure(trainings, tmp_path / "unseen")
    assert measured == [["seed0.png", "seed1.png"]] * 6


def rows() -> pd.DataFrame:
    """Ten cases, two generation seeds, two trainings; CRAFT is 0.1 and 0.3 above the control."""
    rng = np.random.default_rng(0)
    tables = []
    for training, gain in ((42, 0.1), (43, 0.3)):
        for name, own in (("control", 0.0), ("craft", gain), ("cheaper", gain / 2)):
            for seed in (0, 1):
                cases = [f"case{number}" for number in range(10)]
                noise = rng.normal(0, 1e-3, len(cases))
                table = {"id": cases, "reference": cases, "cas": 0.4 + own + noise, "seed": seed}
                method = {"method": f"{name} {training}", "name": name, "training": training}
                tables.append(pd.DataFrame(table).assign(**method))
    return pd.concat(tables, ignore_index=True)


def test_differences_are_paired_within_a_training() -> None:
    lines = differences(rows()).splitlines()
    cells = [cell.strip().split(" ")[0] for cell in lines[2].split("|")[2:5]]
    assert lines[2].startswith("| craft − control")
    np.testing.assert_allclose([float(cell) for cell in cells], [0.1, 0.3, 0.2], atol=2e-3)
    assert lines[4].startswith("| cheaper − craft")
    cells = [cell.strip().split(" ")[0].replace("−", "-") for cell in lines[4].split("|")[2:5]]
    np.testing.assert_allclose([float(cell) for cell in cells], [-0.05, -0.15, -0.1], atol=2e-3)


def test_the_deviation_is_that_over_trainings() -> None:
    lines = means(rows(), "cas").splitlines()
    assert lines[0].count("training") == 2
    (line,) = (line for line in lines if line.startswith("| TI + LoRA + CRAFT |"))
    first, second, spread = (float(cell) for cell in line.split("|")[2:5])
    assert spread == pytest.approx(abs(first - second) / 2**0.5, abs=2e-3)
