"""What stages leave behind: nothing in memory, and an identity that knows what was learned from."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image
from tests.support.preferences import write_pairs_of

from cas_metric.errors import InputError
from cas_metric.manifest import FolderConfig, write_folder_config
from craft_trainer.artifact.identity import identity_of
from craft_trainer.bases.base import DiffusionModel
from craft_trainer.config.schema import Config
from craft_trainer.data.dataset import read_examples
from craft_trainer.training import trainer

LORA = {"method": "lora", "steps": 1}


def test_one_base_model_is_alive_at_a_time(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[weakref.ref[DiffusionModel]] = []
    alive: list[int] = []
    load_base = trainer.load_base

    def counted(*arguments: Any) -> DiffusionModel:
        alive.append(sum(one() is not None for one in loaded))  # of the stages before
        model = load_base(*arguments)
        loaded.append(weakref.ref(model))
        loaded.append(weakref.ref(model.trunk))
        return model

    monkeypatch.setattr(trainer, "load_base", counted)
    stages = (
        {"method": "textual_inversion", "steps": 1},
        LORA,
        {"method": "craft", "steps": 1, "reward_gradients_every": 0},
    )
    trainer.train_stages(settings(*stages), cache="none")
    assert alive == [0, 0, 0]
    gc.collect()
    assert all(one() is None for one in loaded)


@pytest.fixture
def data(images: Path, tmp_path: Path) -> Path:
    """A training folder of the test's own."""
    folder = tmp_path / "train"
    folder.mkdir()
    for path in images.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def rewrite_prompt(folder: Path) -> None:
    table = pd.read_csv(folder / "metadata.csv")
    table.loc[2, "prompt"] = "Something else."
    table.to_csv(folder / "metadata.csv", index=False)


def repaint(folder: Path) -> None:
    Image.new("RGB", (24, 20), (7, 7, 7)).save(folder / "3.png")


def name_another_pack(folder: Path) -> None:
    write_folder_config(folder, FolderConfig(domain="chexpert"))


@pytest.mark.parametrize("change", [rewrite_prompt, repaint, name_another_pack])
def test_other_contents_under_the_same_path_are_another_run(
    settings: Any, data: Path, change: Any
) -> None:
    config = settings(LORA, data={"train": str(data), "resolution": 16})
    trainer.train_stages(config, cache="none")
    trainer.train_stages(config, cache="none")  # the same: kept
    change(data)
    with pytest.raises(InputError, match=r"made with other settings: contents\.data: "):
        trainer.train_stages(config, cache="none")


def test_held_out_images_and_pairs_are_known_by_their_contents(
    watched: Any, settings: Any, data: Path, images: Path, tmp_path: Path
) -> None:
    def held_out() -> Config:
        return watched(LORA, validation={"manifest": str(data)})

    first = identity_of(held_out(), 1)["contents"]
    assert identity_of(held_out(), 1)["contents"] == first
    repaint(data)
    second = identity_of(held_out(), 1)["contents"]
    assert {name for name in first if first[name] != second[name]} == {"validation.manifest"}

    pairs = write_pairs_of(images, tmp_path / "pairs")
    config = settings({"method": "dpo", "steps": 1, "pairs": str(pairs)})
    first = identity_of(config, 1)["contents"]
    table = pd.read_csv(pairs / "pairs.csv")
    swapped = table.rename(columns={"chosen": "rejected", "rejected": "chosen"})
    swapped[list(table.columns)].to_csv(pairs / "pairs.csv", index=False)
    second = identity_of(config, 1)["contents"]
    assert {name for name in first if first[name] != second[name]} == {"stages.0"}


def test_the_order_of_rows_counts_and_where_they_lie_does_not(data: Path, tmp_path: Path) -> None:
    from craft_trainer.data.dataset import content_digest

    before = content_digest(read_examples(data, None))
    moved = data.rename(tmp_path / "elsewhere")
    assert content_digest(read_examples(moved, None)) == before
    table = pd.read_csv(moved / "metadata.csv")
    table[::-1].to_csv(moved / "metadata.csv", index=False)
    assert content_digest(read_examples(moved, None)) != before
