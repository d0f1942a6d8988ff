"""Images small enough to travel inside a report, as data URIs."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from cas_metric.errors import CasError
from cas_metric.images import Window, load_image

#: Longest side of a thumbnail in pixels.
MAX_SIDE: Final = 192
JPEG_QUALITY: Final = 86


@dataclass(frozen=True)
class Thumbnail:
    """A picture for the page: ``uri`` is empty where there is none, and ``missing`` says why."""

    uri: str = ""
    width: int = MAX_SIDE
    height: int = MAX_SIDE
    missing: str = ""


def thumbnail(path: Path | None, window: Window | None = None) -> Thumbnail:
    """Shrink the image at ``path`` to :data:`MAX_SIDE`; a placeholder where it cannot be read.

    Args:
        path: The file; None where there is none.
        window: The display window that it was scored through.
    """
    if path is None:
        return Thumbnail(missing="no image")
    if not path.is_file():
        return Thumbnail(missing="file not found")
    try:
        pixels = load_image(path, window=window).pixels
    except CasError:
        return Thumbnail(missing="unreadable file")
    return encode(pixels)


def encode(pixels: np.ndarray) -> Thumbnail:
    """Encode ``(H, W, 3)`` pixels, uint8 or float in [0, 1], as a JPEG without chroma subsampling.

    The same pixels give the same bytes with the same version of Pillow.
    """
    if pixels.dtype != np.uint8:
        pixels = (np.clip(pixels, 0.0, 1.0) * 255).round().astype(np.uint8)
    picture = Image.fromarray(pixels)
    picture.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS, reducing_gap=None)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    body = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Thumbnail(f"data:image/jpeg;base64,{body}", *picture.size)
