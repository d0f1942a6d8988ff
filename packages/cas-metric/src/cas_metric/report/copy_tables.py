"""Tables of a memorization report: detectors, distances, classes, repeated prompts, canaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cas_metric.copies.chance import detectors_of
from cas_metric.report.tables import Cell, Column, Table, TableRow, count, number
from cas_metric.statistics.tables import p_value

if TYPE_CHECKING:
    import pandas as pd

#: Prompts that are shown.
_SHOWN: Final = 20


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
            Cell(p_value(p), p),
        )
    )


def matched_table(methods: Sequence[Mapping[str, Any]]) -> Table:
    """The comparison at equal numbers, and the images nearer than any real one."""
    columns = (
        Column("Method", numeric=False),
        Column("images a set", "Real images of each set in the size-matched comparison."),
        Column("difference", "Training minus test at that size, expected over all draws."),
        Column("nearer than real", "Images nearer to training than every real test image is."),
        Column("expected", "How many would be without any copying, one in test images + 1."),
        Column("p", "Exact, of so many without copying; Holm over methods."),
    )
    rows = []
    for one in methods:
        figures = one.get("neighbours", {})
        if "matched_size" in figures:
            gap, size = figures["matched_difference"], figures["matched_size"]
            cells = (
                Cell(one["method"], one["method"]),
                Cell(count(size), size),
                Cell(number(gap["estimate"], 4), gap["estimate"], _bounds(gap)),
                Cell(count(figures["nearer_than_real"]), figures["nearer_than_real"]),
                Cell(number(figures["nearer_expected"], 1), figures["nearer_expected"]),
                Cell(
                    p_value(figures["p_nearer_than_real_adjusted"]),
                    figures["p_nearer_than_real_adjusted"],
                ),
            )
            rows.append(TableRow(cells))
    caption = "The same with equal numbers of training and test images"
    return Table("matched", caption, columns, tuple(rows))


def class_table(methods: Sequence[Mapping[str, Any]]) -> Table:
    """Flags and distances by class of the generated image."""
    columns = (
        Column("Method", numeric=False),
        Column("Class", numeric=False),
        Column("images"),
        Column("either", "Flagged by SSIM or pHash."),
        Column("max SSIM"),
        Column("to training"),
        Column("to test"),
        Column("difference", "Training minus test."),
    )
    rows = []
    for one in methods:
        for label, figures in one["per_class"].items():
            gap = figures.get("difference", {})
            cells = (
                Cell(one["method"], one["method"]),
                Cell(label, label),
                *(Cell(count(figures[key]), figures[key]) for key in ("n", "either")),
                Cell(number(figures.get("max_ssim")), figures.get("max_ssim")),
                Cell(number(figures.get("train"), 4), figures.get("train")),
                Cell(number(figures.get("test"), 4), figures.get("test")),
                Cell(number(gap.get("estimate"), 4), gap.get("estimate"), _bounds(gap)),
            )
            rows.append(TableRow(cells))
    return Table("classes", "By class of the generated image", columns, tuple(rows))


def _bounds(gap: Mapping[str, Any]) -> str:
    if not gap or not np.isfinite(gap["low"]):
        return ""
    return f"{number(gap['low'], 4)} to {number(gap['high'], 4)}"


def prompt_table(tables: Mapping[str, pd.DataFrame]) -> Table:
    """Prompts whose generations are near-duplicates of each other, the largest cluster first."""
    columns = (
        Column("Prompt", numeric=False),
        Column("Method", numeric=False),
        Column("images"),
        Column("largest cluster", "Images of the prompt that are near-duplicates of each other."),
        Column("on training images", "Images of the cluster that resemble one beyond real images."),
        Column("near pairs", "Pairs of the prompt within the distance of near-duplicates."),
        Column("expected", "At the rate of different prompts of the class."),
    )
    found = tables.get("prompts")
    shown = found[found["cluster"] > 1].head(_SHOWN) if found is not None else None
    rows = [
        TableRow(
            (
                Cell(one.prompt, one.prompt),
                Cell(one.method, one.method),
                *(Cell(count(n), n) for n in (one.images, one.cluster, one.copies, one.near)),
                Cell(number(one.expected, 1), one.expected),
            )
        )
        for one in (shown.itertuples() if shown is not None else ())
    ]
    return Table("prompts", "Prompts that give the same picture again", columns, tuple(rows))


def canary_table(tables: Mapping[str, pd.DataFrame]) -> Table:
    """Planted canaries, the most exposed first."""
    columns = (
        Column("Canary", numeric=False),
        Column("planted", "How often it stood in the training set."),
        Column("closeness", "Evidence that the best aligned generated image shows it."),
        Column("rank", "Among the twins that were kept back, and itself."),
        Column("exposure", "Bits; about 1.4 on average without memorizing."),
    )
    found = tables.get("canaries")
    rows = [
        TableRow(
            (
                Cell(one.prompt, one.prompt),
                Cell(count(one.repeats), one.repeats),
                Cell(number(one.closeness, 2), one.closeness),
                Cell(count(one.rank), one.rank),
                Cell(number(one.exposure, 1), one.exposure),
            )
        )
        for one in (
            found.nlargest(_SHOWN, "exposure", keep="first").itertuples()
            if found is not None
            else ()
        )
    ]
    return Table("canaries", "Canaries", columns, tuple(rows))
