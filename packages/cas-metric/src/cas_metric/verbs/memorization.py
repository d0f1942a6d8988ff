"""Are generated images copies of training images?"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cas_metric import protocol
from cas_metric.errors import CasError, InputError, ModelUnavailable
from cas_metric.files import write_bytes
from cas_metric.verbs.inputs import domain_of, domain_title, failure_list, short_name
from cas_metric.verbs.progress import Progress, counting, taking_turns
from cas_metric.verbs.result import FolderResult

if TYPE_CHECKING:
    import pandas as pd

    from cas_metric.copies.aligned import Calibration
    from cas_metric.copies.analysis import Analysis, Settings
    from cas_metric.copies.pictures import Pictures
    from cas_metric.copies.suspects import Features
    from cas_metric.manifest import Manifest
    from cas_metric.manifest.sources import Source

#: Packages that decide the bits of a result.
PACKAGES: Final = (
    "cas-metric", "imagehash", "numba", "numpy", "opencv-python-headless", "pillow", "scipy",
    "torch",
)  # fmt: skip


class _Sets(NamedTuple):
    """The manifests."""

    generated: Manifest
    train: Manifest
    test: Manifest | None


class _Space(NamedTuple):
    """Embeddings of the sets, whose they are, and what could not be embedded."""

    features: Features
    encoder: dict[str, str]
    errors: dict[str, str]


def memorization(
    generated: Source,
    train: Source,
    test: Source | None = None,
    *,
    canaries: Source | None = None,
    method: str | None = None,
    seed: int | None = None,
    features: bool | None = None,
    encoder: str | None = None,
    geometry: bool = True,
    ssim: bool = True,
    ssim_size: int = protocol.SSIM_SIZE,
    count_only: bool = False,
    verify: bool = False,
    variants: str | None = None,
    faiss: bool = False,
    offline: bool = False,
    device: str = "auto",
    batch_size: int | None = None,
    num_workers: int | None = None,
    cache: str | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> FolderResult:
    """Compare every generated image with every training image, by five detectors.

    Three are those of Appendix M; one aligns the images first, one counts points that match.

    Args:
        generated: Generated images, of any number of methods; as
            :func:`~cas_metric.manifest.sources.as_manifest` takes them.
        train: Images that the generator was trained on.
        test: Real images that it has not seen, which distances to training images are held against.
        canaries: Pictures that were planted among the training images, and twins that were kept
            back, as ``craft-trainer canaries`` writes them: how far the planted ones stand out.
        method: Only images of this method.
        seed: Only images of this generation seed.
        features: Search in feature space. None does where the default encoder can be had, and
            warns where it cannot.
        encoder: Feature space; by default ``dinov2``, ``phantom-dino`` for phantom images.
        geometry: Look for altered copies: cropped, shifted, rotated, mirrored, inverted, pasted in.
        ssim: Compare by structural similarity.
        ssim_size: Side of the grey square that it is taken on.
        count_only: Count the pairs above the SSIM threshold without the maximum below it.
        verify: Evaluate every pair as well, without pruning, and compare the answers.
        variants: Variants to hash too: ``none``, ``all``, or some of ``mirror``, ``rotate90`` and
            ``invert`` separated by commas. None hashes those that the domain pack of the images
            names as its symmetries.
        faiss: Let FAISS find the nearest images; needs the extra faiss.
        offline: Never use the network.
        device: ``auto`` or a torch device.
        batch_size: Images in one forward pass.
        num_workers: Threads that read and decode.
        cache: Directory of the embedding cache, or ``none``.
        out: Where it is to be saved: refused before anything is computed, if another result lies
            there.
        progress: Told how far the work is.

    Returns:
        One row a generated image (``per_image``), the ``pairs`` to look at, and in the summary the
        figures of Tables 17 and 18 with a verdict. Saved by default into ``memorization/NAME``.

    Raises:
        InputError: Wrong sources or settings, or no image can be read.
        ModelUnavailable: The encoder that was named cannot be had.
        CasError: ``verify``, and the two answers differ.

    Examples:
        >>> import cas_metric
        >>> found = cas_metric.memorization(
        ...     "demo/generated", "demo/real/train", features=False, method="faithful"
        ... )
        >>> found.summary["methods"][0]["either"]
        0
    """
    from cas_metric.copies.analysis import Settings, analyse
    from cas_metric.copies.canaries import measure
    from cas_metric.copies.extraction import extraction
    from cas_metric.copies.pictures import read_pictures
    from cas_metric.copies.ssim_search import Search
    from cas_metric.copies.verdict import overlap_warnings
    from cas_metric.manifest.sources import as_manifest
    from cas_metric.runs.folder import Origin, result_folder
    from cas_metric.scoring.inputs import select
    from cas_metric.scoring.labels import same_labels
    from cas_metric.verbs.memorization_text import memorization_markdown

    if count_only and verify:
        raise InputError("--count-only and --verify ask for different things", fix="give one")
    place = _ssim_device(device)  # a device that is not there shows before hours of reading
    read_set = partial(as_manifest, offline=offline)
    ours, theirs, *unseen = same_labels(
        [
            select(read_set(generated), method, seed),
            *map(read_set, (train, test) if test is not None else (train,)),
        ],
        offline=offline,
    )
    sets = _Sets(ours, theirs, unseen[0] if unseen else None)
    planted = as_manifest(canaries, offline=offline) if canaries is not None else None
    if planted is not None and not geometry:
        raise InputError("canaries are looked for by alignment", fix="leave --no-geometry out")
    given = {"generated": generated, "train": train, "test": test, "canaries": canaries}
    origin = Origin.of_verb("memorization", given, method=method, seed=seed)
    default = Path("memorization") / short_name(generated, sets.generated)
    folder = result_folder(out, default, origin)
    warnings: list[str] = []
    if variants is None:
        variants = _symmetries(sets, warnings, offline)
    running = {"cache": cache, "batch_size": batch_size, "num_workers": num_workers}
    space: _Space | None = None
    if features is not False:
        try:
            space = _embed(
                sets, encoder, device=device, offline=offline, running=running, progress=progress
            )
        except ModelUnavailable as error:
            if features or encoder:
                raise
            warnings.append(f"no search in feature space: {error.problem}")
    counting(progress, "images")
    read = partial(
        read_pictures, size=ssim_size, variants=variants, keypoints=geometry,
        num_workers=num_workers, progress=progress,
    )  # fmt: skip
    pictures = tuple(read(one) for one in sets if one is not None)
    warnings += overlap_warnings(*(one.digests for one in pictures))
    on_pairs, on_aligned = taking_turns(progress, "pairs", "images aligned")
    search = Search(maximum=not count_only, device=place, progress=on_pairs)
    settings = Settings(search if ssim else None, ssim_size, variants, faiss)
    analysis = analyse(
        *(sets.generated, sets.train, (pictures[0], pictures[1])),
        test=sets.test,
        test_pictures=pictures[2] if len(pictures) > 2 else None,
        features=space.features if space else None,
        settings=settings,
        progress=on_aligned,
    )
    if analysis.left_out:
        warnings.append(
            f"{analysis.left_out:,} flagged pairs are not listed: the pairs are the nearest ones, "
            "the rows count all"
        )
    text = []
    if verify and ssim:
        _verify(analysis, pictures, search)
        text.append("verified: the pruned answer equals the full one\n")
    errors = {
        **(space.errors if space else {}),
        **{path: why for one in pictures for path, why in one.errors.items()},
    }
    summary = _summary(
        analysis, sets, settings, errors=errors, n_train=len(pictures[1]),
        encoder=space.encoder if space else None,
    )  # fmt: skip
    summary["provenance"]["origin"] = origin.as_dict()
    tables = {"per_image": analysis.rows, "pairs": analysis.pairs}
    summary["extraction"], tables["prompts"] = extraction(
        sets.generated, pictures[0], analysis.rows
    )
    if planted is not None:
        summary["canaries"], tables["canaries"] = measure(
            planted, sets.generated, (read(planted), pictures[0])
        )
    return FolderResult(
        "memorization",
        summary,
        "\n".join([*text, memorization_markdown(summary)]),
        tables,
        (partial(_write_rows, analysis.rows), partial(_write_report, analysis, summary, tables)),
        errors,
        tuple(warnings),
        notes=tuple(note for one in sets if one is not None for note in one.notes),
        folder=folder,
        closing="Report: {folder}/report.html",
    )


def _symmetries(sets: _Sets, warnings: list[str], offline: bool) -> str:
    """The symmetries that the domain pack names, as a choice of variants."""
    from cas_metric.domains import load_domain

    domain = domain_of(sets.train, sets.generated, sets.test)
    try:
        pack = load_domain(domain, offline=offline) if domain else None
        return ",".join(pack.symmetries if pack else ()) or "none"
    except InputError as error:  # nothing else here needs the pack
        warnings.append(f"no variants are hashed: {error.problem}")
        return "none"


def _ssim_device(device: str) -> str:
    """A CUDA device where one is named or found, else ``cpu``, whose loop is compiled.

    Raises:
        InputError: There is no such device.
    """
    from cas_metric.encoders.devices import resolve_device

    chosen = resolve_device(device)
    return str(chosen) if chosen.type == "cuda" else "cpu"


def _embed(
    sets: _Sets,
    spec: str | None,
    *,
    device: str,
    offline: bool,
    running: Mapping[str, Any],
    progress: Progress | None,
) -> _Space:
    """Embeddings of all sets; the encoder and what could not be embedded."""
    from cas_metric.copies.suspects import Features
    from cas_metric.verbs.features import Running, choose_encoder, embed, is_phantom

    phantom = next((one for one in sets if one is not None and is_phantom(one)), sets.train)
    model = choose_encoder(spec, phantom, device=device, offline=offline)
    parts = [embed(one, model, Running(**running), progress) for one in sets if one is not None]
    identity = {"name": model.name, "revision": model.revision, "fingerprint": model.fingerprint}
    errors = {path: why for part in parts for path, why in part.errors.items()}
    return _Space(Features(*(part.embeddings for part in parts)), identity, errors)


def _verify(analysis: Analysis, pictures: tuple[Pictures, ...], search: Any) -> None:
    """Evaluate all pairs without pruning and compare.

    Raises:
        CasError: The answers differ.
    """
    import numpy as np

    from cas_metric.copies.ssim_search import nearest

    full = nearest(
        pictures[0].grey, pictures[1].grey, dataclasses.replace(search, prune=False, progress=None)
    )
    rows = analysis.rows.iloc[pictures[0].rows]
    counts = np.where(pictures[0].blank, 0, full.counts)
    if not (
        np.array_equal(rows["ssim"].to_numpy(dtype=float), full.value)
        and np.array_equal(rows["ssim_above"].to_numpy(dtype=float), counts)
    ):
        raise CasError("the pruned SSIM search and the full one disagree", fix="report this")


def _summary(
    analysis: Analysis,
    sets: _Sets,
    settings: Settings,
    *,
    errors: Mapping[str, str],
    n_train: int,
    encoder: Mapping[str, str] | None,
) -> dict[str, Any]:
    """Content of ``summary.json``."""
    import numpy as np

    from cas_metric.copies.verdict import memorization_verdict
    from cas_metric.runs.provenance import described, provenance

    domain = domain_title(domain_of(sets.train, sets.generated, sets.test))
    named = {name: described(one) for name, one in sets._asdict().items() if one is not None}
    summary: dict[str, Any] = {
        "kind": "memorization",
        "domain": domain,
        "embedded_world": domain.startswith("phantom-"),
        "settings": {
            "ssim_size": settings.size,
            "ssim_grey": "Rec. 601 luma, resized by an antialiasing triangle filter, 0 to 255",
            "ssim_threshold": protocol.SSIM_THRESHOLD,
            "ssim": settings.search is not None,
            "phash_threshold": protocol.PHASH_THRESHOLD,
            "phash_variants": settings.variants,
        },
        "failures": failure_list(errors),
        "provenance": provenance("memorization", PACKAGES, named),
        "encoder": dict(encoder) if encoder else None,
        "n_train": n_train,
        "methods": analysis.methods,
        "verdict": memorization_verdict(
            analysis.methods, n_train, encoder["name"] if encoder else ""
        ),
    }
    if analysis.calibration is not None:
        summary["aligned"] = _calibrated(analysis.calibration)
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


def _calibrated(calibration: Calibration) -> dict[str, Any]:
    """What real images gave when aligned, and the thresholds that follow."""
    whole, part = calibration.thresholds
    return {
        "against": calibration.against,
        "real_images": len(calibration.whole),
        "threshold_whole": whole,
        "threshold_part": part,
        "real_above": int((calibration.scores() > 1).sum()),
    }


def _write_rows(rows: pd.DataFrame, folder: Path) -> None:
    buffer = io.BytesIO()
    rows.to_parquet(buffer, index=False)
    write_bytes(folder / "per_image.parquet", buffer.getvalue())


def _write_report(
    analysis: Analysis,
    summary: Mapping[str, Any],
    tables: Mapping[str, pd.DataFrame],
    folder: Path,
) -> None:
    from cas_metric.report.memorization import findings_of, write_memorization_report

    write_memorization_report(findings_of(analysis, summary, tables), folder)
