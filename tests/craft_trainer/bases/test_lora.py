"""Every kind of adapter does in diffusers what it does in training, and vanishes at scale 0."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline

from cas_metric.errors import InputError
from craft_trainer.bases import loading as models
from craft_trainer.bases import lora as adapters
from craft_trainer.bases.base import DiffusionModel
from craft_trainer.config.sections import Lora

CPU = torch.device("cpu")
ALL_ATTENTION = r".*attn[12]\.(to_q|to_k|to_v|to_out\.0)"
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "targets": {"targets": ALL_ATTENTION},
    "patterns": {"rank_pattern": {r".*to_q": 4}, "alpha_pattern": {r".*to_k": 3}},
    "dora": {"dora": True},
    "rslora": {"rslora": True},
    "dropout": {"dropout": 0.5},
}


def adapted(base: Path, **settings: Any) -> DiffusionModel:
    model = models.load_model(str(base), device=CPU)
    adapters.attach_lora(model, Lora(**{"rank": 2, "alpha": 6, **settings}), seed=1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.trainable.values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


def predicted(unet: Any, *, grad: bool = False) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    width = unet.config.cross_attention_dim
    latents = torch.randn(2, 4, 8, 8, generator=generator)
    text = torch.randn(2, 5, width, generator=generator)
    with torch.set_grad_enabled(grad):
        return unet(latents, torch.tensor(7), text).sample.detach()


@pytest.mark.parametrize("kind", KINDS)
def test_plain_diffusers_gives_the_same_predictions(base: Path, tmp_path: Path, kind: str) -> None:
    model = adapted(base, **KINDS[kind])
    untrained = models.load_model(str(base), device=CPU)
    expected = predicted(model.pipeline.unet)
    assert not torch.allclose(expected, predicted(untrained.pipeline.unet))
    models.save_artifact(model, tmp_path)
    pipeline = StableDiffusionPipeline.from_pretrained(base, safety_checker=None)
    pipeline.load_lora_weights(tmp_path)
    # diffusers leaves the layers that it adds in training mode: a dropout would still drop.
    torch.testing.assert_close(predicted(pipeline.unet), expected)
    again = models.load_model(str(base), device=CPU)
    adapters.attach_lora(again, Lora(rank=2, alpha=6, **KINDS[kind]), seed=9)
    models.load_artifact(again, tmp_path)
    torch.testing.assert_close(predicted(again.pipeline.unet), expected, atol=0, rtol=0)
    adapters.scale_lora(model, 0.0)
    same = predicted(model.pipeline.unet), predicted(untrained.pipeline.unet)
    torch.testing.assert_close(*same, atol=0, rtol=0)
    adapters.scale_lora(model, 1.0)
    torch.testing.assert_close(predicted(model.pipeline.unet), expected, atol=0, rtol=0)
    assert all(parameter.requires_grad for parameter in model.trainable.values())


def test_targets_and_patterns_say_what_is_adapted(base: Path) -> None:
    default, every = adapted(base), adapted(base, targets=ALL_ATTENTION)
    assert all("attn2" in name for name in default.trainable)
    assert any("attn1" in name for name in every.trainable)
    model = adapted(base, rank_pattern={r".*attn2\.to_q": 4})
    ranks = {
        n.split("attn2.")[1].split(".lora_A")[0]: len(p)
        for n, p in model.trainable.items()
        if "lora_A" in n
    }
    assert ranks == {"to_q": 4, "to_k": 2, "to_v": 2, "to_out.0": 2}


@pytest.mark.parametrize("dora", [False, True])
def test_dropout_is_for_gradients_alone_and_follows_the_seed(base: Path, dora: bool) -> None:
    unet = adapted(base, dropout=0.5, dora=dora).pipeline.unet
    torch.testing.assert_close(predicted(unet), predicted(unet), atol=0, rtol=0)
    assert not torch.equal(predicted(unet, grad=True), predicted(unet, grad=True))
    drawn = []
    for _ in range(2):
        torch.manual_seed(5)
        drawn.append(predicted(unet, grad=True))
    torch.testing.assert_close(*drawn, atol=0, rtol=0)


def test_what_cannot_be_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"lora\.targets 'no_such_layer'"):
        adapted(base, targets="no_such_layer")
    with pytest.raises(InputError, match=r"DoRA adapter has no scale of 0\.5"):
        adapters.scale_lora(adapted(base, dora=True), 0.5)
    models.save_artifact(adapted(base, rslora=True), tmp_path)
    with pytest.raises(InputError, match=r"rslora True, and `lora.rslora` is False"):
        models.load_artifact(adapted(base), tmp_path)
