"""A map over its picture."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from PIL import Image

#: Colours of what speaks for and against, and how much of them is laid over at most.
FOR: Final = (255, 176, 0)
AGAINST: Final = (0, 114, 178)
_STRENGTH: Final = 0.65


def overlay(pixels: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Lay a map over a picture: orange where it is positive, blue where it is negative.

    Args:
        pixels: ``(H, W, 3)`` uint8, or float in [0, 1].
        found: ``(G, G)`` map of the whole frame; its largest size is drawn in full.

    Returns:
        ``(H, W, 3)`` uint8.
    """
    if pixels.dtype != np.uint8:
        pixels = (np.clip(pixels, 0.0, 1.0) * 255).round().astype(np.uint8)
    height, width = pixels.shape[:2]
    largest = float(np.abs(found).max())
    scaled = (found / largest if largest > 0 else found).astype(np.float32)
    wide = Image.fromarray(scaled).resize((width, height), Image.Resampling.BILINEAR)
    strength = np.asarray(wide)[..., None]
    grey = pixels.mean(axis=2, keepdims=True)
    share = _STRENGTH * np.abs(strength)
    colour = np.where(strength >= 0, np.array(FOR), np.array(AGAINST))
    return ((1 - share) * (0.35 * pixels + 0.65 * grey) + share * colour).round().astype(np.uint8)


def seen_part(pixels: np.ndarray, preprocessing: Any) -> np.ndarray:
    """The part of a picture that the model sees: the centre of it, where it is cropped."""
    if not str(getattr(preprocessing, "geometry", "squash")).startswith("crop"):
        return pixels
    share = min(1.0, preprocessing.size / preprocessing.shortest_side)
    side = max(1, round(min(pixels.shape[:2]) * share))
    top, left = ((length - side) // 2 for length in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]
