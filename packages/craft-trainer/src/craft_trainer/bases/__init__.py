"""Families of base models: one class a family, found by the pipeline that diffusers loads."""

from craft_trainer.bases.base import DiffusionModel, TextTower
from craft_trainer.bases.transformer import Flux, StableDiffusion3
from craft_trainer.bases.unet import StableDiffusion, StableDiffusionXL

#: Name of a diffusers pipeline to its family.
FAMILIES: dict[str, type[DiffusionModel]] = {
    family.pipeline_name: family
    for family in (StableDiffusion, StableDiffusionXL, StableDiffusion3, Flux)
}

__all__ = [
    "FAMILIES",
    "DiffusionModel",
    "Flux",
    "StableDiffusion",
    "StableDiffusion3",
    "StableDiffusionXL",
    "TextTower",
]
