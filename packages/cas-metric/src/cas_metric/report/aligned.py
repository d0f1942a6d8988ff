"""Altered copies in a report: how many of each method, and one image laid over the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cas_metric.copies.chance import detectors_of
from cas_metric.errors import CasError
from cas_metric.images import load_image, to_uint8
from cas_metric.report.gallery import Thumbnail, encode
from cas_metric.report.tables import Cell, Column, Table, TableRow, count, number


def detector_table(methods: Sequence[Mapping[str, Any]]) -> Table:
    """What each detector finds of each method, beside what real images give."""
    columns = (
        Column("Method", numeric=False),
        Column("Detector", numeric=False),
        Column("images", "Generated images that the detector finds a training image for."),
        Column("real", "Real images that it does: unseen ones, or training images against others."),
        Column("expected", "How many generated images would at the rate of the real ones."),
        Column("p", "Exact, of so many without copying; Holm over detectors and methods."),
    )
    rows = [
        _detector_row(one, name, entry, entry[f"{key}_adjusted"])
        for one in methods
        for name, (entry, key) in detectors_of(one).items()
    ]
    return Table("detectors", "Each detector beside real images", columns, tuple(rows))


def _detector_row(
    one: Mapping[str, Any], name: str, entry: Mapping[str, Any], p: float
) -> TableRow:
    hits = entry["hits"] if "hits" in entry else entry["nearer_than_real"]
    expected = entry["expected"] if "expected" in entry else entry["nearer_expected"]
    real = f"{entry['real_hits']:,} of {entry['real_images']:,}" if "real_hits" in entry else "0"
    return TableRow(
        (
            Cell(one["method"], one["method"]),
            Cell(name, name),
            Cell(count(hits), hits, f"of {count(one['n'])}"),
            Cell(real, entry.get("real_hits", 0)),
            Cell(number(expected, 1), expected),
            Cell(number(p, 3), p),
        )
    )


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
