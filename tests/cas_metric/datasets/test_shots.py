"""``cas datasets shots``: few images a class, nested, readable as any other split."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cas_metric.cli.datasets import app
from cas_metric.errors import InputError
from cas_metric.manifest import read_manifest, write_manifest
from cas_metric.phantoms.dataset import write_phantom_dataset


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantoms")
    return write_phantom_dataset("chexpert", root, train=40, test=4, size=16)["train"]


def draw(train: Path, out: Path, number: int, seed: int = 42) -> set[str]:
    words = ["shots", str(train), "--shots", str(number), "--out", str(out), "--seed", str(seed)]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0
    manifest = read_manifest(out)
    assert set(Counter(manifest.rows["label"]).values()) == {number}
    assert all(path.is_file() for path in manifest.paths())
    assert manifest.config is not None
    assert manifest.config.domain == "phantom-chexpert"
    return set(manifest.rows["id"])


def test_few_are_a_part_of_more_and_another_seed_draws_others(train: Path, tmp_path: Path) -> None:
    two = draw(train, tmp_path / "two", 2)
    five = draw(train, tmp_path / "five", 5)
    assert two < five < set(read_manifest(train).rows["id"])
    assert draw(train, tmp_path / "other", 2, seed=1) != two


def test_too_many_or_the_same_folder_is_refused(train: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="11 shots"):
        draw(train, tmp_path / "many", 11)
    with pytest.raises(InputError, match="folder of the images"):
        draw(train, train, 2)


def test_a_table_keeps_its_config_and_a_file_is_no_folder(train: Path, tmp_path: Path) -> None:
    table = write_manifest(read_manifest(train).rows.assign(label="a"), tmp_path / "train.csv")
    (tmp_path / "cas.yaml").write_text("domain: phantom-chexpert\n")
    with pytest.raises(InputError, match="or of their table"):
        draw(table, tmp_path, 2)
    with pytest.raises(InputError, match="cannot be made"):
        draw(train, table, 2)


def test_metadata_of_ones_own_is_not_replaced(train: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "metadata.csv").write_text("image\na.png\n")
    with pytest.raises(InputError, match="of its own"):
        draw(train, own, 2)
    assert (own / "metadata.csv").read_text() == "image\na.png\n"
    assert len(draw(train, tmp_path / "drawn", 2)) < len(draw(train, tmp_path / "drawn", 3))


def test_a_config_of_ones_own_is_not_replaced(train: Path, tmp_path: Path) -> None:
    (tmp_path / "mine" / "Edema").mkdir(parents=True)
    config = tmp_path / "mine" / "cas.yaml"
    config.write_text("window: [0, 80]\n")
    with pytest.raises(InputError, match=r"holds a cas\.yaml of its own"):
        draw(train, tmp_path / "mine", 2)
    assert config.read_text() == "window: [0, 80]\n"
