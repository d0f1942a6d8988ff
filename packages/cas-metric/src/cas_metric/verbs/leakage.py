"""Images and patients that two splits share."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cas_metric import protocol
from cas_metric.verbs.inputs import domain_of, domain_title, failure_list, short_name
from cas_metric.verbs.memorization import PACKAGES
from cas_metric.verbs.progress import Progress, counting
from cas_metric.verbs.result import FolderResult

if TYPE_CHECKING:
    from cas_metric.copies.leakage import Leakage
    from cas_metric.manifest.sources import Source


def leakage(
    train: Source,
    test: Source,
    *,
    threshold: int = protocol.PHASH_THRESHOLD,
    ssim_size: int = protocol.SSIM_SIZE,
    geometry: bool = True,
    offline: bool = False,
    num_workers: int | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> FolderResult:
    """Look for images and patients of ``test`` in ``train``.

    Args:
        train: One split; as :func:`~cas_metric.manifest.sources.as_manifest` takes it.
        test: The other.
        threshold: Largest pHash distance of near duplicates, of 64 bits.
        ssim_size: Side of the grey square that SSIM is taken on.
        geometry: Look for altered copies: cropped, shifted, rotated, mirrored, pasted in.
        offline: Never use the network.
        num_workers: Threads that read and decode.
        out: Where it is to be saved: refused before anything is computed, if another result lies
            there.
        progress: Told how many images of a split have been read.

    Returns:
        Tables ``pairs`` and ``patients``, and in the summary their counts with a verdict. Saved by
        default into ``leakage/NAME``.

    Raises:
        InputError: Wrong sources or settings.

    Examples:
        >>> import cas_metric
        >>> cas_metric.leakage("demo/real/train", "demo/real/test").summary["same_file"]
        0
    """
    from cas_metric.copies.leakage import find_leakage
    from cas_metric.copies.pictures import read_pictures
    from cas_metric.copies.verdict import leakage_verdict
    from cas_metric.manifest.pairing import differing_in_a_point
    from cas_metric.manifest.sources import as_manifest
    from cas_metric.runs.folder import Origin, result_folder
    from cas_metric.runs.provenance import described, provenance
    from cas_metric.scoring.labels import same_labels

    first, second = same_labels(
        (as_manifest(one, offline=offline) for one in (train, test)), offline=offline
    )
    sets = first, second
    origin = Origin.of_verb("leakage", {"train": train, "test": test})
    folder = result_folder(out, Path("leakage") / short_name(test, sets[1]), origin)
    pictures = [
        read_pictures(
            one,
            size=ssim_size,
            keypoints=geometry,
            num_workers=num_workers,
            progress=counting(progress, "images"),
        )
        for one in sets
    ]
    found = find_leakage(*sets, (pictures[0], pictures[1]), threshold=threshold)
    errors = {**pictures[0].errors, **pictures[1].errors}
    domain = domain_title(domain_of(*sets))
    named = {"train": described(sets[0]), "test": described(sets[1])}
    summary = {
        "kind": "leakage",
        "domain": domain,
        "embedded_world": domain.startswith("phantom-"),
        "settings": {"phash_threshold": threshold, "ssim_size": ssim_size},
        "failures": failure_list(errors),
        "provenance": provenance("leakage", PACKAGES, named),
        **found.figures,
        "verdict": leakage_verdict(found.figures),
    }
    summary["provenance"]["origin"] = origin.as_dict()
    return FolderResult(
        "leakage",
        summary,
        summary["verdict"],
        {"pairs": found.pairs, "patients": found.patients},
        (partial(_write_report, found, summary),),
        errors,
        notes=(
            *(note for one in sets for note in one.notes),
            *differing_in_a_point("patient", *(one.rows["patient"] for one in sets)),
        ),
        folder=folder,
        closing="Report: {folder}/report.html",
    )


def _write_report(found: Leakage, summary: Mapping[str, Any], folder: Path) -> None:
    from cas_metric.report.leakage import shared_of, write_leakage_report

    write_leakage_report(shared_of(found, summary), folder)
