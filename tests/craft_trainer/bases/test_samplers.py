"""DDIM is diffusers' DDIM, carries a gradient, and draws no noise that could be drawn anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from tests.support.tiny_families import build_sd3

from cas_metric.errors import InputError
from craft_trainer.bases import loading as models
from craft_trainer.config.sections import Sampling
from craft_trainer.diffusion.sampling import draft
from craft_trainer.inference import sample_images
from craft_trainer.training.preflight import require_stages

CPU = torch.device("cpu")


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_it_draws_the_image_of_the_pipeline(base: Path, spacing: Any) -> None:
    model = models.load_model(str(base), device=CPU)
    sampling = Sampling(steps=4, guidance=2.0, timestep_spacing=spacing, sampler="ddim")
    ours = sample_images(model, ["a film"], [3], sampling, 16)
    pipeline = StableDiffusionPipeline.from_pretrained(base, safety_checker=None)
    own = {**pipeline.scheduler.config, "timestep_spacing": spacing, "clip_sample": False}
    pipeline.scheduler = DDIMScheduler.from_config(own)
    theirs = pipeline(
        "a film",
        num_inference_steps=4,
        guidance_scale=2.0,
        height=16,
        width=16,
        generator=[torch.Generator().manual_seed(3)],
        output_type="pt",
    ).images
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)


def test_the_prefix_leaves_the_gradient_of_the_last_steps(base: Path) -> None:
    model = models.load_model(str(base), device=CPU)
    sampler = model.sampler(Sampling(steps=3, sampler="ddim"), (4, 8, 8))
    told = model.encode_prompts(["a film"]).embeddings.requires_grad_()
    conditions = type(model.encode_prompts(["a film"]))(told)
    drawn = draft(
        model.denoise,
        conditions,
        sampler,
        [torch.Generator().manual_seed(0)],
        shape=(4, 8, 8),
        guidance=model.guidance(1.0),
        gradient_steps=1,
    )
    drawn.sum().backward()
    assert told.grad is not None
    assert told.grad.abs().max() > 0


def test_what_draws_no_noise_is_refused_where_noise_is_drawn_anew(
    settings: Any, tmp_path: Path
) -> None:
    stage = {"method": "craft", "steps": 1, "repeat_mode": "renoise"}
    config = settings(stage, sampling={"steps": 3, "sampler": "ddim"})
    with pytest.raises(InputError, match="sampler: ddim draw none"):
        require_stages(config, offline=True)
    flow = str(build_sd3(tmp_path, with_t5=False))
    config = settings({"method": "lora", "steps": 1}, base=flow, sampling={"sampler": "ddim"})
    with pytest.raises(InputError, match=r"sampling\.sampler is not offered"):
        require_stages(config, offline=True)
