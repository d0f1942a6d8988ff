"""The report of a memorization analysis: the two tables of Appendix M, and pairs to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cas_metric.copies.verdict import memorization_findings
from cas_metric.files import write_bytes
from cas_metric.protocol import PHASH_THRESHOLD, SSIM_THRESHOLD
from cas_metric.report import charts, details
from cas_metric.report.aligned import blended
from cas_metric.report.charts import Chart, Series
from cas_metric.report.copy_tables import (
    canary_table,
    class_table,
    detector_table,
    matched_table,
    prompt_table,
)
from cas_metric.report.gallery import Thumbnail, thumbnail
from cas_metric.report.palette import INKS
from cas_metric.report.rendering import render
from cas_metric.report.tables import (
    MISSING,
    Cell,
    Column,
    Table,
    TableRow,
    count,
    is_number,
    number,
)
from cas_metric.statistics.tables import p_value
from cas_metric.statistics.uncertainty import Interval

if TYPE_CHECKING:
    import pandas as pd

    from cas_metric.copies.analysis import Analysis

FILE_NAME: Final = "report.html"
TITLE: Final = "Memorization"
PAIRS: Final = 24


@dataclass(frozen=True)
class NearDuplicates:
    """One line of Table 17: how many generated images resemble a training image in pixels.

    Attributes:
        method: Who made the images.
        n: Generated images that were compared.
        ssim: How many exceed the SSIM threshold against some training image.
        phash: How many lie within the pHash threshold of one.
        either: How many do either.
        max_ssim: Greatest SSIM of any pair.
        variant: How many lie within the pHash threshold of one when mirrored, turned or inverted;
            None where no symmetry was hashed.
    """

    method: str
    n: int
    ssim: int
    phash: int
    either: int
    max_ssim: float
    variant: int | None = None


@dataclass(frozen=True)
class NeighbourDistances:
    """One line of Table 18: mean cosine distances to the nearest training and test image.

    Attributes:
        method: Who made the images.
        train: Mean distance to the nearest training image.
        test: Mean distance to the nearest test image.
        difference: ``train`` minus ``test`` with its interval; below 0 is nearer to training.
        p: Permutation p-value of the difference.
        values: ``(N,)`` distance of each generated image to its nearest training image.
    """

    method: str
    train: float
    test: float
    difference: Interval
    p: float
    values: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class SuspiciousPair:
    """A generated image and the training image that it resembles most.

    Attributes:
        generated: File of the generated image.
        training: File of the training image.
        method: Who made the generated image.
        label: Its class.
        ssim: Structural similarity; None where it was not computed.
        phash: Hamming distance of the hashes, of 64 bits.
        distance: Cosine distance in feature space.
        flags: Names of the detectors that it set off; may be empty.
        score: Evidence of the alignment, as a multiple of what real images ask for.
        transform: How the training image lies in the generated one.
    """

    generated: Path
    training: Path
    method: str
    label: str = ""
    ssim: float | None = None
    phash: int | None = None
    distance: float | None = None
    flags: tuple[str, ...] = ()
    score: float | None = None
    transform: str = ""


@dataclass(frozen=True)
class Findings:
    """Everything that a memorization report shows.

    Attributes:
        domain: Data set.
        verdict: What was tested and found, in a sentence that claims no more than that.
        encoder: Name of the feature space.
        duplicates: Table 17.
        neighbours: Table 18; empty without a feature space.
        reference: ``(M,)`` distance of each real test image to its nearest training image.
        pairs: Most suspicious first.
        details: Further tables, e.g. by class.
        provenance: As in the summary of a run.
        embedded_world: Whether the images are drawn phantoms.
        verdicts: The verdict as a list: ``(method, sentences)``.
    """

    domain: str
    verdict: str
    encoder: str
    duplicates: Sequence[NearDuplicates]
    neighbours: Sequence[NeighbourDistances] = ()
    reference: np.ndarray | None = field(default=None, repr=False)
    pairs: Sequence[SuspiciousPair] = ()
    details: Sequence[Table] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    embedded_world: bool = False
    verdicts: Sequence[tuple[str, Sequence[str]]] = ()


@dataclass(frozen=True)
class PairCard:
    """A pair as the template draws it."""

    pair: SuspiciousPair
    ink: str
    generated: Thumbnail
    training: Thumbnail
    blended: Thumbnail | None
    scores: tuple[tuple[str, str], ...]


def write_memorization_report(findings: Findings, out: str | Path, *, pairs: int = PAIRS) -> Path:
    """Write ``report.html`` into the folder ``out``: self-contained, the same bytes every time.

    Args:
        findings: What was found.
        out: Folder of the analysis; made where it is missing.
        pairs: How many pairs to show.

    Returns:
        Path of the report.

    Raises:
        CasError: The folder cannot be written to.
    """
    target = Path(out) / FILE_NAME
    page = render("memorization.html.j2", build_context(findings, pairs))
    write_bytes(target, page.encode("utf-8"))
    return target


def findings_of(
    analysis: Analysis, summary: Mapping[str, Any], further: Mapping[str, pd.DataFrame]
) -> Findings:
    """What the report shows of an analysis.

    Args:
        analysis: What was found.
        summary: What is to be written to ``summary.json``.
        further: ``prompts`` and, where there are any, ``canaries``.
    """
    encoder = summary["encoder"]["name"] if summary["encoder"] else ""
    tables = (
        detector_table(analysis.methods), matched_table(analysis.methods), prompt_table(further),
        canary_table(further), class_table(analysis.methods),
    )  # fmt: skip
    told = [
        (title, [summary[name]["verdict"]])
        for name, title in (("extraction", "Repeated prompts"), ("canaries", "Canaries"))
        if summary.get(name, {}).get("verdict")
    ]
    return Findings(
        domain=summary["domain"],
        verdict=summary["verdict"],
        verdicts=[
            *(
                (one["method"], memorization_findings(one, summary["n_train"], encoder))
                for one in analysis.methods
            ),
            *told,
        ],
        encoder=encoder,
        duplicates=[
            NearDuplicates(
                one["method"], one["n"], one.get("ssim_above", 0), one["phash_near"],
                one["either"], one.get("max_ssim", float("nan")), one.get("phash_variant_near"),
            )
            for one in analysis.methods
        ],
        neighbours=[_distances(one, analysis) for one in analysis.methods if "neighbours" in one],
        reference=analysis.reference,
        pairs=[_suspicious(row) for row in analysis.pairs.itertuples()],
        details=[table for table in tables if table.rows],
        provenance={**summary["provenance"], "settings": summary["settings"]},
        embedded_world=summary["embedded_world"],
    )  # fmt: skip


def build_context(findings: Findings, pairs: int) -> dict[str, Any]:
    """Everything that the template shows, by the name that it uses."""
    names = [*(d.method for d in findings.duplicates), *(n.method for n in findings.neighbours)]
    inks = {name: f"m{i % len(INKS)}" for i, name in enumerate(dict.fromkeys(names))}
    context = {
        "title": TITLE,
        "embedded_world": findings.embedded_world,
        "domain": findings.domain,
        "verdict": findings.verdict,
        "verdicts": list(findings.verdicts),
        "encoder": findings.encoder,
        "duplicates": _duplicate_table(findings.duplicates, inks),
        "neighbours": _neighbour_table(findings.neighbours, inks),
        "distances": _distance_chart(findings, inks),
        "details": list(findings.details),
        "pairs": [pair_card(pair, inks.get(pair.method, "m0")) for pair in findings.pairs[:pairs]],
        "provenance": details.provenance_groups(findings.provenance),
    }
    every = (
        ("duplicates", "Near-duplicates", context["duplicates"]),
        ("neighbours", "Nearest neighbours", context["neighbours"]),
        ("details", "Details", context["details"]),
        ("pairs", "Pairs", context["pairs"]),
        ("provenance", "Provenance", True),
    )
    return context | {"sections": [(name, title) for name, title, shown in every if shown]}


def _duplicate_table(lines: Sequence[NearDuplicates], inks: Mapping[str, str]) -> Table | None:
    varied = any(one.variant is not None for one in lines)
    variant = Column(
        "symmetry", "The same of the image mirrored, turned or inverted: see settings."
    )
    columns = (
        Column("Method", numeric=False),
        Column("images", "Generated images compared with every training image."),
        Column(f"SSIM > {SSIM_THRESHOLD}", "Structural similarity on grey pixels."),
        Column(f"pHash ≤ {PHASH_THRESHOLD}", "Differing bits of the 64-bit perceptual hashes."),
        *[variant] * varied,
        Column("either", "By SSIM or pHash of the image as it is."),
        Column("max SSIM", "Greatest of all pairs, exact."),
    )
    rows = [
        TableRow(
            (
                Cell(one.method, one.method),
                *(Cell(count(v), v) for v in (one.n, one.ssim, one.phash)),
                *[Cell(count(one.variant), one.variant)] * varied,
                Cell(count(one.either), one.either),
                Cell(number(one.max_ssim), one.max_ssim),
            ),
            inks[one.method],
        )
        for one in lines
    ]
    caption = "Generated images that resemble a training image in pixels"
    return Table("duplicates", caption, columns, tuple(rows)) if rows else None


def _neighbour_table(lines: Sequence[NeighbourDistances], inks: Mapping[str, str]) -> Table | None:
    columns = (
        Column("Method", numeric=False),
        Column("to training", "Mean cosine distance to the nearest training image."),
        Column("to test", "Mean cosine distance to the nearest test image."),
        Column("difference", "Training minus test. Below 0: nearer to the training images."),
        Column("p", "Permutation p-value of the difference; Holm over methods."),
    )
    rows = []
    for one in lines:
        low, high = one.difference.low, one.difference.high
        bounds = f"{number(low, 4)} to {number(high, 4)}" if is_number(low) else ""
        cells = (
            Cell(one.method, one.method),
            Cell(number(one.train, 4), one.train),
            Cell(number(one.test, 4), one.test),
            Cell(number(one.difference.estimate, 4), one.difference.estimate, bounds),
            Cell(p_value(one.p), one.p),
        )
        rows.append(TableRow(cells, inks[one.method]))
    caption = "Mean cosine distance to the nearest real image, with 95% intervals of the difference"
    return Table("neighbours", caption, columns, tuple(rows)) if rows else None


def _distance_chart(findings: Findings, inks: Mapping[str, str]) -> Chart | None:
    series = [Series(one.method, inks[one.method], one.values) for one in findings.neighbours]
    if findings.reference is not None:
        series.append(Series("Real test", "real", findings.reference))
    if not any(one.finite.size for one in series):
        return None
    title = "Cosine distance to the nearest training image"
    return charts.histogram_chart(title, series, x_label="cosine distance")


def pair_card(pair: SuspiciousPair, ink: str) -> PairCard:
    """A pair with its pictures and scores, as the templates draw it."""
    scores = (
        ("SSIM", number(pair.ssim)),
        ("pHash", f"{pair.phash} bits" if is_number(pair.phash) else MISSING),
        ("distance", number(pair.distance, 4)),
        *([("alignment", f"{number(pair.score, 2)}×")] if is_number(pair.score) else []),
    )
    pictures = thumbnail(pair.generated), thumbnail(pair.training)
    return PairCard(
        pair, ink, *pictures, blended(pair.generated, pair.training, pair.score), scores
    )


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
        score=getattr(row, "score", None),
        transform=getattr(row, "transform", ""),
    )


def _distances(one: Mapping[str, Any], analysis: Analysis) -> NeighbourDistances:
    figures, nothing = one["neighbours"], float("nan")
    rows = analysis.rows[analysis.rows["method"] == one["method"]]
    gap = figures.get("difference") or dict.fromkeys(Interval._fields, nothing)
    return NeighbourDistances(
        one["method"], figures["train"], figures.get("test", nothing), Interval(**gap),
        figures.get("p_nearer_to_train_adjusted", nothing),
        rows["train_distance"].to_numpy(dtype=float),
    )  # fmt: skip
