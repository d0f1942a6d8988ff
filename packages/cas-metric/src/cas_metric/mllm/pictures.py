"""Images as a model is shown them: pixels alone, at a bounded size."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

from cas_metric.images import Window, load_image, to_uint8

if TYPE_CHECKING:
    from PIL.Image import Image


def picture(path: Path, *, longest_side: int, window: Window | None = None) -> Image:
    """An image as RGB, its longest side at most ``longest_side``; smaller ones stay as they are.

    What the file says besides pixels (EXIF, DICOM tags, its name) is left behind.

    Raises:
        ImageError: It cannot be read faithfully.
    """
    from PIL import Image

    image = Image.fromarray(to_uint8(load_image(path, window=window).pixels))
    scale = longest_side / max(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)


def data_url(image: Image) -> str:
    """``data:image/png;base64,…``: lossless, since a compressor's blocks are no finding."""
    file = io.BytesIO()
    image.save(file, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
