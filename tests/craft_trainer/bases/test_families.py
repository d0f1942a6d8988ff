"""Every family: a CRAFT step, K = T against the whole graph, and what diffusers reads back."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler, DiffusionPipeline, DPMSolverMultistepScheduler
from safetensors.torch import load_file
from tests.craft_trainer.training.test_trainer import ready
from tests.support.tiny_families import build_flux, build_sana, build_sd3, build_sdxl

from cas_metric.errors import InputError
from craft_trainer.bases import loading as models
from craft_trainer.bases import lora as adapters
from craft_trainer.bases import tokens
from craft_trainer.bases.base import DiffusionModel
from craft_trainer.config.sections import Lora, Sampling
from craft_trainer.diffusion.sampling import draft
from craft_trainer.inference import sample_images

CPU = torch.device("cpu")
SIDE = 32
PROMPT = "Frontal chest radiograph number 1, Cardiomegaly."
CRAFT = {
    "method": "craft",
    "steps": 1,
    "gradient_steps": 2,
    "repeats": 1,
    "reward_gradients_every": 0,
}
BUILDERS: dict[str, Callable[[Path], Path]] = {
    "sdxl": build_sdxl,
    "sd3": build_sd3,
    "sd3-without-t5": functools.partial(build_sd3, with_t5=False),
    "flux": build_flux,
    "sana": build_sana,
}


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    @functools.cache
    def build(name: str) -> Path:
        return BUILDERS[name](tmp_path_factory.mktemp(name))

    return build


def disturb(model: DiffusionModel) -> None:
    generator = torch.Generator().manual_seed(8)
    with torch.no_grad():
        for parameter in model.trainable.values():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize("name", BUILDERS)
def test_a_craft_step_reaches_every_trainable_tensor_and_nothing_else(
    families: Any, settings: Any, name: str
) -> None:
    run = ready(settings(CRAFT, base=str(families(name))))
    disturb(run.model)
    before = {key: value.detach().clone() for key, value in run.model.trunk.named_parameters()}
    run._step(0)
    prefix = f"{run.model.trunk_name}."
    assert run.model.trainable
    for key, parameter in run.model.trunk.named_parameters():
        trained = prefix + key in run.model.trainable
        assert torch.equal(parameter, before[key]) != trained, key
        if trained:
            assert parameter.grad is not None, key
            assert parameter.grad.abs().max() > 0, key
    for part in run.model.pipeline.components.values():
        if isinstance(part, torch.nn.Module) and part is not run.model.trunk:
            assert all(parameter.grad is None for parameter in part.parameters())


@pytest.mark.parametrize("name", BUILDERS)
def test_a_fresh_pipeline_draws_the_same_image(families: Any, tmp_path: Path, name: str) -> None:
    sampling = Sampling(steps=3, guidance=2.0, timestep_spacing="leading")
    model = models.load_model(str(families(name)), device=CPU, embedded_guidance=2.0)
    adapters.attach_lora(model, Lora(rank=2, alpha=6), seed=1)
    disturb(model)
    models.save_artifact(model, tmp_path)
    ours = sample_images(model, [PROMPT], [3], sampling, SIDE)
    without = {"text_encoder_3": None, "tokenizer_3": None} if name == "sd3-without-t5" else {}
    fresh = DiffusionPipeline.from_pretrained(families(name), use_safetensors=True, **without)
    untouched = _drawn(fresh)
    fresh.load_lora_weights(tmp_path)
    theirs = _drawn(fresh)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)
    assert (theirs - untouched).abs().max() > 1e-3
    adapters.scale_lora(model, 0.0)
    base = sample_images(model, [PROMPT], [3], sampling, SIDE)
    torch.testing.assert_close(base, untouched, atol=1e-4, rtol=1e-3)


def _drawn(pipeline: Any, steps: int = 3) -> torch.Tensor:
    if hasattr(pipeline, "unet"):
        pipeline.scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
    options = {}
    if "Sana" in type(pipeline).__name__:
        # It would draw at the nearest of its sizes, none of which is as tiny. At order 1 its solver
        # takes Euler's steps.
        options = {"use_resolution_binning": False}
        own = pipeline.scheduler
        pipeline.scheduler = type(own).from_config(own.config, solver_order=1)
    return pipeline(
        PROMPT,
        num_inference_steps=steps,
        guidance_scale=2.0,
        height=SIDE,
        width=SIDE,
        generator=[torch.Generator().manual_seed(3)],
        output_type="pt",
        **options,
    ).images


@pytest.mark.parametrize("steps", [3, 20])
@pytest.mark.parametrize("name", ["sd3", "flux", "sana"])
def test_a_flow_model_is_at_the_noise_levels_of_its_own_scheduler(
    families: Any, name: str, steps: int
) -> None:
    model = models.load_model(str(families(name)), device=CPU)
    ours = model.sampler(Sampling(steps=steps), model.latent_shape(SIDE))
    pipeline = DiffusionPipeline.from_pretrained(families(name), use_safetensors=True)
    _drawn(pipeline, steps)
    torch.testing.assert_close(torch.tensor(ours.sigmas), pipeline.scheduler.sigmas.cpu())


@pytest.mark.parametrize("shift", [1.0, 2.0, 3.0, 5.0])
def test_sana_is_told_the_timesteps_of_its_own_solver(families: Any, shift: float) -> None:
    model = models.load_model(str(families("sana")), device=CPU)
    flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": shift}
    own = model.pipeline.scheduler = DPMSolverMultistepScheduler(**flow)
    for steps in range(1, 61):
        ours = model.sampler(Sampling(steps=steps), model.latent_shape(SIDE))
        own.set_timesteps(steps)
        assert ours.timesteps.tolist() == own.timesteps.tolist()
        torch.testing.assert_close(torch.tensor(ours.sigmas), own.sigmas)


@pytest.mark.parametrize("kind", ["euler", "ancestral"])
@pytest.mark.parametrize("name", BUILDERS)
def test_k_of_t_is_the_whole_graph(families: Any, name: str, kind: str) -> None:
    model = models.load_model(str(families(name)), device=CPU, embedded_guidance=2.0)
    adapters.attach_lora(model, Lora(rank=2, alpha=6), seed=1)
    disturb(model)
    shape = model.latent_shape(16)
    sampler = model.sampler(Sampling(steps=3, flow_sampler=kind), shape)
    conditions = model.encode_prompts([PROMPT])
    guidance = model.guidance(2.0)
    parameters = list(model.trainable.values())

    def gradient(latents: torch.Tensor) -> torch.Tensor:
        parts = torch.autograd.grad(latents.sin().sum(), parameters)
        return torch.cat([part.flatten() for part in parts])

    draws = functools.partial(
        draft, model.denoise, conditions, sampler, shape=shape, guidance=guidance
    )
    ours = draws([torch.Generator().manual_seed(4)], gradient_steps=3)
    generator = [torch.Generator().manual_seed(4)]
    latents = torch.randn(1, *shape, generator=generator[0])
    for time in sampler.timesteps:
        told = model.denoise(latents, time, conditions)
        if guidance.scale != 1:
            nothing = model.denoise(latents, time, guidance.unconditional)
            told = nothing + 2.0 * (told - nothing)
        latents = sampler.step(told, time, latents, generator=generator).prev_sample
    torch.testing.assert_close(ours, latents, atol=2e-5, rtol=1e-4)
    whole = gradient(latents)
    scale = float(whole.abs().max())
    torch.testing.assert_close(gradient(ours) / scale, whole / scale, atol=1e-4, rtol=1e-3)
    last = gradient(draws([torch.Generator().manual_seed(4)], gradient_steps=1))
    assert float((last - whole).abs().max()) > 1e-3 * scale


def test_sdxl_tokens_of_two_vectors_are_read_back_by_diffusers(
    families: Any, tmp_path: Path
) -> None:
    model = models.load_model(str(families("sdxl")), device=CPU)
    tokens.attach_tokens(model, tokens.initial_tokens(model, ["Cardiomegaly"], 2))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for module in tokens.learned_tokens(model).values():
            module.learned.add_(torch.randn(module.learned.shape, generator=generator))
    models.save_artifact(model, tmp_path)
    prompt = "radiograph with <cardiomegaly> in it"
    ours = model.encode_prompts([prompt])
    fresh = DiffusionPipeline.from_pretrained(families("sdxl"), use_safetensors=True)
    vectors = load_file(tmp_path / tokens.EMBEDDINGS_FOLDER / "cardiomegaly.safetensors")
    for key, tokenizer, encoder in (
        ("clip_l", fresh.tokenizer, fresh.text_encoder),
        ("clip_g", fresh.tokenizer_2, fresh.text_encoder_2),
    ):
        fresh.load_textual_inversion(
            vectors[key], token="<cardiomegaly>", text_encoder=encoder, tokenizer=tokenizer
        )
    fresh.text_encoder_2.text_model.eos_token_id = fresh.tokenizer_2.eos_token_id
    theirs, _, pooled, _ = fresh.encode_prompt(prompt, do_classifier_free_guidance=False)
    torch.testing.assert_close(ours.embeddings, theirs, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours.pooled, pooled, atol=1e-5, rtol=1e-4)
    again = models.load_model(str(families("sdxl")), device=CPU)
    models.load_artifact(again, tmp_path)
    torch.testing.assert_close(again.encode_prompts([prompt]).embeddings, ours.embeddings)


def test_a_learned_token_of_sdxl_is_not_taken_for_the_end_of_a_prompt(families: Any) -> None:
    ends = ("an enlarged heart", "clear lungs on both sides")
    prompts = [f"<cardiomegaly>. {end}" for end in ends]
    pooled = {}
    for kind in ("trained", "by its settings", "without"):
        model = models.load_model(str(families("sdxl")), device=CPU)
        tower, end = model.pipeline.text_encoder_2, model.pipeline.tokenizer_2.eos_token_id
        assert tower.config.eos_token_id == 2 != end
        tokens.attach_tokens(model, tokens.initial_tokens(model, ["Cardiomegaly"]))
        if kind == "by its settings":  # as transformers builds it of the right ones
            other = type(tower)(
                type(tower.config)(**{**tower.config.to_dict(), "eos_token_id": end})
            )
            other.set_input_embeddings(tower.get_input_embeddings())
            other.load_state_dict(tower.state_dict())
            model.pipeline.text_encoder_2 = other.eval()
        if kind == "without":
            tower.text_model.eos_token_id = 2
        with torch.no_grad():
            found = model.encode_prompts(prompts).pooled
        assert found is not None
        pooled[kind] = found
    assert torch.equal(pooled["trained"], pooled["by its settings"])
    assert not torch.equal(*pooled["trained"])
    assert torch.equal(*pooled["without"])  # the fault that this is about


def test_latents_of_a_vae_that_knows_their_levels_are_those_of_the_pipeline(families: Any) -> None:
    model = models.load_model(str(families("sdxl")), device=CPU)
    pipeline = model.pipeline
    levels = {"latents_mean": [-1.6, 1.4, 0.3, 0.2], "latents_std": [8.4, 5.2, 4.3, 5.7]}
    pipeline.vae.register_to_config(**levels)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    drawn = []

    def kept(*inputs: Any) -> None:
        drawn.append(inputs[1][0])

    pipeline.vae.post_quant_conv.register_forward_pre_hook(kept)
    with torch.no_grad():
        model.decode(latents)
        final = {"latents": latents}
        pipeline(
            PROMPT, height=16, width=16, num_inference_steps=1, guidance_scale=1.0,
            callback_on_step_end=lambda *_: final, output_type="np",
        )  # fmt: skip
        torch.testing.assert_close(drawn[0], drawn[1])
        moments = torch.cat([drawn[0], torch.full_like(drawn[0], -30.0)], dim=1)
        again = model.latents_of(moments, torch.zeros_like(latents))
    torch.testing.assert_close(again, latents, atol=1e-4, rtol=1e-4)


def test_flow_models_refuse_what_cannot_work(families: Any, settings: Any) -> None:
    flow = str(families("sd3"))
    with pytest.raises(InputError, match="textual inversion is not offered"):
        ready(settings({"method": "textual_inversion", "steps": 1}, base=flow))
    with pytest.raises(InputError, match="flow_sampler: ancestral"):
        ready(settings({**CRAFT, "repeats": 2, "repeat_mode": "renoise"}, base=flow))


@pytest.mark.parametrize(
    ("name", "limit"),
    [("sdxl", 77), ("sd3", 256), ("sd3-without-t5", 77), ("flux", 512)],
)
def test_the_longest_prompt_is_that_of_the_pipeline(families: Any, name: str, limit: int) -> None:
    """Two prompts that differ in their last token alone, within the limit and beyond it."""
    model = models.load_model(str(families(name)), device=torch.device("cpu"))
    assert model.token_limit == limit
    for beyond in (False, True):
        words = ["a"] * (2 * limit)
        while model.count_tokens(" ".join([*words, "chest"])) > limit:
            words.pop()
        words += ["a"] * (2 * beyond)
        texts = [" ".join([*words, last]) for last in ("chest", "radiograph")]
        one, other = model.encode_prompts(texts).embeddings
        assert torch.equal(one, other) == beyond
