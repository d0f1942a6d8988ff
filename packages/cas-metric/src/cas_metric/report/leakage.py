"""The report of a search for leakage: what two splits share, with the pictures side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cas_metric.files import write_bytes
from cas_metric.protocol import SSIM_THRESHOLD
from cas_metric.report import details
from cas_metric.report.memorization import FILE_NAME, PAIRS, SuspiciousPair, pair_card
from cas_metric.report.palette import INKS
from cas_metric.report.rendering import render
from cas_metric.report.tables import Cell, Column, Table, TableRow, count

if TYPE_CHECKING:
    from cas_metric.copies.leakage import Leakage

TITLE: Final = "Leakage"
#: Shared patients listed on the page.
PATIENTS: Final = 50


@dataclass(frozen=True)
class Shared:
    """Everything that a leakage report shows.

    Attributes:
        domain: Data set.
        verdict: What was tested and found.
        counts: ``(what, number)``, in the order of the table.
        pairs: Test images (in the place of generated ones) with training images, strongest first;
            ``method`` says what the two have in common.
        patients: ``(patient, training images, test images)``.
        provenance: As in the summary of a run.
        embedded_world: Whether the images are drawn phantoms.
    """

    domain: str
    verdict: str
    counts: Sequence[tuple[str, int]]
    pairs: Sequence[SuspiciousPair] = ()
    patients: Sequence[tuple[str, int, int]] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    embedded_world: bool = False


def write_leakage_report(shared: Shared, out: str | Path, *, pairs: int = PAIRS) -> Path:
    """Write ``report.html`` into the folder ``out``: self-contained, the same bytes every time.

    Args:
        shared: What was found.
        out: Folder; made where it is missing.
        pairs: How many pairs to show.

    Returns:
        Path of the report.

    Raises:
        CasError: The folder cannot be written to.
    """
    target = Path(out) / FILE_NAME
    names = dict.fromkeys(one.method for one in shared.pairs)
    kinds = {name: f"m{i % len(INKS)}" for i, name in enumerate(names)}
    context: dict[str, Any] = {
        "title": TITLE,
        "embedded_world": shared.embedded_world,
        "domain": shared.domain,
        "verdict": shared.verdict,
        "counts": _counts(shared.counts),
        "patients": _patients(shared.patients[:PATIENTS]),
        "patients_left": max(0, len(shared.patients) - PATIENTS),
        "pairs": [pair_card(pair, kinds[pair.method]) for pair in shared.pairs[:pairs]],
        "pairs_left": max(0, len(shared.pairs) - pairs),
        "provenance": details.provenance_groups(shared.provenance),
    }
    shown = {"counts": "Images", "patients": "Patients", "pairs": "Pairs"}
    sections = [(name, title) for name, title in shown.items() if context[name]]
    context["sections"] = [*sections, ("provenance", "Provenance")]
    write_bytes(target, render("leakage.html.j2", context).encode("utf-8"))
    return target


def shared_of(found: Leakage, summary: Mapping[str, Any]) -> Shared:
    """What the report shows of a search.

    Args:
        found: What the two splits share.
        summary: What is to be written to ``summary.json``.
    """
    return Shared(
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
            ("altered copies, found by alignment", found.figures["altered_copies"]),
            ("other images of a patient, found by alignment", found.figures["another_image"]),
            ("pairs whose labels differ", found.figures["labels_differ"]),
            ("training images affected", found.figures["train_images_affected"]),
            ("test images affected", found.figures["test_images_affected"]),
            ("shared patients", found.figures["shared_patients"]),
        ],
        pairs=[
            SuspiciousPair(
                Path(row.test), Path(row.train), row.kind, _both(row.test_label, row.train_label),
                ssim=row.ssim, phash=row.phash, score=getattr(row, "score", None),
                transform=getattr(row, "transform", ""),
            )
            for row in found.pairs.itertuples()
        ],
        patients=list(found.patients.itertuples(index=False, name=None)),
        provenance=summary["provenance"],
        embedded_world=summary["embedded_world"],
    )  # fmt: skip


def _counts(lines: Sequence[tuple[str, int]]) -> Table:
    rows = tuple(TableRow((Cell(what, what), Cell(count(n), n))) for what, n in lines)
    columns = Column("What the two share", numeric=False), Column("number")
    return Table("counts", "Images of the two splits that show the same", columns, rows)


def _patients(lines: Sequence[tuple[str, int, int]]) -> Table | None:
    columns = (
        Column("Patient", numeric=False),
        Column("training", "Images of the patient in the training split."),
        Column("test", "Images of the patient in the test split."),
    )
    rows = tuple(
        TableRow((Cell(name, name, code=True), *(Cell(count(n), n) for n in numbers)))
        for name, *numbers in lines
    )
    return Table("patients", "Patients with images in both splits", columns, rows) if rows else None


def _both(one: str, other: str) -> str:
    """A label that two images share, or both labels."""
    return one if one == other else f"{one or 'no label'} / {other or 'no label'}"
