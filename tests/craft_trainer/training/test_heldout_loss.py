"""The diffusion loss of held-out images: one number a look, which repeats and which is the loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cas_metric.embedding.cache import EmbeddingCache
from craft_trainer.bases import loading as models
from craft_trainer.config.schema import Config
from craft_trainer.data.dataset import read_examples
from craft_trainer.data.encoding import Encodings
from craft_trainer.runtime.journal import Journal
from craft_trainer.training import trainer
from craft_trainer.training.heldout_loss import HeldOutLoss

STAGES = {
    "textual_inversion": {"method": "textual_inversion", "steps": 4},
    "lora": {"method": "lora", "steps": 4, "prompt_dropout": 0.5, "min_snr_gamma": 5.0},
}


def watched(settings: Any, unseen: Path, method: str) -> Config:
    validation = {"every": 2, "manifest": str(unseen), "prompts": 3, "batch_size": 2, "images": 1}
    config: Config = settings(STAGES[method], validation=validation)
    return config


@pytest.mark.parametrize("method", STAGES)
def test_it_is_logged_at_every_look(settings: Any, unseen: Path, method: str) -> None:
    config = watched(settings, unseen, method)
    trainer.train_stages(config, cache="none")
    rows = Journal(config.output / f"1-{method}" / "metrics.jsonl").rows()
    looks = [row for row in rows if "heldout/diffusion" in row]
    assert [row["step"] for row in looks] == [2, 4]
    assert looks[0]["heldout/diffusion"] != looks[1]["heldout/diffusion"]


def test_it_is_the_plain_loss_of_these_images(settings: Any, base: Path, unseen: Path) -> None:
    config = watched(settings, unseen, "lora")
    train = read_examples(config.data.train, None)
    model = models.load_model(str(base), device=torch.device("cpu"))
    with EmbeddingCache("none") as cache:
        encodings = Encodings(cache, "base", model)
        found = HeldOutLoss.of(config, config.stages[0], train, encodings)
        assert found is not None
        assert (
            HeldOutLoss.of(
                config, settings({"method": "nft", "steps": 1}).stages[0], train, encodings
            )
            is None
        )
    assert found() == found()
    process, errors = model.forward_process((4, 8, 8)), []
    for draw in range(4):
        for row in range(3):
            batch = found._batch((row,), 3 * draw)
            (noise,) = (torch.randn(1, 4, 8, 8, generator=one) for one in batch.generators("noise"))
            (own,) = (torch.randn(1, 4, 8, 8, generator=one) for one in batch.generators("latent"))
            clean = model.latents_of(batch.moments, own)
            mixed = process.corrupt(clean, noise, batch.generators("timestep"))
            told = model.encode_prompts(batch.prompts)
            guess = model.denoise(mixed.noisy, mixed.timesteps, told)
            errors.append((guess - mixed.target).square().mean().item())
    assert found() == pytest.approx(sum(errors) / len(errors), rel=1e-5)
