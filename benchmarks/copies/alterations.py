"""What is done to a training image before it is planted as a copy."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np
from PIL import Image, ImageChops, ImageEnhance, ImageFilter, ImageOps

Picture = Image.Image
#: ``(training image, an unrelated fresh image, generator)`` to the copy.
Alteration = Callable[[Picture, Picture, np.random.Generator], Picture]

#: Displacement of a shifted copy, as a share of the side: 12 pixels of 256.
SHIFT: Final = 12 / 256


def jpeg(picture: Picture, *_: object) -> Picture:
    """Compressed at quality 30."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=30)
    return Image.open(buffer).convert("RGB")


def resized(picture: Picture, *_: object) -> Picture:
    """To 3/4 of the side and back."""
    small = picture.resize([3 * side // 4 for side in picture.size], Image.Resampling.BICUBIC)
    return small.resize(picture.size, Image.Resampling.BICUBIC)


def blurred(picture: Picture, *_: object) -> Picture:
    """Gaussian of one hundredth of the side."""
    return picture.filter(ImageFilter.GaussianBlur(picture.width / 100))


def noisy(picture: Picture, _: Picture, rng: np.random.Generator) -> Picture:
    """Gaussian noise of standard deviation 10."""
    values = np.asarray(picture, dtype=np.float64)
    noise = rng.normal(0, 10, values.shape)
    return Image.fromarray(np.clip(values + noise, 0, 255).round().astype(np.uint8))


def gamma(picture: Picture, _: Picture, rng: np.random.Generator) -> Picture:
    """Brightness to the power of 1.5 or of 1/1.5."""
    power = 1.5 ** rng.choice([-1, 1])
    return picture.point([round(255 * (value / 255) ** power) for value in range(256)] * 3)


def recoloured(picture: Picture, _: Picture, rng: np.random.Generator) -> Picture:
    """Channels weighted between 0.7 and 1.2, and half the saturation."""
    pale = np.asarray(ImageEnhance.Color(picture).enhance(0.5), dtype=np.float64)
    return Image.fromarray(np.clip(pale * rng.uniform(0.7, 1.2, 3), 0, 255).astype(np.uint8))


def cropped(share: float, picture: Picture, *_: object) -> Picture:
    """``share`` of the side off every side, enlarged to the old size."""
    width, height = picture.size
    box = (share * width, share * height, (1 - share) * width, (1 - share) * height)
    return picture.resize(picture.size, Image.Resampling.BICUBIC, box=box)


def shifted(picture: Picture, _: Picture, rng: np.random.Generator) -> Picture:
    """Displaced by :data:`SHIFT` in both directions; the border's pixels fill the gap."""
    by = round(SHIFT * picture.width)
    across, down = by * rng.choice([-1, 1], 2)
    padded = np.pad(np.asarray(picture), ((by, by), (by, by), (0, 0)), mode="edge")
    height, width = padded.shape[0] - 2 * by, padded.shape[1] - 2 * by
    return Image.fromarray(padded[by + down :, by + across :][:height, :width].copy())


def turned(angle: float, picture: Picture, *_: object) -> Picture:
    """Rotated by ``angle`` degrees about the centre, black where nothing was."""
    return picture.rotate(angle, Image.Resampling.BICUBIC)


def patched(picture: Picture, host: Picture, rng: np.random.Generator) -> Picture:
    """A square of a quarter of its area in an unrelated image, at the same place."""
    side = picture.width // 2
    left, top = rng.integers(0, picture.width - side + 1, 2).tolist()
    copy = host.resize(picture.size)
    copy.paste(picture.crop((left, top, left + side, top + side)), (left, top))
    return copy


ALTERATIONS: Final[dict[str, Alteration]] = {
    "exact": lambda picture, *_: picture,
    "JPEG quality 30": jpeg,
    "resized to 3/4 and back": resized,
    "blurred": blurred,
    "noise σ=10": noisy,
    "gamma 1.5 or 1/1.5": gamma,
    "recoloured": recoloured,
    "cropped 5% a side": partial(cropped, 0.05),
    "cropped 10% a side": partial(cropped, 0.10),
    "cropped 20% a side": partial(cropped, 0.20),
    "shifted by 12 of 256": shifted,
    "rotated by 5°": partial(turned, 5),
    "rotated by 90°": partial(turned, 90),
    "mirrored": lambda picture, *_: ImageOps.mirror(picture),
    "a quarter pasted in": patched,
    "inverted": lambda picture, *_: ImageChops.invert(picture),
}
