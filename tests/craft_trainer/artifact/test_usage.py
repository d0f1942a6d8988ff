"""The lines of a model card draw the image of ``generate``, whatever the base's scheduler says."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

from craft_trainer.artifact.folder import load_base
from craft_trainer.artifact.usage import usage_of
from craft_trainer.bases.base import family_of
from craft_trainer.diffusion.prefix import FastPrefix
from craft_trainer.inference import sample_images

CPU = torch.device("cpu")
SOLVER: list[dict[str, Any]] = [
    {"solver_order": 3, "solver_type": "heun", "final_sigmas_type": "sigma_min"},
    {"use_exponential_sigmas": True, "euler_at_final": True},
    {"use_beta_sigmas": True, "lower_order_final": False},
    {"use_lu_lambdas": True},
    {"use_karras_sigmas": True},
    {"use_flow_sigmas": True},
    {"thresholding": True, "sample_max_value": 0.1},
]
PLAIN: list[dict[str, Any]] = [
    {"clip_sample": True, "clip_sample_range": 0.5, "variance_type": "fixed_large"},
    {"thresholding": True, "sample_max_value": 0.5, "clip_sample": False},
    {"set_alpha_to_one": False, "steps_offset": 1, "clip_sample": False},
]
CASES = [
    *((kind, DPMSolverMultistepScheduler, one) for kind in ("dpmpp_2m", "dpmpp_2m_sde")
      for one in SOLVER),
    *(("ddim", DDIMScheduler, one) for one in PLAIN),
    *(("ddpm", DDPMScheduler, one) for one in PLAIN),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "scheduler", "told"), CASES)
def test_they_draw_the_same_pixels(
    settings: Any, base: Path, tmp_path: Path, kind: str, scheduler: Any, told: dict[str, Any]
) -> None:
    own = shutil.copytree(base, tmp_path / "base")
    plain = DDPMScheduler.from_pretrained(base, subfolder="scheduler").config
    betas = {name: plain[name] for name in ("beta_start", "beta_end", "beta_schedule")}
    scheduler.from_config({**betas, **told}).save_pretrained(own / "scheduler")
    sampling = {"steps": 5, "guidance": 2.0, "sampler": kind}
    config = settings({"method": "zero_shot"}, base=str(own), sampling=sampling)
    code = usage_of(
        config, family_of("StableDiffusionPipeline"), (), adapter=False, prompt="a film"
    )
    seed = '\n    generator=torch.Generator().manual_seed(5), output_type="np",\n).images[0]'
    space: dict[str, Any] = {}
    exec(code.replace("\n).images[0]", seed).replace('image.save("image.png")', ""), space)
    drawn = sample_images(load_base(config, CPU), ["a film"], [5], config.sampling, 16)[0]
    assert np.abs(space["image"] - drawn.permute(1, 2, 0).numpy()).max() < 1e-4


def test_a_prefix_has_the_solver_that_training_has() -> None:
    times = torch.tensor([999, 749, 499, 249])
    config = {"solver_type": "heun", "use_flow_sigmas": True}
    plain, own = (FastPrefix(one, 3, CPU)._solver(times, 3) for one in ({}, config))
    assert own.config == {**plain.config}
    assert torch.equal(own.sigmas, plain.sigmas)
