"""The embedded diffusion pipeline: what the trainer's users get without a download."""

from __future__ import annotations

import pytest
import torch
from diffusers import StableDiffusionPipeline

from cas_metric.domains import load_domain
from cas_metric.encoders import load_encoder
from cas_metric.images import to_uint8
from cas_metric.phantoms import DOMAINS, make_phantom
from craft_trainer.bases.loading import EMBEDDED, load_model
from craft_trainer.bases.stable_diffusion import StableDiffusion
from craft_trainer.bases.tokens import attach_tokens, initial_tokens
from craft_trainer.config.sections import Sampling
from craft_trainer.inference import sample_images

_EACH = 4


@pytest.fixture(scope="module")
def model() -> StableDiffusion:
    found = load_model("phantom-sd", device=torch.device("cpu"), offline=True)
    assert isinstance(found, StableDiffusion)
    return found


def test_is_a_stable_diffusion_pipeline_of_float32_without_pickles(model: StableDiffusion) -> None:
    assert type(model.pipeline) is StableDiffusionPipeline
    assert model.dtype == torch.float32
    assert model.prediction_type == "v_prediction"
    files = [path for path in EMBEDDED["phantom-sd"].rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".md"}
    assert sum(path.stat().st_size for path in files) < 16e6


def test_samples_are_recognised_as_the_modality_that_the_prompt_names(
    model: StableDiffusion,
) -> None:
    judge = load_encoder("phantom-siglip", device="cpu")
    texts, origin = [], []
    for domain in DOMAINS:
        pack = load_domain(domain)
        texts += [pack.checklist_text(label) for label in pack.class_names]
        origin += [domain] * len(pack.class_names)
    prompts, wanted = [], []
    for domain in DOMAINS:
        for number in range(_EACH):
            label = load_domain(domain).class_names[number % len(load_domain(domain).class_names)]
            prompts.append(make_phantom(domain, label, 10**6 + number).prompt)
            wanted.append(domain)
    sampling = Sampling(steps=20, guidance=3.0, timestep_spacing="trailing")
    images = sample_images(model, prompts, range(len(prompts)), sampling, 64)
    arrays = [to_uint8(image.permute(1, 2, 0).numpy()) for image in images]
    with torch.inference_mode():
        features = judge.embed_pixels(judge.official_preprocess(arrays))
    nearest = (features @ judge.embed_texts(texts).embeddings.T).argmax(dim=1)
    right = [origin[index] == domain for index, domain in zip(nearest, wanted, strict=True)]
    assert sum(right) >= len(right) - 1


def test_prompts_that_differ_in_their_finding_condition_differently(model: StableDiffusion) -> None:
    texts = [
        "Frontal chest radiograph, pneumonia: large opacity, left mid zone.",
        "Frontal chest radiograph, pleural effusion: large opacity, left lower zone.",
    ]
    left, right = model.encode_prompts(texts).embeddings.flatten(1)
    assert torch.cosine_similarity(left, right, dim=0) < 0.99


def test_a_learned_token_is_one_token_and_leaves_its_words_alone() -> None:
    model = load_model("phantom-sd", device=torch.device("cpu"), offline=True)
    tokenizer = model.pipeline.tokenizer
    before = tokenizer("a pleural effusion, left").input_ids
    attach_tokens(model, initial_tokens(model, ["Pleural Effusion"]))
    assert tokenizer("a pleural effusion, left").input_ids == before
    assert tokenizer.tokenize("<pleural-effusion>. A left") == [
        "<pleural-effusion>",
        *tokenizer.tokenize("a left"),
    ]
