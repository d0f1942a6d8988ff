"""How far are generated images from real ones, and real ones from each other?"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cas_metric.errors import InputError
from cas_metric.protocol import BOOTSTRAP_SEED
from cas_metric.verbs.features import Features, Running, choose_encoder, embed, is_phantom
from cas_metric.verbs.progress import Progress, counting
from cas_metric.verbs.result import Result, require_free
from cas_metric.verbs.text import first_few, listed

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from cas_metric.encoders import Encoder
    from cas_metric.manifest import Manifest
    from cas_metric.manifest.sources import Source
    from cas_metric.sets.comparison import ImageSet

#: Share of the classes that may differ by chance with this probability before it is said.
_MIX_LEVEL: Final = 0.001


def fidelity(
    generated: Source,
    real: Source,
    *,
    train: Source | None = None,
    method: str | None = None,
    by: str | Sequence[str] = (),
    encoder: str | None = None,
    neighbours: int = 5,
    frd: bool = False,
    seed: int = BOOTSTRAP_SEED,
    offline: bool = False,
    device: str = "auto",
    running: Running | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Result:
    """Compare generated with real images as distributions of features.

    Every distance stands beside that of real images from other real patients at the same size.

    Args:
        generated: Images of one or several methods.
        real: Real images that no method was trained on, if there are such.
        train: What the methods were trained on, for the two tests of copying.
        method: Only this method of ``generated``, or its name.
        by: Columns whose groups are compared each for itself; a generated image without them takes
            those of its real partner.
        encoder: The space: what :func:`cas_metric.load_encoder` takes, ``inception:FILE`` for FID,
            or ``chexgenbench``. Default: DINOv2, or its phantom for phantom images.
        neighbours: k of precision, recall, density and coverage.
        frd: Also the Fréchet radiomics distance; needs the extra ``frd``.
        seed: Seed of blocks, splits and subsets.
        offline: Never use the network.
        device: ``auto`` or a torch device.
        running: Cache, batches and threads.
        out: Where it is to be saved: refused before anything is computed, if another result lies
            there.
        progress: Told how many images, then how many comparisons are done.

    Returns:
        ``summary`` with ``all``, ``by_class``, ``methods``, ``floor`` (real against real) and
        ``reference``; ``tables["fidelity"]`` with one row a method and scope.

    Raises:
        InputError: No images, or unknown columns. Classes and groups with no more than
            ``neighbours`` images on one side are left out with a warning.
        ModelUnavailable: The encoder cannot be had.

    Examples:
        >>> import cas_metric
        >>> found = cas_metric.fidelity("demo/generated", "demo/real/test")
        >>> sorted(found.summary["methods"])
        ['degraded', 'faithful', 'wrong']
    """
    from cas_metric.manifest.sources import as_manifest
    from cas_metric.runs.folder import Origin
    from cas_metric.scoring.inputs import select
    from cas_metric.scoring.labels import same_labels
    from cas_metric.sets.comparison import compare_sets
    from cas_metric.statistics.aggregate import without_patient
    from cas_metric.verbs.fidelity_text import fidelity_markdown, fidelity_table

    origin = Origin.of_verb(
        "fidelity", {"generated": generated, "real": real, "train": train},
        method=method, encoder=encoder,
    )  # fmt: skip
    require_free(out, "fidelity", origin)
    read = functools.partial(as_manifest, offline=offline)
    manifests = [select(read(generated), method, None), read(real)]
    manifests += [read(train)] if train is not None else []
    manifests = same_labels(manifests, offline=offline)
    model = choose_encoder(encoder, manifests[1], device=device, offline=offline, raw=True)
    found = [embed(one, model, running, progress) for one in manifests]
    groups = _groups(manifests[0], manifests[1], listed(by))
    ours = _image_set(manifests[0], found[0], groups[0], ("patient", "reference"))
    theirs = _image_set(manifests[1], found[1], groups[1], ("patient",))
    names = _finite(manifests[0].rows["method"].to_numpy(dtype=str), found[0])
    methods = {str(name): ours.take(names == name) for name in np.unique(names)}
    entries = compare_sets(
        methods, theirs, k=neighbours, seed=seed, progress=counting(progress, "comparisons")
    )
    summary = _summary(entries, manifests, found, model, neighbours)
    warnings = [
        *_examined(summary, ours, theirs, _sites(manifests[1], found[1]), neighbours, seed),
        *_not_compared(methods, theirs, neighbours),
        *without_patient(manifests[0].rows, "generated images"),
        *without_patient(manifests[1].rows, "real images"),
    ]
    if train is not None:
        summary["copying"] = _copying(methods, theirs, found[2], seed)
    if frd:
        summary["radiomics"] = _radiomics(manifests, found, names, running)
    summary["warnings"] = warnings
    failures = {path: why for one in found for path, why in one.errors.items()}
    summary["failures"] = failures
    return Result(
        "fidelity",
        summary,
        fidelity_markdown(summary),
        {"fidelity": fidelity_table(entries)},
        failures=failures,
        warnings=tuple(note for one in manifests for note in one.notes),
        origin=origin,
    )


def _summary(
    entries: dict[str, dict[str, dict[str, Any]]],
    manifests: Sequence[Manifest],
    found: Sequence[Features],
    model: Encoder,
    k: int,
) -> dict[str, Any]:
    """Plain values; the keys of a single method stand on top as well."""
    from cas_metric.sets.comparison import ALL

    counts = [int(np.isfinite(one.embeddings).all(axis=1).sum()) for one in found]
    first = next(iter(entries.values()))
    pixels = {"generated": found[0].pixels, "real": found[1].pixels}
    return {
        "n_generated": counts[0],
        "n_real": counts[1],
        "dimensions": found[0].embeddings.shape[1],
        "neighbours": k,
        "all": first[ALL] if len(entries) == 1 else {},
        "by_class": _but_all(first) if len(entries) == 1 else {},
        "methods": {
            name: {"all": scopes[ALL], "by_class": _but_all(scopes)}
            for name, scopes in entries.items()
        },
        "floor": _floor(first[ALL]),
        "encoder": {"name": model.name, "fingerprint": model.fingerprint, "raw": True},
        "pixels": pixels,
        "embedded_world": is_phantom(manifests[1]),
    }


def _but_all(scopes: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    from cas_metric.sets.comparison import ALL

    return {scope: entry for scope, entry in scopes.items() if scope != ALL}


def _floor(entry: dict[str, Any]) -> dict[str, Any]:
    """Real patients against other real patients, at the size of the first method's blocks."""
    matched = entry["matched"]
    values = {name: one["real"] for name, one in matched.items() if name != "size"}
    return {"n_generated": matched["size"], "n_real": matched["size"], **values}


def _examined(
    summary: dict[str, Any],
    ours: ImageSet,
    theirs: ImageSet,
    sites: dict[str, NDArray[np.str_]],
    k: int,
    seed: int,
) -> list[str]:
    """What to know before reading the numbers; facts about the reference go into the summary."""
    from cas_metric.sets.fidelity import small_sample_warnings
    from cas_metric.sets.modes import mode_trial
    from cas_metric.sets.reference import examine

    summary["reference"], warnings = examine(theirs, theirs.groups | sites, seed=seed)
    trial = mode_trial(theirs.features, k, clusters=theirs.clusters, seed=seed)
    summary["recall_trial"] = None if trial is None else trial._asdict()
    if trial is not None and not trial.seen:
        warnings.append(
            "recall is not shown: it does not clearly fall in this space when half of the "
            f"modes of the real images are left out ({trial.whole:.3f} to {trial.dropped:.3f})"
        )
    warnings += [
        f"{name}: the images of {scope} lie nearer to real {entry['nearest_class']} than to real "
        f"{scope}"
        for name, scopes in summary["methods"].items()
        for scope, entry in scopes["by_class"].items()
        if entry.get("nearest_class", scope) != scope
    ]
    shared = {*ours.labels} & {*theirs.labels}
    if shared and (p := _mix_p(ours.labels, theirs.labels)) < _MIX_LEVEL:
        scopes = (scope for one in summary["methods"].values() for scope in one["by_class"])
        warnings.append(
            f"the classes are mixed differently in the two sets (p = {p:.2g}): the row of all "
            "images measures that too"
            + (", so read the rows of the classes" if not shared.isdisjoint(scopes) else "")
        )
    dim = summary["dimensions"]
    return small_sample_warnings(len(ours.features), len(theirs.features), dim) + warnings


def _not_compared(methods: dict[str, ImageSet], real: ImageSet, k: int) -> list[str]:
    """Classes and groups that have no row of their own, and why."""
    from cas_metric.sets.comparison import left_out

    theirs = sorted({*real.labels.tolist()} - {""})
    ours = sorted({label for one in methods.values() for label in one.labels.tolist()} - {""})
    apart = ours and theirs and not {*ours} & {*theirs}
    warnings = []
    if apart:
        warnings.append(
            f"generated and real images share no class ({first_few(ours)}; and "
            f"{first_few(theirs)}), so that none is compared for itself"
        )
    small = [
        f"{scope} of {name} ({n} generated, {m} real)"
        for name, scope, n, m in left_out(methods, real, k=k)
        if not (apart and scope in ours)
    ]
    if ours and not theirs:
        return [*warnings, "the real images have no classes, so that none is compared for itself"]
    if small:
        warnings.append(
            f"left out, for {k} neighbours take more than {k} images of both: "
            f"{first_few(small, '; ')}"
        )
    return warnings


def _mix_p(ours: NDArray[np.str_], theirs: NDArray[np.str_]) -> float:
    """Probability of class shares at least as different by chance; 1 where a set has no classes."""
    from scipy.stats import chi2_contingency

    names = sorted({*ours, *theirs})
    counts = np.array([[(side == name).sum() for name in names] for side in (ours, theirs)])
    if len(names) < 2 or "" in names:
        return 1.0
    return float(chi2_contingency(counts).pvalue)


def _copying(
    methods: dict[str, ImageSet], real: ImageSet, train: Features, seed: int
) -> dict[str, Any]:
    """Authenticity and the data-copying test of each method."""
    from cas_metric.sets.copying import authenticity, data_copying

    known = _finite(np.asarray(train.embeddings, dtype=np.float64), train)
    found: dict[str, Any] = {"n_train": len(known)}
    for name, images in methods.items():
        try:
            test = data_copying(images.features, known, real.features, seed=seed)._asdict()
        except InputError as error:
            test = {"c_t": float("nan"), "cells": 0, "why": str(error)}
        found[name] = {"authenticity": authenticity(images.features, known), **test}
    found["real"] = {"authenticity": authenticity(real.features, known)}
    return found


def _radiomics(
    manifests: Sequence[Manifest],
    found: Sequence[Features],
    names: NDArray[np.str_],
    running: Running | None,
) -> dict[str, float]:
    """Fréchet radiomics distance of each method."""
    from cas_metric.sets.radiomics import radiomics_distance

    ours, theirs = (
        _finite(np.array(manifest.paths(), dtype=object), one)
        for manifest, one in zip(manifests[:2], found[:2], strict=True)
    )
    workers = (running.num_workers if running else None) or 1
    return {
        str(name): radiomics_distance(list(ours[names == name]), list(theirs), num_workers=workers)
        for name in np.unique(names)
    }


def _finite(values: NDArray[Any], found: Features) -> NDArray[Any]:
    """What belongs to the images that could be embedded."""
    return values[np.isfinite(found.embeddings).all(axis=1)]


def _image_set(
    manifest: Manifest, found: Features, groups: pd.DataFrame, keys: Sequence[str]
) -> ImageSet:
    """The images that could be embedded; ``keys`` are what may make them dependent."""
    from cas_metric.sets.comparison import ImageSet
    from cas_metric.statistics.aggregate import case_clusters

    rows = manifest.rows
    clusters = case_clusters(rows[list(keys)])
    kept = functools.partial(_finite, found=found)
    return ImageSet(
        kept(np.asarray(found.embeddings, dtype=np.float64)),
        kept(rows["label"].fillna("").to_numpy(dtype=str)),
        kept(clusters),
        {str(name): kept(groups[name].to_numpy(dtype=str)) for name in groups},
    )


def _groups(ours: Manifest, theirs: Manifest, by: Sequence[str]) -> list[pd.DataFrame]:
    """Groups of both sets, cut alike; generated images take those of their partner."""
    import pandas as pd

    from cas_metric.manifest.attributes import attribute_columns
    from cas_metric.manifest.pairing import match
    from cas_metric.statistics.subgroups import attribute_groups

    if not by:
        return [pd.DataFrame(index=one.rows.index) for one in (ours, theirs)]
    own, reference = attribute_columns(ours, theirs, match(ours, theirs).positions, by)
    return [attribute_groups(table, by, reference=reference) for table in (own, reference)]


def _sites(real: Manifest, found: Features) -> dict[str, NDArray[np.str_]]:
    """Columns of the real images that may tell sites apart, and their folders."""
    from cas_metric.sets.reference import SITE_NAMES

    columns = {
        str(name): _finite(real.extra[name].fillna("").to_numpy(dtype=str), found)
        for name in real.extra
        if str(name).strip().lower() in SITE_NAMES
    }
    folders = np.array([image.rpartition("/")[0] for image in real.rows["image"]])
    labels = real.rows["label"].to_numpy(dtype=str)
    if any(len(set(folders[labels == label])) > 1 for label in set(labels)):
        columns["folder"] = _finite(folders, found)  # a folder for each class is no site
    return columns
