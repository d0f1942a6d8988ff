"""DiffusionNFT goes on from the TI + LoRA of the whole path, and is judged as it is drawn."""

from __future__ import annotations

from pathlib import Path

import yaml
from benchmarks.phantoms.craft import Experiment
from benchmarks.phantoms.nft import Nft

from craft_trainer.config.schema import parse_config
from craft_trainer.methods.nft import NftStage

DOMAIN = "phantom-breakhis"


def test_it_draws_as_many_images_as_it_says_from_the_same_start(tmp_path: Path) -> None:
    experiment = Nft(DOMAIN, tmp_path, steps=60, rate=1e-4)
    (text,) = experiment.continued("nft").files.values()
    config = parse_config(yaml.safe_load(text))
    (stage,) = config.stages
    assert isinstance(stage, NftStage)
    assert (stage.score, stage.batch_size * stage.group, stage.guidance) == ("dd", 128, 1)
    assert config.start == Experiment(DOMAIN, tmp_path).adapted().result
    for name in experiment.methods:
        command = experiment.images(name).command
        assert "sampling.guidance=1" in command
        assert command[command.index("--seeds") + 1] == "5"
