"""Measure the embedded encoders on held-out phantoms and write their model cards.

``python -m benchmarks.phantoms.evaluate phantom-siglip [--write]``

Held-out phantoms come from seeds that no training corpus reaches. For the vision-language models:
zero-shot accuracy over the classes of a domain, by checklist and by class name, and how often an
image is closer to its own prompt than to the prompt of an image of another class. For the
self-supervised one: how often a changed copy finds its original among all held-out phantoms.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageChops, ImageEnhance, ImageOps
from torch import Tensor

from benchmarks.phantoms.corpus import COUNTS, HELD_OUT_SEED, draw
from benchmarks.phantoms.vision_language import class_name_text
from cas_metric.domains import load_domain
from cas_metric.encoders import Encoder, load_encoder

PER_DOMAIN = 1000


def held_out(domain: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Images ``(N, 64, 64, 3)`` uint8, class indices ``(N,)`` and prompts of unseen phantoms."""
    drawn = draw(domain, PER_DOMAIN, HELD_OUT_SEED, 64)
    images, labels, prompts = zip(*drawn, strict=True)
    return np.stack(images), np.array(labels), list(prompts)


def embed(encoder: Encoder, images: list[np.ndarray], batch: int = 100) -> Tensor:
    """Image embeddings ``(N, D)`` through the official preprocessing."""
    with torch.inference_mode():
        parts = [
            encoder.embed_pixels(encoder.official_preprocess(images[start : start + batch]))
            for start in range(0, len(images), batch)
        ]
    return torch.cat(parts)


def zero_shot(encoder: Encoder, domain: str) -> dict[str, float]:
    """Accuracy by checklist and by name, and the share of matched prompts that win."""
    images, labels, prompts = held_out(domain)
    pack = load_domain(domain)
    image = embed(encoder, list(images))
    target = torch.from_numpy(labels)
    result = {}
    for name, texts in {
        "checklist": [pack.checklist_text(label) for label in pack.class_names],
        "name": [class_name_text(domain, label) for label in pack.class_names],
    }.items():
        similarity = image @ encoder.embed_texts(texts).embeddings.T
        result[f"zero-shot by {name}"] = (similarity.argmax(1) == target).float().mean().item()
    prompt = encoder.embed_texts(prompts).embeddings
    rng = np.random.default_rng(0)
    other = np.array([rng.choice(np.flatnonzero(labels != label)) for label in labels])
    wins = (image * prompt).sum(1) > (image * prompt[other]).sum(1)
    result["matched prompt wins"] = wins.float().mean().item()
    result["mean cosine to own prompt"] = (image * prompt).sum(1).mean().item()
    return result


def _jpeg(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=30)
    return Image.open(buffer).convert("RGB")


def _noise(image: Image.Image) -> Image.Image:
    pixels = np.asarray(image, dtype=float)
    noisy = pixels + np.random.default_rng(0).normal(0, 8, pixels.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


#: What is done to a copied picture, by name.
COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG quality 30": _jpeg,
    "half size and back": lambda image: image.resize((32, 32)).resize((64, 64)),
    "brightness +10%": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    "cropped 5%": lambda image: image.crop((3, 3, 61, 61)).resize((64, 64)),
    "cropped 10%": lambda image: image.crop((6, 6, 58, 58)).resize((64, 64)),
    "shifted 5%": lambda image: ImageChops.offset(image, 3, 3),
    "rotated 5°": lambda image: image.rotate(5, Image.Resampling.BICUBIC),
    "mirrored": ImageOps.mirror,
    "noise, sd 8": _noise,
}


def retrieval(encoder: Encoder, domain: str) -> dict[str, float]:
    """Share of changed copies whose nearest neighbour among the originals is their source."""
    images = list(held_out(domain)[0])
    originals = embed(encoder, images)
    result = {}
    for name, change in COPIES.items():
        copies = [np.asarray(change(Image.fromarray(image))) for image in images]
        nearest = (embed(encoder, copies) @ originals.T).argmax(dim=1)
        result[name] = (nearest == torch.arange(len(images))).float().mean().item()
    return result


def card(name: str, measured: dict[str, dict[str, float]]) -> str:
    """The model card: what the model is, what it is not, and what was measured."""
    columns = list(next(iter(measured.values())))
    table = [
        "| domain | " + " | ".join(columns) + " |",
        "| --- |" + " ---: |" * len(columns),
        *(
            f"| {domain} | " + " | ".join(f"{row[column]:.3f}" for column in columns) + " |"
            for domain, row in measured.items()
        ),
    ]
    script = "self_supervised" if name == "phantom-dino" else "vision_language"
    return "\n".join(
        [
            "---",
            "license: apache-2.0",
            "library_name: transformers",
            "---",
            f"# {name}",
            "",
            "A tiny encoder of drawn phantoms, shipped with cas-metric so that everything works",
            "without a download. It has never seen a medical image and says nothing about one.",
            "",
            f"Trained from a seed by `python -m benchmarks.phantoms.{script}`; the settings are in",
            f"`training.json`. Measured on {PER_DOMAIN} held-out phantoms a domain, by",
            f"`python -m benchmarks.phantoms.evaluate {name}`:",
            "",
            *table,
            "",
        ]
    )


def main() -> None:
    """Print one model's card, and with ``--write`` put it beside the weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="an embedded encoder, or a directory that holds one")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    encoder = load_encoder(options.name, device="cpu")
    name = Path(options.name).name
    measure = retrieval if name == "phantom-dino" else zero_shot
    text = card(name, {domain: measure(encoder, domain) for domain in COUNTS})
    print(text)
    if options.write:
        target = Path(str(files("cas_metric"))) / "phantoms" / "weights" / name / "README.md"
        target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
