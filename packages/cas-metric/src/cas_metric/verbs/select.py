"""The images of a run to train on."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cas_metric import protocol
from cas_metric.errors import CasError, InputError
from cas_metric.verbs.inputs import load_run, run_encoder
from cas_metric.verbs.progress import Progress, counting
from cas_metric.verbs.result import Result, require_free

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from cas_metric.manifest.sources import Source
    from cas_metric.runs import Run
    from cas_metric.selection.rule import Keep

#: The rule where none is given.
KEEP: Final = ("alpha:0.05",)
#: Files of a selection that a person may have in a folder as well.
MANIFEST: Final = ("metadata.csv", "cas.yaml")
IMAGES: Final = "images"
#: How the files of the chosen images come into the folder; no verb follows a symbolic link out.
FILES: Final = ("none", "link", "copy")


def select(
    run: str | Path | Run,
    *,
    keep: Sequence[str] | Keep = KEEP,
    balance: Sequence[str] = (),
    train: Source | None = None,
    labels: str | Path | pd.DataFrame | None = None,
    files: str = "none",
    diversity: bool = True,
    encoder: str | Path | None = None,
    device: str = "auto",
    offline: bool = False,
    cache: str | Path | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Result:
    """Choose the images of a run to train on.

    Args:
        run: Folder of `cas score`, or the run.
        keep: Rules such as ``alpha:0.05``, ``top:0.5`` and ``risk:0.05``; all must be met.
        balance: Columns such as ``label``: every combination keeps as many images as the smallest.
        train: Real images that no chosen one may be a near-copy of.
        labels: Labelled calibration images for ``risk``: a table with ``id`` and ``good`` (1 or 0),
            and ``method`` and ``seed`` where the ids alone are not unique.
        files: ``none`` names the files where they are; ``link`` (hard) and ``copy`` bring them.
        diversity: Tell the diversity before and after, by the encoder of the run.
        encoder: That encoder, where its name does not lead to it.
        device: ``auto`` or a torch device.
        offline: Never use the network.
        cache: Store of embeddings; None takes the user's.
        out: Where it is to be saved: refused before anything is computed, if another result lies
            there.
        progress: Told how many images have been read.

    Returns:
        A result named ``selection`` with the table ``selection`` (every image, whether it is kept,
        and the reason if not); saved, it also writes ``metadata.csv`` of those that are kept, and
        ``cas.yaml``.

    Raises:
        InputError: Rules that cannot be met or read, columns or images that are not there, or
            nothing left.

    Examples:
        >>> import cas_metric
        >>> found = cas_metric.select("demo/run", keep=["top:0.5"])
        >>> found.summary["kept"] < found.summary["images"]
        True
    """
    from cas_metric.runs.folder import Origin
    from cas_metric.selection.files import require_linkable
    from cas_metric.selection.keep import choose, too_small
    from cas_metric.selection.rule import Keep, parse_keep

    if files not in FILES:
        raise InputError(f"files={files!r}", fix=f"one of {', '.join(FILES)}")
    rule = keep if isinstance(keep, Keep) else parse_keep(keep)
    if (rule.risk is None) != (labels is None):
        raise InputError(
            "a risk needs labelled images, and they a risk", fix="give --keep risk:0.1 and --labels"
        )
    ours = load_run(run)
    origin = Origin.of_verb("selection", {"run": ours.path, "train": train, "labels": labels})
    guarded = (*MANIFEST, *([] if files == "none" else [IMAGES]))
    require_free(out, "selection", origin, tables=("selection",), files=guarded)
    rows = ours.rows.reset_index(drop=True)
    if files == "link":
        require_linkable(_paths(ours, rows))
    level, by = _levels(ours)
    threshold = -math.inf
    if rule.risk is not None and labels is not None:
        threshold = _risk(rows, level, labels, rule.risk)
    copies = _copies(ours, rows, train, offline, progress)
    warnings = [] if rule.alpha is None else too_small(ours, rule.alpha)
    table = choose(rows, level, rule, copies=copies, threshold=threshold, balance=balance)
    if not table["kept"].any():
        why, count = _common(table["reason"].value_counts().to_dict())[0]
        raise InputError(
            f"nothing is left: {count} of {len(table)} images: {why}",
            fix="keep more, or look at the run first",
        )
    summary = {
        "run": str(ours.path or "in memory"),
        "by": by,
        "keep": vars(rule),
        "threshold": threshold if math.isfinite(threshold) else None,
        "balance": list(balance),
        "images": len(table),
        "kept": int(table["kept"].sum()),
        "reasons": table.loc[~table["kept"], "reason"].value_counts().to_dict(),
        "classes": _classes(table),
        "embedded_world": bool(ours.summary.get("embedded_world")),
    }
    if diversity:
        summary["diversity"] = _diversity(ours, table, encoder, device, offline, cache)
    return Result(
        *("selection", summary, _markdown(summary), {"selection": table}),
        (partial(_write_images, ours, rows[table["kept"]], summary, files),),
        warnings=(*(ours.summary.get("warnings") or ()), *warnings),
        files=guarded,
        origin=origin,
    )


def _levels(run: Run) -> tuple[np.ndarray, str]:
    """What images are chosen by: alignment of cas-v2, else the rank of CAS among real images."""
    from cas_metric.selection.keep import levels

    calibrated = getattr(run, "calibrated", None)
    if calibrated is not None:
        return calibrated["alignment"].to_numpy(dtype=float), "alignment (cas-v2)"
    if run.floor is None or not run.rows["cas"].notna().any():
        raise InputError(
            "the run has no CAS, or no real images to rank it among",
            fix="score against real images; `missing` in summary.json says what lacks",
        )
    # SFS of a real image with itself is 1: Floor compares it with another one, as is fair.
    table = run.floor
    found = levels(run.rows["cas"], run.rows["label"], table["cas"], table["label"])
    return found, "rank of CAS (cas-v1) among real images of the class"


def _risk(
    rows: pd.DataFrame, level: np.ndarray, labels: str | Path | pd.DataFrame, risk: float
) -> float:
    """The threshold that the labelled images give."""
    import numpy as np

    from cas_metric.selection.keep import KEYS, risk_threshold
    from cas_metric.tables import read_frame

    given = (
        read_frame(Path(labels), "id", "good") if isinstance(labels, str | Path) else labels.copy()
    )
    if not {"id", "good"} <= set(given):
        raise InputError("the labels lack id or good", fix=f"they have {', '.join(given)}")
    keys = [name for name in KEYS if name in given]
    given[keys] = given[keys].astype(str)
    own = rows[keys].astype(str).assign(_level=level)
    if own.duplicated(keys).any():
        raise InputError(
            f"several images of the run have one {' and '.join(keys)}",
            fix="name method and seed in the labels as well",
        )
    if given.duplicated(keys).any():
        raise InputError("an image is labelled twice", fix="keep one of its labels")
    joined = given.merge(own, on=keys, how="left", indicator=True)
    if len(strange := joined[joined["_merge"] != "both"]):
        raise InputError(f"the run has no image {strange['id'].iloc[0]!r}", fix="see per_image.csv")
    good = joined["good"].astype(str).str.strip().str.lower()
    words = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}
    if len(wrong := good[~good.isin(list(words))]):
        raise InputError(f"good is {wrong.iloc[0]!r}", fix="write 1 or 0")
    known = np.isfinite(joined["_level"].to_numpy())
    truth = good.map(words).to_numpy(dtype=bool)
    return risk_threshold(joined["_level"].to_numpy()[known], truth[known], risk)


def _copies(
    run: Run,
    rows: pd.DataFrame,
    train: Source | None,
    offline: bool,
    progress: Progress | None,
) -> dict[int, str]:
    """Position to what an image repeats: another generated image's file, or a training image."""
    import numpy as np

    from cas_metric.copies.phash import nearest
    from cas_metric.manifest.sources import as_manifest
    from cas_metric.runs.run import windows

    paths = _paths(run, rows)
    usable = [k for k in range(len(rows)) if rows["status"][k] != "failed"]
    found, seen = {}, dict[bytes, str]()
    for k in usable:
        content = _content(paths[k])
        if content in seen:
            found[k] = f"the same file as {seen[content]}"
        else:
            seen[content] = str(rows["id"][k])
    if train is None:
        return found
    manifest = as_manifest(train, offline=offline)
    told = counting(progress, "images")
    total = len(usable) + len(manifest)
    words = [
        _words([paths[k] for k in usable], windows(run.summary)[0], told, 0, total),
        _words(manifest.paths(), manifest.window, told, len(usable), total),
    ]
    readable = [[k for k, word in enumerate(part) if word is not None] for part in words]
    if not all(readable):
        return found
    own, theirs = (
        np.array([part[k] for k in places], dtype=np.uint64)
        for part, places in zip(words, readable, strict=True)
    )
    closest = nearest(own, theirs)
    names = manifest.rows["id"].astype(str).tolist()
    for at, distance, other in zip(readable[0], closest.distance, closest.position, strict=True):
        if distance <= protocol.PHASH_THRESHOLD:
            name = names[readable[1][int(other)]]
            found[usable[at]] = f"near-copy of training image {name} (pHash distance {distance})"
    return found


def _content(path: Path) -> bytes:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror}", fix="the images must lie where the run found them"
        ) from error


def _words(
    paths: Sequence[Path], window: Any, told: Progress | None, done: int, total: int
) -> list[Any]:
    """Perceptual hash of each file; None where it cannot be read."""
    from cas_metric.copies.phash import phash
    from cas_metric.images import load_image, to_uint8

    words: list[Any] = []
    for path in paths:
        try:
            words.append(phash(to_uint8(load_image(path, window=window).pixels)))
        except CasError:
            words.append(None)
        if told is not None:
            told(done + len(words), total)
    return words


def _paths(run: Run, rows: pd.DataFrame) -> list[Path]:
    from cas_metric.runs.run import locate, roots

    root = roots(run.summary)[0]
    found = [locate(root, row, "image") for row in rows.to_dict("records")]
    if None in found:
        raise InputError("the run does not say where its images lie", fix="score a folder of them")
    return [path for path in found if path is not None]


def _classes(table: pd.DataFrame) -> dict[str, dict[str, int]]:
    groups = table.groupby("label", sort=True)["kept"]
    return {str(k): {"images": len(part), "kept": int(part.sum())} for k, part in groups}


def _diversity(
    run: Run,
    table: pd.DataFrame,
    encoder: str | Path | None,
    device: str,
    offline: bool,
    cache: str | Path | None,
) -> dict[str, Any]:
    """Effective number of images (Vendi score) before, after, and of as many drawn at random."""
    import numpy as np

    from cas_metric.embedding.cache import EmbeddingCache
    from cas_metric.embedding.passes import embed_image_files
    from cas_metric.runs.run import windows
    from cas_metric.sets.diversity import vendi_score

    model = run_encoder(run, encoder, device, offline)
    paths, window = _paths(run, run.rows), windows(run.summary)[0]
    with EmbeddingCache(cache) as store:
        found = embed_image_files(paths, model, store, windows=[window] * len(paths))
    vectors = found.embeddings.astype(np.float64)
    usable = np.isfinite(vectors).all(axis=1)
    kept = table["kept"].to_numpy() & usable
    rng = np.random.default_rng(protocol.BOOTSTRAP_SEED)
    drawn = [rng.choice(np.flatnonzero(usable), int(kept.sum()), replace=False) for _ in range(5)]
    return {
        "encoder": model.name,
        "before": vendi_score(vectors[usable]),
        "after": vendi_score(vectors[kept]),
        "as_many_at_random": float(np.mean([vendi_score(vectors[places]) for places in drawn])),
    }


def _write_images(
    run: Run, rows: pd.DataFrame, summary: dict[str, Any], files: str, folder: Path
) -> None:
    """``metadata.csv`` and ``cas.yaml``, and the files where they are asked for."""
    from cas_metric.manifest import COLUMNS, FolderConfig, write_folder_config, write_manifest
    from cas_metric.runs.run import domain_of, roots, windows
    from cas_metric.selection.files import bring

    root = roots(run.summary)[0]
    images = rows["image"].astype(str).tolist()
    folder.mkdir(parents=True, exist_ok=True)
    if files != "none":
        images = bring(_paths(run, rows), folder / IMAGES, files)
    kept = rows[[name for name in rows if name in COLUMNS]].assign(image=images)
    if "patient" in kept and not kept["patient"].notna().any():
        kept = kept.drop(columns="patient")
    write_manifest(kept, folder)
    config = FolderConfig(
        domain=domain_of(run.summary) or None,
        root=root.resolve() if files == "none" and root is not None else None,
        window=window.bounds if (window := windows(run.summary)[0]) else None,
        provenance={
            "selected": {name: summary[name] for name in ("by", "keep", "balance", "images")},
            "embedded": summary["embedded_world"],
        },
    )
    write_folder_config(folder, config)


def _markdown(summary: dict[str, Any]) -> str:
    from cas_metric.statistics.rounding import fixed

    lines = [
        "# Selection",
        "",
        f"{summary['kept']} of {summary['images']} images are kept, by {summary['by']}.",
        "",
        "| class | images | kept |",
        "| --- | ---: | ---: |",
        *(f"| {k} | {one['images']} | {one['kept']} |" for k, one in summary["classes"].items()),
    ]
    if summary["reasons"]:
        lines += ["", "| images | refused because |", "| ---: | --- |"]
        lines += [f"| {n} | {why} |" for why, n in _common(summary["reasons"])]
    spread = summary.get("diversity")
    if spread:
        lines += [
            "",
            f"Effective number of images (Vendi score, {spread['encoder']}): "
            f"{fixed(spread['before'], 2)} before, {fixed(spread['after'], 2)} after, "
            f"{fixed(spread['as_many_at_random'], 2)} of as many drawn at random.",
        ]
    if summary["embedded_world"]:
        lines += ["", "Phantom images: drawings, not medical data."]
    return "\n".join(lines) + "\n"


def _common(reasons: dict[str, int], shown: int = 10) -> list[tuple[str, int]]:
    """Reasons by how often they are, near-copies together."""
    merged: dict[str, int] = {}
    for why, count in reasons.items():
        kind = why
        for start in ("near-copy of training image", "the same file as"):
            kind = f"{start} …" if why.startswith(start) else kind
        merged[kind] = merged.get(kind, 0) + count
    return sorted(merged.items(), key=lambda pair: (-pair[1], pair[0]))[:shown]
