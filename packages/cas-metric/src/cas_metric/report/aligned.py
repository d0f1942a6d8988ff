"""Altered copies in a report: one image laid over the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from cas_metric.errors import CasError
from cas_metric.images import load_image, to_uint8
from cas_metric.report.gallery import Thumbnail, encode


def blended(generated: Path, training: Path, score: float | None) -> Thumbnail | None:
    """The aligned pair, one laid over the other, where the alignment says that it is a copy."""
    if score is None or not score > 1:
        return None
    from cas_metric.copies import geometry
    from cas_metric.copies.keypoints import Keypoints

    points = Keypoints.empty(2)
    try:
        for row, path in enumerate((generated, training)):
            pixels = to_uint8(load_image(path).pixels)
            points.put(row, np.asarray(Image.fromarray(pixels).convert("L")))
    except CasError:
        return None
    return encode(geometry.blend(points, 0, points, 1))
