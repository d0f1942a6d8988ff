"""Loading, adapting and saving: what diffusers itself reads back gives the same images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline
from safetensors import safe_open

from cas_metric.errors import InputError, ModelUnavailable
from craft_trainer.bases import loading as models
from craft_trainer.bases import lora as adapters
from craft_trainer.bases import tokens
from craft_trainer.bases.base import DiffusionModel
from craft_trainer.config.sections import Lora, Sampling
from craft_trainer.diffusion.conditions import Conditions
from craft_trainer.inference import sample_images

CPU = torch.device("cpu")
PROMPT = "radiograph with <cardiomegaly> in it"


def adapted(base: Path, *, dtype: torch.dtype = torch.float32, vectors: int = 1) -> DiffusionModel:
    model = models.load_model(str(base), device=CPU, dtype=dtype)
    classes = ["Cardiomegaly", "No Finding"]
    tokens.attach_tokens(model, tokens.initial_tokens(model, classes, vectors))
    adapters.attach_lora(model, Lora(rank=2, alpha=6), seed=1)
    return model


def disturb(model: DiffusionModel) -> None:
    """Give every trained value something that is not its initial one."""
    generator = torch.Generator().manual_seed(8)
    learned = [module.learned for module in tokens.learned_tokens(model).values()]
    with torch.no_grad():
        for parameter in [*model.trainable.values(), *learned]:
            parameter.add_(torch.randn(parameter.shape, generator=generator))


def test_lora_is_on_cross_attention_alone_and_in_float32(base: Path) -> None:
    model = adapted(base, dtype=torch.bfloat16)
    assert model.trainable
    for name, parameter in model.trainable.items():
        assert ".attn2." in name
        assert parameter.dtype == torch.float32
    expected = {f".attn2.{part}." for part in ("to_q", "to_k", "to_v", "to_out.0")}
    assert all(any(part in name for name in model.trainable) for part in expected)
    trained = {name for name, p in model.pipeline.unet.named_parameters() if p.requires_grad}
    assert {f"unet.{name}" for name in trained} == set(model.trainable)
    assert not any(p.requires_grad for p in model.pipeline.vae.parameters())
    assert not any(p.requires_grad for p in model.pipeline.text_encoder.parameters())


def test_an_update_of_1e_5_survives_on_a_bfloat16_base(base: Path) -> None:
    model = adapted(base, dtype=torch.bfloat16)
    parameter = next(p for name, p in model.trainable.items() if "lora_A" in name)
    before = parameter.detach().clone()
    with torch.no_grad():
        parameter.add_(1e-5)
    assert (parameter != before).all()
    latents = torch.randn(1, 4, 8, 8)
    model.denoise(latents, torch.tensor(5), Conditions(torch.randn(1, 77, 16))).sum().backward()
    assert all(
        p.grad is not None and p.grad.dtype == torch.float32 for p in model.trainable.values()
    )


@pytest.mark.parametrize("vectors", [1, 3])
def test_a_fresh_diffusers_pipeline_gives_the_same_images(
    base: Path, tmp_path: Path, vectors: int
) -> None:
    model = adapted(base, vectors=vectors)
    disturb(model)
    models.save_artifact(model, tmp_path)
    ours = sample_images(
        model, [PROMPT], [3], Sampling(steps=4, guidance=2.0, timestep_spacing="leading"), 16
    )

    fresh = StableDiffusionPipeline.from_pretrained(
        base, use_safetensors=True, safety_checker=None, requires_safety_checker=False
    )
    fresh.load_textual_inversion([str(p) for p in sorted((tmp_path / "learned_embeds").iterdir())])
    untouched = _pipeline_image(fresh)
    fresh.load_lora_weights(tmp_path)
    theirs = _pipeline_image(fresh)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    assert (theirs - untouched).abs().max() > 1e-3


def _pipeline_image(pipeline: StableDiffusionPipeline) -> torch.Tensor:
    pipeline.scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
    return pipeline(
        PROMPT,
        num_inference_steps=4,
        guidance_scale=2.0,
        height=16,
        width=16,
        generator=[torch.Generator().manual_seed(3)],
        output_type="pt",
    ).images


def test_alpha_stands_in_the_file(base: Path, tmp_path: Path) -> None:
    models.save_artifact(adapted(base), tmp_path)
    with safe_open(tmp_path / adapters.LORA_FILE, framework="pt") as file:
        assert '"unet.lora_alpha": 6' in file.metadata()["lora_adapter_metadata"]


def test_an_artefact_loads_into_the_one_adapter_that_is_trained(base: Path, tmp_path: Path) -> None:
    first = adapted(base)
    disturb(first)
    models.save_artifact(first, tmp_path)
    second = models.load_model(str(base), device=CPU)
    adapters.attach_lora(second, Lora(rank=2, alpha=6), seed=99)
    models.load_artifact(second, tmp_path)
    assert list(second.pipeline.unet.peft_config) == [adapters.ADAPTER]
    assert second.tokens == {"Cardiomegaly": "<cardiomegaly>", "No Finding": "<no-finding>"}
    for name, parameter in first.trainable.items():
        torch.testing.assert_close(second.trainable[name], parameter, atol=0, rtol=0)
    second.denoise(
        torch.randn(1, 4, 8, 8), torch.tensor(5), second.encode_prompts([PROMPT])
    ).sum().backward()
    assert all(p.grad is not None for p in second.trainable.values())


def test_another_rank_is_refused(base: Path, tmp_path: Path) -> None:
    models.save_artifact(adapted(base), tmp_path)
    other = models.load_model(str(base), device=CPU)
    adapters.attach_lora(other, Lora(rank=3, alpha=3), seed=1)
    with pytest.raises(InputError, match=r"lora\.rank"):
        models.load_artifact(other, tmp_path)


def test_another_alpha_is_refused(base: Path, tmp_path: Path) -> None:
    models.save_artifact(adapted(base), tmp_path)
    other = models.load_model(str(base), device=CPU)
    adapters.attach_lora(other, Lora(rank=2, alpha=3), seed=1)
    with pytest.raises(InputError, match=r"alpha 6, and `lora.alpha` is 3: .* 0\.5 times"):
        models.load_artifact(other, tmp_path)


def test_only_the_learned_vectors_get_a_gradient(base: Path) -> None:
    model = models.load_model(str(base), device=CPU)
    initial = tokens.initial_tokens(model, ["Cardiomegaly", "Edema"])
    (module,) = tokens.attach_tokens(model, initial).values()
    module.learned.requires_grad_(True)
    model.encode_prompts([PROMPT]).embeddings.square().sum().backward()
    assert module.learned.grad is not None
    assert module.learned.grad[0].abs().max() > 0
    assert module.learned.grad[1].abs().max() == 0
    assert module.table.weight.grad is None


def test_classes_with_one_slug_are_refused(base: Path) -> None:
    model = models.load_model(str(base), device=CPU)
    with pytest.raises(InputError, match="distinct"):
        tokens.attach_tokens(model, tokens.initial_tokens(model, ["No Finding", "no-finding"]))


def test_a_class_that_no_token_can_be_made_of_is_named(base: Path) -> None:
    model = models.load_model(str(base), device=CPU)
    with pytest.raises(InputError, match="no token can be made of the class '肺炎'"):
        tokens.initial_tokens(model, ["肺炎"])


def test_a_missing_base_model_names_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"model_index\.json") as caught:
        models.load_model(str(tmp_path), device=CPU)
    assert caught.value.exit_code == 4


def test_pickled_weights_are_refused(base: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "pickled"
    shutil.copytree(base, copy)
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save({}, weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(ModelUnavailable):
        models.load_model(str(copy), device=CPU)


def test_the_decoder_is_differentiable_and_bounded(base: Path) -> None:
    model = models.load_model(str(base), device=CPU, dtype=torch.bfloat16)
    latents = torch.randn(2, 4, 8, 8, requires_grad=True)
    images = model.decode(latents)
    assert images.shape == (2, 3, 16, 16)
    assert images.dtype == torch.float32
    assert images.min() >= 0
    assert images.max() <= 1
    images.sum().backward()
    assert latents.grad is not None
    assert latents.grad.abs().max() > 0


def test_a_side_that_the_model_cannot_draw_is_refused(base: Path) -> None:
    model = models.load_model(str(base), device=CPU)
    assert model.latent_shape(16) == (4, 8, 8)
    with pytest.raises(InputError, match="multiple of 4"):
        model.latent_shape(18)


def test_a_learned_token_counts_as_many_tokens_as_it_has_vectors(base: Path) -> None:
    model = models.load_model(str(base), device=CPU)
    tokens.attach_tokens(model, tokens.initial_tokens(model, ["Edema"], 3))
    spelt = model.pipeline.tokenizer("<edema> <edema>_1 <edema>_2 a film").input_ids
    assert model.count_tokens("<edema> a film") == len(spelt)
