"""Images from a trained model: a batch, or seeds × prompts as a folder for ``cas score``."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cas_metric.encoders.weights import digest_of
from cas_metric.errors import InputError
from cas_metric.files import write_bytes
from cas_metric.images import IMAGE_SUFFIXES, to_uint8
from cas_metric.manifest import (
    FolderConfig,
    read_folder_config,
    write_folder_config,
    write_manifest,
)
from craft_trainer.bases.loading import DiffusionModel
from craft_trainer.config.schema import Config, Sampling
from craft_trainer.data.examples import Examples
from craft_trainer.data.rows import domain_of
from craft_trainer.diffusion.draft import initial_noise, sample_prefix
from craft_trainer.guards.monitoring import NotFinite, fits_memory
from craft_trainer.training.checkpoints import require_same

if TYPE_CHECKING:
    import pandas as pd


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
    conditions = model.encode_prompts(prompts)
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
        guidance=model.guidance(sampling.guidance),
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


def folder_config(
    config: Config, examples: Examples, texts: Sequence[str], origin: dict[str, Any]
) -> FolderConfig:
    """The ``cas.yaml`` of generated images: ``cas score`` then needs no option.

    Args:
        config: Of the run; it knows the domain and the real training split, for the probe.
        examples: The prompts' manifest.
        texts: ``N`` conditioning texts.
        origin: Further provenance: what was drawn with.

    Returns:
        Domain, training split and provenance. The last says all that decides an image but its
        seed.
    """
    train = config.data.train.absolute()
    domain = domain_of(examples.manifest, config.data.domain)
    if domain is None and (real := read_folder_config(train if train.is_dir() else train.parent)):
        domain = real.domain
    return FolderConfig(
        domain=domain,
        train=train if train.exists() else None,
        provenance=drawn_with("craft-trainer generate", config, examples, texts, origin),
    )


def drawn_with(
    made_by: str,
    config: Config,
    examples: Examples,
    texts: Sequence[str],
    origin: Mapping[str, Any],
) -> dict[str, Any]:
    """All that decides an image of ``made_by`` but its seed; arguments as of `folder_config`."""
    drawn = list(zip(examples.manifest.rows["id"], texts, strict=True))
    return {
        "made_by": made_by,
        **origin,
        "sampling": config.sampling.model_dump(mode="json"),
        "resolution": config.data.resolution,
        "dtype": config.dtype,
        "texts_sha256": digest_of(drawn),
    }


def claim_folder(folder: Path, config: FolderConfig) -> None:
    """Write ``cas.yaml``, before any image: a folder holds images of one origin.

    Raises:
        InputError: The folder holds images that were drawn with other settings, which are named,
            or of which nothing is known: real ones, for example.
    """
    stored = read_folder_config(folder)
    if stored is not None and stored.provenance:
        require_same(stored.provenance, config.provenance, folder, "--out")
    elif stored is not None or _holds_images(folder):
        raise InputError(
            f"{folder} holds images, and nothing says what they were drawn with",
            fix="name another folder with --out",
        )
    write_folder_config(folder, config)


def _holds_images(folder: Path) -> bool:
    """Whether there are images, or a table that names some elsewhere."""
    return any(
        path.suffix.lower() in IMAGE_SUFFIXES or path.stem == "metadata"
        for path in folder.rglob("*")
    )


def generate_folder(
    model: DiffusionModel,
    examples: Examples,
    texts: Sequence[str],
    folder: Path,
    *,
    seeds: Sequence[int],
    method: str,
    sampling: Sampling,
    resolution: int,
    batch_size: int,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write seeds × prompts as a folder with ``metadata.csv`` that ``cas score`` reads.

    Images that are already there are kept, so that an interrupted call continues. Each names the
    row of ``examples`` that it re-synthesises as its reference.

    Args:
        model: Base model with the artefact in it.
        examples: The prompts' manifest: real images, labels and prompts.
        texts: ``N`` conditioning texts, one an example.
        folder: Made where it does not exist.
        seeds: One image a prompt and seed.
        method: Name of the method in the tables.
        sampling: Steps, guidance and spacing.
        resolution: Side in pixels.
        batch_size: Images in one pass.
        progress: Told after every batch.

    Returns:
        The number of images drawn now.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = _rows(examples, seeds, method)
    rows["noise"] = [noise_seed(seed, row) for seed in seeds for row in range(len(examples))]
    rows["text"] = list(texts) * len(seeds)
    missing = [row for row in rows.to_dict("records") if not (folder / row["image"]).is_file()]
    for start in range(0, len(missing), batch_size):
        batch = missing[start : start + batch_size]
        with fits_memory(f"drawing {len(batch)} images at once", "lower --batch-size"):
            images = sample_images(
                model,
                [row["text"] for row in batch],
                [row["noise"] for row in batch],
                sampling,
                resolution,
            )
        for row, image in zip(batch, images, strict=True):
            write_image(image, folder / row["image"])
        if progress is not None:
            progress(start + len(batch), len(missing))
    write_manifest(rows.drop(columns=["noise", "text"]), folder)
    return len(missing)


def _rows(examples: Examples, seeds: Sequence[int], method: str) -> pd.DataFrame:
    """One row an image to be: id, image, label, prompt, reference, patient, method, seed."""
    import pandas as pd

    real = examples.manifest.rows
    parts = [
        pd.DataFrame(
            {
                "id": [f"{name}-seed{seed}" for name in real["id"]],
                "image": [f"seed{seed}/{row:06d}.png" for row in range(len(real))],
                "label": list(examples.labels),
                "prompt": list(real["prompt"]),
                "reference": list(real["id"]),
                "patient": list(real["patient"]),
                "method": method,
                "seed": seed,
            }
        )
        for seed in seeds
    ]
    return pd.concat(parts, ignore_index=True)
