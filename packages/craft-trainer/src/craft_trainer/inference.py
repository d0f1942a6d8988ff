"""Images from a model, as training, validation and generation draw them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cas_metric.files import write_bytes
from cas_metric.images import to_uint8
from craft_trainer.bases.base import DiffusionModel
from craft_trainer.config.sections import Sampling
from craft_trainer.diffusion.sampling import initial_noise, sample_prefix
from craft_trainer.runtime.failures import NotFinite


@torch.no_grad()
def sample_images(
    model: DiffusionModel,
    prompts: Sequence[str],
    seeds: Sequence[int],
    sampling: Sampling,
    resolution: int,
) -> Tensor:
    """``(B, 3, H, W)`` images in [0, 1] on the CPU, one a prompt and seed.

    An image depends on its prompt and seed alone, not on the batch that it is drawn in.

    Raises:
        NotFinite: The model draws NaN, which a file would show as black.
    """
    with model.reading():
        conditions = model.encode_prompts(prompts)
        guidance = model.guidance(sampling.guidance)
    shape = model.latent_shape(resolution)
    scheduler = model.sampler(sampling, shape)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    noise = initial_noise(shape, generators, like=conditions.embeddings)
    latents = sample_prefix(
        model.denoise,
        noise,
        conditions,
        scheduler,
        generators,
        guidance=guidance,
        steps=sampling.steps,
    )
    images = model.decode(latents).cpu()
    if not images.isfinite().all():
        raise NotFinite(
            f"{model.pipeline_name} draws images with values that are not numbers",
            fix="draw with dtype: float32, or with weights of an earlier step",
        )
    return images


def noise_seed(seed: int, row: int) -> int:
    """Of the noise of one prompt: a stream of its own, so that no two prompts share a picture."""
    return int(np.random.SeedSequence((seed, row)).generate_state(1)[0])


def write_image(image: Tensor, path: Path) -> None:
    """Write a ``(3, H, W)`` image in [0, 1] as PNG, as a whole or not at all."""
    buffer = io.BytesIO()
    pixels = to_uint8(image.permute(1, 2, 0).numpy())
    Image.fromarray(pixels).save(buffer, format="png")
    write_bytes(path, buffer.getvalue())


def write_sheet(images: Tensor, path: Path) -> None:
    """Write ``(B, 3, H, W)`` images side by side."""
    write_image(torch.cat(list(images), dim=2), path)
