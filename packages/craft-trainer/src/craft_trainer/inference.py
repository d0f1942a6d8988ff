"""Images from a model, as training, validation and generation draw them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cas_metric.files import write_bytes
from cas_metric.images import to_uint8
from craft_trainer.bases.base import DiffusionModel
from craft_trainer.config.sections import Sampling
from craft_trainer.diffusion.sampling import initial_noise, sample_prefix
from craft_trainer.runtime.failures import NotFinite, fits_memory


@torch.no_grad()
def sample_images(
    model: DiffusionModel,
    prompts: Sequence[str],
    seeds: Sequence[int],
    sampling: Sampling,
    resolution: int,
) -> Tensor:
    """``(B, 3, H, W)`` images in [0, 1] on the CPU, one a prompt and seed.

    An image depends on its prompt and seed alone, and on the batch that it is drawn in by rounding.

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


class Drawing(NamedTuple):
    """An image to be.

    Attributes:
        path: PNG file that it is written to.
        text: That it is drawn from.
        seed: Of its noise.
    """

    path: Path
    text: str
    seed: int


def draw_missing(
    model: DiffusionModel,
    drawings: Sequence[Drawing],
    sampling: Sampling,
    resolution: int,
    batch_size: int,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write the images that are not there yet; returns how many.

    The last bits of an image depend on how many are computed at once. A batch of which some are
    there is therefore drawn as a whole: an interrupted call, given again, ends with the same bytes.
    """
    batches = [drawings[at : at + batch_size] for at in range(0, len(drawings), batch_size)]
    lacking = [[one for one in batch if not one.path.is_file()] for batch in batches]
    done, total = 0, sum(map(len, lacking))
    for batch, missing in zip(batches, lacking, strict=True):
        if not missing:
            continue
        texts, seeds = [one.text for one in batch], [one.seed for one in batch]
        with fits_memory(f"drawing {len(batch)} images at once", "lower --batch-size"):
            images = sample_images(model, texts, seeds, sampling, resolution)
        for drawing, image in zip(batch, images, strict=True):
            if drawing in missing:
                write_image(image, drawing.path)
        done += len(missing)
        if progress is not None:
            progress(done, total)
    return total


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
