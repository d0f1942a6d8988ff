"""JPEG by libjpeg-turbo without Pillow's detour, where simplejpeg is installed: the same pixels.

``python -m benchmarks.images.jpeg_decoders`` compares them on photographs.
"""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path
from typing import Any, Final

from PIL import Image

#: Pillow's modes that are decoded here, by simplejpeg's names. Others (CMYK) are left to Pillow.
SPACES: Final = {"RGB": "RGB", "L": "GRAY"}


def decoded(path: Path, image: Image.Image) -> Image.Image:
    """The picture of an opened file: decoded here if it is a sound JPEG, else as it was opened.

    Whatever libjpeg only warns of is left to Pillow, which says what is wrong with it.

    Args:
        path: The file.
        image: What Pillow made of its header.
    """
    library = _simplejpeg()
    if library is None or image.format != "JPEG" or image.mode not in SPACES:
        return image
    try:
        pixels = library.decode_jpeg(path.read_bytes(), SPACES[image.mode], strict=True)
    except (ValueError, OSError):
        return image
    if pixels.shape[:2] != (image.height, image.width):
        return image
    made = Image.fromarray(pixels if image.mode == "RGB" else pixels[..., 0])
    made.info = dict(image.info)
    return made


@cache
def _simplejpeg() -> Any:
    try:
        return importlib.import_module("simplejpeg")
    except ImportError:
        return None
