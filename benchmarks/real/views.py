"""How a real photograph may be changed without becoming one of another class."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torchvision.transforms import v2

from benchmarks.real.pictures import World

#: Share of the area that a crop keeps.
_AREA: Final = (0.7, 1.0)


def views(world: World, side: int) -> v2.Compose:
    """A random change of one ``(3, H, W)`` uint8 picture; the result is ``(3, side, side)`` uint8.

    A lesion has no upright position; a chest has one, and its sides are named in captions.
    """
    crop = v2.RandomResizedCrop(side, scale=_AREA, ratio=(0.95, 1.05), antialias=True)
    light = v2.ColorJitter(0.15, 0.15, 0.1, 0.02)
    if world.name == "skin":
        quarter = v2.RandomChoice([v2.RandomRotation((angle, angle)) for angle in (0, 90)])
        return v2.Compose(
            [crop, v2.RandomHorizontalFlip(), v2.RandomVerticalFlip(), quarter, light]
        )
    return v2.Compose([v2.RandomRotation(5), crop, light])


def changed(images: Tensor, world: World, side: int, seed: int) -> Tensor:
    """One changed view of each of ``(B, 3, H, W)`` uint8 pictures; a function of ``seed``."""
    transform = views(world, side)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.stack([transform(image) for image in images])
