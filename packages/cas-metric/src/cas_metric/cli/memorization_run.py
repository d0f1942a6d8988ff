"""From findings to the files of a run: tables, ``summary.json`` and ``report.html``."""

from __future__ import annotations

import io
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from cas_metric.copies.verdict import leakage_verdict, memorization_verdict
from cas_metric.files import to_json, write_bytes
from cas_metric.protocol import SSIM_THRESHOLD
from cas_metric.report import write_leakage_report, write_memorization_report
from cas_metric.report.format import count, number
from cas_metric.report.leakage import Shared
from cas_metric.report.memorization import (
    Findings,
    NearDuplicates,
    NeighbourDistances,
    SuspiciousPair,
)
from cas_metric.report.tables import Cell, Column, Table, TableRow
from cas_metric.statistics.uncertainty import Interval

if TYPE_CHECKING:
    from cas_metric.copies.analysis import Analysis
    from cas_metric.copies.leakage import Leakage
    from cas_metric.manifest import Manifest

#: Packages that decide the bits of a result.
PACKAGES: Final = ("cas-metric", "imagehash", "numba", "numpy", "pillow", "scipy", "torch")


def provenance(**inputs: Manifest | None) -> dict[str, Any]:
    """Command line, versions and where the images of each set lie."""
    return {
        "command": ["cas", *sys.argv[1:]],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "inputs": {
            name: {
                "root": str(manifest.root),
                "images": len(manifest),
                "window": manifest.window.bounds if manifest.window else None,
            }
            for name, manifest in inputs.items()
            if manifest is not None
        },
    }


def domain_of(*manifests: Manifest | None) -> str:
    """The domain that the first ``cas.yaml`` names; empty without one."""
    configs = (manifest.config for manifest in manifests if manifest is not None)
    return next((config.domain for config in configs if config and config.domain), "")


def memorization_summary(
    analysis: Analysis, base: Mapping[str, Any], *, n_train: int, encoder: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Content of ``summary.json`` of a memorization analysis.

    Args:
        analysis: What was found.
        base: Domain, settings, failures, provenance and the like, taken over as they are.
        n_train: Training images that could be read.
        encoder: Name and fingerprint of the feature space; None where it was left out.
    """
    name = encoder["name"] if encoder else ""
    summary = {
        "kind": "memorization",
        **base,
        "encoder": dict(encoder) if encoder else None,
        "n_train": n_train,
        "methods": analysis.methods,
        "verdict": memorization_verdict(analysis.methods, n_train, name),
    }
    if analysis.reference is not None:
        low, middle = np.quantile(analysis.reference, [0.05, 0.5])
        summary["real_test_to_train"] = {
            "n": len(analysis.reference),
            "mean": float(analysis.reference.mean()),
            "median": float(middle),
            "p05": float(low),
            "min": float(analysis.reference.min()),
        }
    return summary


def write_memorization(folder: Path, analysis: Analysis, summary: Mapping[str, Any]) -> None:
    """Write ``per_image`` and ``pairs``, the report and, last, ``summary.json``."""
    _write_table(folder / "per_image", analysis.rows)
    write_bytes(folder / "pairs.csv", _csv(analysis.pairs))
    write_memorization_report(_findings(analysis, summary), folder)
    write_bytes(folder / "summary.json", to_json(summary).encode())


def leakage_summary(found: Leakage, base: Mapping[str, Any]) -> dict[str, Any]:
    """Content of ``summary.json`` of a search for leakage."""
    return {"kind": "leakage", **base, **found.figures, "verdict": leakage_verdict(found.figures)}


def write_leakage(folder: Path, found: Leakage, summary: Mapping[str, Any]) -> None:
    """Write ``pairs.csv``, ``patients.csv``, the report and, last, ``summary.json``."""
    write_bytes(folder / "pairs.csv", _csv(found.pairs))
    write_bytes(folder / "patients.csv", _csv(found.patients))
    shared = Shared(
        domain=summary["domain"],
        verdict=summary["verdict"],
        counts=[
            ("pairs with the same bytes", found.figures["same_file"]),
            ("pairs with the same pixels in different files", found.figures["same_pixels"]),
            (
                f"near duplicates (pHash ≤ {found.figures['phash_threshold']})",
                found.figures["near_duplicates"],
            ),
            (
                f"near duplicates with SSIM > {SSIM_THRESHOLD}",
                found.figures["near_duplicates_confirmed"],
            ),
            ("pairs whose labels differ", found.figures["labels_differ"]),
            ("training images affected", found.figures["train_images_affected"]),
            ("test images affected", found.figures["test_images_affected"]),
            ("shared patients", found.figures["shared_patients"]),
        ],
        pairs=[
            SuspiciousPair(
                Path(row.test), Path(row.train), row.kind, _both(row.test_label, row.train_label),
                ssim=row.ssim, phash=row.phash,
            )
            for row in found.pairs.itertuples()
        ],
        patients=list(found.patients.itertuples(index=False, name=None)),
        provenance=summary["provenance"],
        embedded_world=summary["embedded_world"],
    )  # fmt: skip
    write_leakage_report(shared, folder)
    write_bytes(folder / "summary.json", to_json(summary).encode())


def _findings(analysis: Analysis, summary: Mapping[str, Any]) -> Findings:
    """What the memorization report shows."""
    encoder = summary["encoder"]["name"] if summary["encoder"] else ""
    return Findings(
        domain=summary["domain"],
        verdict=summary["verdict"],
        encoder=encoder,
        duplicates=[
            NearDuplicates(
                one["method"], one["n"], one.get("ssim_above", 0), one["phash_near"],
                one["either"], one.get("max_ssim", float("nan")),
            )
            for one in analysis.methods
        ],
        neighbours=[_distances(one, analysis) for one in analysis.methods if "neighbours" in one],
        reference=analysis.reference,
        pairs=[_suspicious(row) for row in analysis.pairs.itertuples()],
        details=[table for table in (_matched(analysis), _classes(analysis)) if table.rows],
        provenance={**summary["provenance"], "settings": summary["settings"]},
        embedded_world=summary["embedded_world"],
    )  # fmt: skip


def _suspicious(row: Any) -> SuspiciousPair:
    return SuspiciousPair(
        Path(row.generated),
        Path(row.training),
        row.method,
        row.label,
        ssim=row.ssim,
        phash=row.phash,
        distance=getattr(row, "distance", None),
        flags=tuple(row.flags.split(", ")) if row.flags else (),
    )


def _distances(one: Mapping[str, Any], analysis: Analysis) -> NeighbourDistances:
    figures, nothing = one["neighbours"], float("nan")
    rows = analysis.rows[analysis.rows["method"] == one["method"]]
    gap = figures.get("difference") or dict.fromkeys(Interval._fields, nothing)
    return NeighbourDistances(
        one["method"], figures["train"], figures.get("test", nothing), Interval(**gap),
        figures.get("p_nearer_to_train", nothing), rows["train_distance"].to_numpy(dtype=float),
    )  # fmt: skip


def _matched(analysis: Analysis) -> Table:
    """The comparison at equal numbers, and the images nearer than any real one."""
    columns = (
        Column("Method", numeric=False),
        Column("images a set", "Real images of each set in the size-matched comparison."),
        Column("difference", "Training minus test at that size, expected over all draws."),
        Column("nearer than real", "Images nearer to training than every real test image is."),
    )
    rows = []
    for one in analysis.methods:
        figures = one.get("neighbours", {})
        if "matched_size" in figures:
            gap, size = figures["matched_difference"], figures["matched_size"]
            cells = (
                Cell(one["method"], one["method"]),
                Cell(count(size), size),
                Cell(number(gap["estimate"], 4), gap["estimate"], _bounds(gap)),
                Cell(count(figures["nearer_than_real"]), figures["nearer_than_real"]),
            )
            rows.append(TableRow(cells))
    caption = "The same with equal numbers of training and test images"
    return Table("matched", caption, columns, tuple(rows))


def _classes(analysis: Analysis) -> Table:
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
    for one in analysis.methods:
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


def _both(one: str, other: str) -> str:
    """A label that two images share, or both labels."""
    return one if one == other else f"{one or 'no label'} / {other or 'no label'}"


def _csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False, lineterminator="\n").encode()


def _write_table(path: Path, table: pd.DataFrame) -> None:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    write_bytes(path.with_suffix(".parquet"), buffer.getvalue())
    write_bytes(path.with_suffix(".csv"), _csv(table))
