"""Samplers are diffusers' own, carry a gradient, and refuse to redraw noise they never drew."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, StableDiffusionPipeline
from tests.support.tiny_families import build_sd3

from cas_metric.errors import InputError
from craft_trainer.bases import loading as models
from craft_trainer.config.sections import Sampling
from craft_trainer.diffusion.prefix import FastPrefix
from craft_trainer.diffusion.sampling import draft
from craft_trainer.inference import sample_images
from craft_trainer.training.preflight import require_stages

CPU = torch.device("cpu")


THEIRS: dict[str, Any] = {
    "ddim": DDIMScheduler,
    "dpmpp_2m": partial(DPMSolverMultistepScheduler.from_config, algorithm_type="dpmsolver++"),
    "dpmpp_2m_sde": partial(
        DPMSolverMultistepScheduler.from_config, algorithm_type="sde-dpmsolver++"
    ),
}


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("sampler", list(THEIRS))
def test_they_draw_the_image_of_the_pipeline(
    base: Path, sampler: Any, spacing: Any, prediction: str
) -> None:
    model = models.load_model(str(base), device=CPU)
    model.pipeline.scheduler.register_to_config(prediction_type=prediction)
    sampling = Sampling(steps=6, guidance=2.0, timestep_spacing=spacing, sampler=sampler)
    ours = sample_images(model, ["a film"], [3], sampling, 16)
    pipeline = StableDiffusionPipeline.from_pretrained(base, safety_checker=None)
    own = {**model.pipeline.scheduler.config, "timestep_spacing": spacing, "clip_sample": False}
    made = THEIRS[sampler]
    pipeline.scheduler = getattr(made, "from_config", made)(own)
    theirs = pipeline(
        "a film",
        num_inference_steps=6,
        guidance_scale=2.0,
        height=16,
        width=16,
        generator=[torch.Generator().manual_seed(3)],
        output_type="pt",
    ).images
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", ["ddim", "dpmpp_2m_sde"])
def test_the_prefix_leaves_the_gradient_of_the_last_steps(base: Path, kind: Any) -> None:
    model = models.load_model(str(base), device=CPU)
    sampler = model.sampler(Sampling(steps=3, sampler=kind), (4, 8, 8))
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


def test_branches_of_one_prefix_are_whole_trajectories(base: Path) -> None:
    model = models.load_model(str(base), device=CPU)
    sampler = model.sampler(Sampling(steps=5, sampler="dpmpp_2m_sde"), (4, 8, 8))
    told, plain = model.encode_prompts(["a film"]), model.guidance(1.0)

    def drawn(mode: Any, repeats: int, seeds: list[int]) -> torch.Tensor:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return draft(
            *(model.denoise, told, sampler, generators),
            shape=(4, 8, 8),
            guidance=plain,
            gradient_steps=1,
            repeats=repeats,
            mode=mode,
        )

    alone, branches = drawn("resample", 1, [0]), drawn("renoise", 2, [0, 1])
    torch.testing.assert_close(branches[:1], alone)
    assert (branches[0] - branches[1]).abs().max() > 0


def test_more_steps_than_the_base_can_tell_apart_are_refused(base: Path) -> None:
    model = models.load_model(str(base), device=CPU)
    with pytest.raises(InputError, match="more than the"):
        model.sampler(
            Sampling(steps=1000, sampler="dpmpp_2m", timestep_spacing="leading"), (4, 8, 8)
        )


@pytest.mark.parametrize("levels", ["karras_sigmas", "exponential_sigmas", "beta_sigmas"])
def test_timesteps_are_those_asked_for_however_the_base_model_spaces_its_own(
    base: Path, levels: str
) -> None:
    model = models.load_model(str(base), device=CPU)
    own = Sampling(steps=6, sampler="dpmpp_2m")
    plain = model.sampler(own, (4, 8, 8)).timesteps
    fast = FastPrefix(dict(model.pipeline.scheduler.config), 3, CPU)
    solved = fast._solver(plain, 4)
    config = {**model.pipeline.scheduler.config, f"use_{levels}": True}
    model.pipeline.scheduler = DPMSolverMultistepScheduler.from_config(config)
    assert torch.equal(model.sampler(own, (4, 8, 8)).timesteps, plain)
    again = FastPrefix(dict(model.pipeline.scheduler.config), 3, CPU)._solver(plain, 4)
    assert torch.equal(again.sigmas, solved.sigmas)
    assert torch.equal(again.timesteps, solved.timesteps)
