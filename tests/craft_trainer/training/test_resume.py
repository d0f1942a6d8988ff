"""A killed run ends with the bits of an uninterrupted one, whatever is logged, for every method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support.preferences import write_pairs_of
from tests.support.warm import Warm

from craft_trainer.bases import loading as models
from craft_trainer.bases import lora as adapters
from craft_trainer.config.schema import to_yaml
from craft_trainer.config.sections import Lora
from craft_trainer.training import trainer

RATE = {"steps": 10, "checkpoint_every": 5}
STAGES: dict[str, dict[str, Any]] = {
    "textual_inversion": {"method": "textual_inversion", "vectors_per_token": 2, **RATE},
    "lora": {"method": "lora", "kl_to_base": 0.1, **RATE},
    "dpo": {"method": "dpo", "beta": 50.0, **RATE},
    "craft": {"method": "craft", **RATE},
    # Each has a state of its own in a checkpoint, beside the moving average.
    "replay": {"method": "craft", "prefix": {"replay": 1, "replay_age": 8}, "ema": 0.5, **RATE},
    "nft": {"method": "nft", "group": 2, "ema": 0.5, **RATE},
}
# The run that is killed logs each reward's gradient in every step, the whole one never.
LOGGED = {"craft": {"reward_gradients_every": 1}}
NOT_LOGGED = {"craft": {"reward_gradients_every": 0}}


@pytest.mark.parametrize("method", STAGES)
def test_ten_steps_are_five_a_kill_and_five_more(
    settings: Any, images: Path, warm: Warm, tmp_path: Path, method: str
) -> None:
    stage = dict(STAGES[method])
    if method == "dpo":
        stage["pairs"] = str(write_pairs_of(images, tmp_path / "pairs"))

    def config(name: str, logging: dict[str, dict[str, Any]]) -> Any:
        return settings({**stage, **logging.get(method, {})}, output=str(tmp_path / name))

    whole = trainer.train_stages(config("whole", NOT_LOGGED), cache="none")
    file = tmp_path / "killed.yaml"
    file.write_text(to_yaml(config("killed", LOGGED)))
    warm.killed(file, 7)
    resumed = trainer.train_stages(config("killed", NOT_LOGGED), cache="none")
    files = sorted(path.relative_to(whole) for path in whole.rglob("*.safetensors"))
    assert files
    for name in files:
        assert (whole / name).read_bytes() == (resumed / name).read_bytes(), name


def test_equal_weights_have_equal_bytes(base: Path, tmp_path: Path) -> None:
    import torch

    model = models.load_model(str(base), device=torch.device("cpu"))
    adapters.attach_lora(model, Lora(rank=2, alpha=6), seed=1)
    contents = set()
    for number in range(12):  # a hash map's order is drawn anew each time
        adapters.save_lora(model, tmp_path / str(number))
        contents.add((tmp_path / str(number) / adapters.LORA_FILE).read_bytes())
    assert len(contents) == 1
