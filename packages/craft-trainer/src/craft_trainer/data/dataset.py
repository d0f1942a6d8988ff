"""Training images: read and encoded once, handed out in an order that a step number decides.

What a step trains on, and all of its noise, is a function of the seed and of the position of each
image in the whole run. Nothing has to be remembered to continue a run, and two processes draw what
one process with twice the batch would draw.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Final
from zlib import crc32

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cas_metric.domains import Domain, load_domain
from cas_metric.embedding.decoding import default_workers, ordered_map
from cas_metric.encoders.memory import digest_of
from cas_metric.errors import PreflightError
from cas_metric.images import LoadedImage, Window, load_image, to_tensor
from cas_metric.manifest import Manifest, read_manifest
from cas_metric.manifest.cleaning import unify_labels
from craft_trainer.data.rows import check_rows, domain_of
from craft_trainer.diffusion.conditions import Conditions

#: What random numbers are drawn for: each has a stream of its own, as has a new method's.
PURPOSES: Final = ("latent", "noise", "timestep", "trajectory", "rejected")


@dataclass(frozen=True)
class Examples:
    """The rows of a training manifest.

    Attributes:
        paths: Absolute paths of the images.
        labels: Class names, canonical where there is a domain.
        prompts: Enriched prompts t_ep.
        classes: Class names in the order of their indices.
        domain: Checklists, where a domain pack is used.
        manifest: What they were read from.

    Examples:
        >>> examples = read_examples(train, None)
        >>> len(examples.paths), examples.classes[0]
        (16, 'No Finding')
    """

    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    prompts: tuple[str, ...]
    classes: tuple[str, ...]
    domain: Domain | None
    manifest: Manifest

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def windows(self) -> list[Window | None]:
        """The display window of each image, as encoders take them."""
        return [self.manifest.window] * len(self)

    def checklist(self, label: str) -> str:
        """t_c of a class; empty without a domain pack."""
        return self.domain.checklist_text(label) if self.domain else ""


@dataclass(frozen=True)
class Batch:
    """Some images of one step on one process.

    Attributes:
        rows: ``B`` positions in the examples.
        positions: ``B`` positions in the whole run; they seed the noise.
        seed: Of the run.
        moments: ``(B, 2C, h, w)`` mean and log-variance of the latents.
        rejected: The same of the rejected image of each pair, where preferences are learned.
        prompts: ``B`` conditioning texts.
        conditions: Their encoding, or None where the text encoder is being trained.
        turn: Which forward pass of the run it is, on every process the same one.
    """

    rows: tuple[int, ...]
    positions: tuple[int, ...]
    seed: int
    moments: Tensor
    prompts: tuple[str, ...]
    conditions: Conditions | None
    rejected: Tensor | None = None
    turn: int = 0

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """``(C, h, w)`` of a latent."""
        _, channels, height, width = self.moments.shape
        return channels // 2, height, width

    def generators(self, purpose: str, repeats: int = 1) -> list[torch.Generator]:
        """One generator a trajectory, repeat by repeat, on the CPU whatever the device."""
        stream = PURPOSES.index(purpose) if purpose in PURPOSES else crc32(purpose.encode())
        return [
            torch.Generator().manual_seed(seed_of(self.seed, position, repeat, stream))
            for repeat in range(repeats)
            for position in self.positions
        ]


def seed_of(*entropy: int) -> int:
    """A seed for torch from several numbers; streams of different ones are unrelated.

    Examples:
        >>> seed_of(42, 0) == seed_of(42, 0), seed_of(42, 0) == seed_of(42, 1)
        (True, False)
    """
    (state,) = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
    return int(state) >> 1


def read_examples(path: Path, domain: str | None) -> Examples:
    """Read a training manifest.

    Raises:
        PreflightError: Rows without label, of an unknown class, or with a missing image; all are
            listed.

    Examples:
        >>> examples = read_examples(train, "phantom-chexpert")
        >>> examples.checklist(examples.labels[0]) != ""
        True
    """
    manifest = read_manifest(path)
    spec = domain_of(manifest, domain)
    pack = load_domain(spec) if spec else None
    if pack is None:
        (manifest,), told = unify_labels([manifest])
        manifest = replace(manifest, notes=(*manifest.notes, *told))
    labels, problems = check_rows(manifest, pack)
    if problems:
        raise PreflightError(problems, fix=f"correct these rows of {path}")
    classes = pack.class_names if pack else tuple(sorted(set(labels)))
    return Examples(
        paths=tuple(manifest.paths()),
        labels=labels,
        # Blanks describe nothing: they are no prompt, and what is one stays as it was written.
        prompts=tuple(text if text.strip() else "" for text in manifest.rows["prompt"]),
        classes=classes,
        domain=pack,
        manifest=manifest,
    )


def content_digest(examples: Examples) -> str:
    """sha256, as hex, of what is learned from: rows, images and the domain pack.

    Examples:
        >>> digest = content_digest(read_examples(train, None))
        >>> len(digest)
        64
    """
    workers = default_workers()
    images = ordered_map(image_digest, examples.paths, workers=workers, ahead=2 * workers)
    told = [examples.manifest.rows["id"], examples.labels, examples.prompts, images]
    pack = examples.domain.model_dump(mode="json") if examples.domain else None
    return digest_of([examples.classes, pack, *zip(*told, strict=True)])


def image_digest(path: Path) -> str:
    """sha256 of a file, remembered within the process; empty where it cannot be read."""
    try:
        status = path.stat()
        return _digest_of_version(path, status.st_size, status.st_mtime_ns)
    except OSError:
        return ""  # a complaint of whoever reads the image


@cache
def _digest_of_version(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def conditioning_texts(
    examples: Examples, template: str, tokens: dict[str, str]
) -> tuple[str, ...]:
    """The text that each image is generated from.

    Raises:
        PreflightError: The template asks for a prompt or a learned token that a row lacks.

    Examples:
        >>> examples = read_examples(train, None)
        >>> texts = conditioning_texts(examples, "an image of {label}", {})
        >>> texts[0] == f"an image of {examples.labels[0]}"
        True
    """
    texts, problems = [], []
    for row, (label, prompt) in enumerate(zip(examples.labels, examples.prompts, strict=True)):
        image = examples.manifest.rows["image"].iloc[row]
        if "{prompt}" in template and not prompt:
            problems.append(f"{image}: has no prompt")
        if "{token}" in template and label not in tokens:
            problems.append(f"{image}: class {label!r} has no learned token")
            continue
        try:
            texts.append(template.format(prompt=prompt, label=label, token=tokens.get(label, "")))
        except (KeyError, IndexError, ValueError, AttributeError):
            problems = [f"prompt template {template!r}: only {{prompt}}, {{label}} and {{token}}"]
            break
    if problems:
        raise PreflightError(
            problems, fix="complete the manifest, learn the tokens first, or change `prompt`"
        )
    return tuple(texts)


def load_square(path: Path, resolution: int, manifest: Manifest) -> Tensor:
    """``(3, S, S)`` in [0, 1] of a file, as :func:`square_of`."""
    return square_of(load_image(path, window=manifest.window), resolution)


def square_of(image: LoadedImage, resolution: int) -> Tensor:
    """``(3, S, S)`` in [0, 1]: the shorter side resized to ``resolution``, the centre kept."""
    pixels = to_tensor(image.pixels)
    height, width = pixels.shape[1:]
    scale = resolution / min(height, width)
    size = (max(resolution, round(height * scale)), max(resolution, round(width * scale)))
    resized = F.interpolate(pixels[None], size=size, mode="bicubic", antialias=True).clamp(0, 1)
    top, left = (size[0] - resolution) // 2, (size[1] - resolution) // 2
    return resized[0, :, top : top + resolution, left : left + resolution]


def positions_of(
    step: int, *, batch_size: int, accumulate: int, rank: int = 0, world: int = 1
) -> list[tuple[int, ...]]:
    """Positions in the whole run of each forward pass of one optimizer step on one process.

    The ranks of a forward pass lie next to each other: two processes with a batch of two hold
    together what one process with a batch of four holds.

    Examples:
        >>> positions_of(0, batch_size=2, accumulate=1, rank=1, world=2)
        [(2, 3)]
    """
    together = batch_size * world
    return [
        tuple(
            (step * accumulate + micro) * together + rank * batch_size + slot
            for slot in range(batch_size)
        )
        for micro in range(accumulate)
    ]


def row_at(position: int, total: int, seed: int) -> int:
    """Which of ``total`` examples stands at a position of the run: a new order every epoch.

    Examples:
        >>> sorted(row_at(position, 4, seed=0) for position in range(4))  # one epoch
        [0, 1, 2, 3]
    """
    return int(_order(seed, position // total, total)[position % total])


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, total: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(total)
