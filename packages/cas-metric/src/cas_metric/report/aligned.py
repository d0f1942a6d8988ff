"""Altered copies in a report: how many of each method, and one image laid over the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cas_metric.errors import CasError
from cas_metric.images import load_image, to_uint8
from cas_metric.report.gallery import Thumbnail, encode
from cas_metric.report.tables import Cell, Column, Table, TableRow, count, number


def aligned_table(methods: Sequence[Mapping[str, Any]]) -> Table:
    """Altered copies of each method, beside what real images give."""
    columns = (
        Column("Method", numeric=False),
        Column("images"),
        Column("blank", "Images without structure, which no detector compares."),
        Column("aligned copies", "They fit a training image once it is aligned."),
        Column("real", "Real images that do: unseen ones, or training images against the others."),
        Column("expected", "How many would at the rate of the real images."),
        Column("p", "Exact (Fisher), that so many do without copying; Holm over methods."),
    )
    rows = []
    for one in methods:
        if "aligned" not in one:
            continue
        found = one["aligned"]
        real = f"{found['real_hits']:,} of {found['real_images']:,}"
        cells = (
            Cell(one["method"], one["method"]),
            Cell(count(one["n"]), one["n"]),
            Cell(count(one["blank"]), one["blank"]),
            Cell(count(found["hits"]), found["hits"]),
            Cell(real, found["real_hits"]),
            Cell(number(found["expected"], 1), found["expected"]),
            Cell(number(found["p_adjusted"], 3), found["p_adjusted"]),
        )
        rows.append(TableRow(cells))
    caption = "Training images cropped, shifted, rotated, mirrored, inverted or pasted in"
    return Table("aligned", caption, columns, tuple(rows))


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
