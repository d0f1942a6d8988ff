"""How different are the samples of one prompt, and the images of one class?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cas_metric.errors import ImageError, InputError
from cas_metric.verbs.features import Running, choose_encoder, embed, is_phantom
from cas_metric.verbs.progress import Progress, counting
from cas_metric.verbs.result import Result, require_free
from cas_metric.verbs.text import failures_line

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from cas_metric.encoders import Encoder
    from cas_metric.manifest import Manifest
    from cas_metric.manifest.sources import Source


def diversity(
    generated: Source,
    real: Source | None = None,
    *,
    lpips: bool = True,
    backbone: str | Path | None = None,
    embeddings: bool = True,
    encoder: str | None = None,
    offline: bool = False,
    device: str = "auto",
    running: Running | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Result:
    """Measure LPIPS within prompts and the spread of embeddings within classes.

    Args:
        generated: Images of one or several methods, several samples a prompt.
        real: Real images, whose spread stands beside that of each class at equal numbers.
        lpips: Take LPIPS over all pairs of the samples of a prompt, or of a reference.
        backbone: Safetensors file of AlexNet for LPIPS; None takes torchvision's own copy.
        embeddings: Take mean cosine distance and Vendi score of each class.
        encoder: Space of the embeddings. Default: DINOv2, or its phantom for phantom images.
        offline: Never use the network.
        device: ``auto`` or a torch device.
        running: Cache, batches and threads.
        out: Where it is to be saved: refused before anything is computed, if another result lies
            there.
        progress: Told how many prompts, then how many images are done.

    Returns:
        ``summary`` with ``lpips`` and ``embeddings``, each by method.

    Raises:
        InputError: Nothing to measure, or no prompt with two samples.
        ModelUnavailable: Weights that cannot be had.

    Examples:
        >>> import cas_metric
        >>> found = cas_metric.diversity("demo/generated/faithful", "demo/real/test", lpips=False)
        >>> entry = found.summary["embeddings"]["faithful"]["Pneumonia"]
        >>> entry["n"] >= entry["vendi_score"] >= 1
        True
    """
    from cas_metric.manifest.sources import as_manifest
    from cas_metric.runs.folder import Origin
    from cas_metric.scoring.inputs import select
    from cas_metric.scoring.labels import same_labels

    origin = Origin.of_verb("diversity", {"generated": generated, "real": real}, encoder=encoder)
    require_free(out, "diversity", origin)
    manifest = select(as_manifest(generated, offline=offline), None, None)
    other = as_manifest(real, offline=offline) if real is not None else None
    if not (lpips or embeddings):
        raise InputError(
            "without LPIPS and without embeddings nothing is left to measure",
            fix="leave out one of --no-lpips and --no-embeddings",
        )
    manifests = same_labels((one for one in (manifest, other) if one is not None), offline=offline)
    manifest, other = manifests[0], manifests[1] if other is not None else None
    summary: dict[str, Any] = {"failures": {}}
    if lpips:
        path = Path(backbone) if backbone is not None else None
        summary["lpips"] = _lpips(manifest, path, offline, summary["failures"], progress)
    if embeddings:
        phantom = next((one for one in manifests if is_phantom(one)), manifest)
        model = choose_encoder(encoder, phantom, device=device, offline=offline)
        summary |= _embeddings(manifest, other, model, running, summary["failures"], progress)
    summary["embedded_world"] = any(is_phantom(one) for one in manifests)
    return Result(
        "diversity",
        summary,
        diversity_markdown(summary),
        failures=summary["failures"],
        warnings=tuple(note for one in manifests for note in one.notes),
        origin=origin,
    )


def prompt_groups(manifest: Manifest) -> dict[tuple[str, str], list[int]]:
    """Rows of each prompt that has several samples: (method, reference or prompt) to row numbers.

    Raises:
        InputError: If no prompt has two samples.
    """
    rows = manifest.rows
    keys = rows["reference"].where(rows["reference"] != "", rows["prompt"])
    groups: dict[tuple[str, str], list[int]] = {}
    for row, (method, key) in enumerate(zip(rows["method"], keys, strict=True)):
        if key:
            groups.setdefault((str(method), str(key)), []).append(row)
    several = {key: members for key, members in groups.items() if len(members) > 1}
    if not several:
        raise InputError(
            "no prompt has two samples, so there is no pair to compare",
            fix="give several rows one prompt or reference (and their own seeds), or --no-lpips",
        )
    return several


def _lpips(
    manifest: Manifest,
    backbone: Path | None,
    offline: bool,
    failures: dict[str, str],
    progress: Progress | None,
) -> dict[str, Any]:
    """LPIPS of every prompt, averaged for each method; unreadable images go to ``failures``."""
    from cas_metric.images import load_image, to_tensor
    from cas_metric.sets.diversity import load_lpips, lpips_of_samples
    from cas_metric.statistics.intervals import mean_interval

    groups = prompt_groups(manifest)
    network = load_lpips(backbone, offline=offline)
    values: dict[str, dict[str, float]] = {}
    told = counting(progress, "prompts")
    for done, ((method, key), members) in enumerate(sorted(groups.items()), start=1):
        samples = {}
        for row in members:
            path = manifest.path(row)
            try:
                samples[path] = to_tensor(load_image(path, window=manifest.window).pixels)
            except ImageError as error:
                failures[str(path)] = error.problem
        if len(samples) > 1:
            _require_one_size(samples, method, key)
            values.setdefault(method, {})[key] = lpips_of_samples([*samples.values()], network)
        if told is not None:
            told(done, len(groups))
    return {
        method: {
            "n_prompts": len(prompts),
            "mean": mean_interval(list(prompts.values()))._asdict(),
            "by_prompt": prompts,
        }
        for method, prompts in values.items()
    }


def _require_one_size(samples: Mapping[Any, Tensor], method: str, key: str) -> None:
    """Refuse samples of one prompt that are of several sizes, and name two of them.

    Raises:
        InputError: They are.
    """
    sizes = {str(path): f"{one.shape[2]} × {one.shape[1]}" for path, one in samples.items()}
    first, *others = sizes
    for other in others:
        if sizes[other] != sizes[first]:
            raise InputError(
                f"the samples of the prompt or reference {key!r} of {method} differ in size: "
                f"{first} has {sizes[first]} pixels, {other} {sizes[other]}",
                fix="generate them at one size, or leave LPIPS out with --no-lpips",
            )


def _embeddings(
    manifest: Manifest,
    real: Manifest | None,
    model: Encoder,
    running: Running | None,
    failures: dict[str, str],
    progress: Progress | None,
) -> dict[str, Any]:
    """Spread of the embeddings of each class; unreadable images go to ``failures``."""
    found = embed(manifest, model, running, progress)
    reference = embed(real, model, running, progress) if real is not None else None
    failures |= found.errors | (reference.errors if reference else {})
    return {
        "encoder": {"name": model.name, "fingerprint": model.fingerprint},
        "pixels": {
            "generated": found.pixels,
            **({"real": reference.pixels} if reference is not None else {}),
        },
        "embeddings": _spread(
            manifest, found.embeddings, real, reference.embeddings if reference else None
        ),
    }


def _spread(
    manifest: Manifest,
    embeddings: np.ndarray,
    real: Manifest | None,
    real_embeddings: np.ndarray | None,
) -> dict[str, Any]:
    from cas_metric.sets.diversity import by_class, size_matched

    labels = manifest.rows["label"].to_numpy(dtype=str)
    methods = manifest.rows["method"].to_numpy(dtype=str)
    found: dict[str, Any] = {}
    for method in sorted(set(methods)):
        chosen = methods == method
        entries = by_class(embeddings[chosen], labels[chosen].tolist())
        found[method] = {label: entry._asdict() for label, entry in entries.items()}
        if real is None or real_embeddings is None:
            continue
        real_labels = real.rows["label"].to_numpy(dtype=str)
        references = by_class(real_embeddings, real_labels.tolist())
        for label in sorted(set(entries) & set(references)):
            ours, theirs = size_matched(
                embeddings[chosen & (labels == label)], real_embeddings[real_labels == label]
            )
            found[method][label] |= {
                "real_pairwise_distance": references[label].pairwise_distance,
                "n_matched": min(entries[label].n, references[label].n),
                "vendi_matched": ours,
                "real_vendi_matched": theirs,
            }
    return found


def _vendi_ratio(entry: dict[str, Any]) -> float:
    """Vendi score over that of as many real images; NaN for one image, whose score is always 1."""
    if entry.get("n_matched", 0) < 2:
        return float("nan")
    return float(entry["vendi_matched"] / entry["real_vendi_matched"])


def diversity_markdown(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    from cas_metric.statistics.tables import PHANTOM_NOTICE, markdown_table, number

    parts = [PHANTOM_NOTICE] if result["embedded_world"] else []
    parts.append("# Diversity")
    if "lpips" in result:
        lines = []
        for method, entry in result["lpips"].items():
            mean = entry["mean"]
            interval = f"[{number(mean['low'])}, {number(mean['high'])}]"
            lines.append([method, str(entry["n_prompts"]), number(mean["estimate"]), interval])
        table = markdown_table(["Method", "prompts", "LPIPS ↑", "95% interval"], lines)
        parts.append(f"## Samples of a prompt\n\n{table}")
    if "embeddings" in result:
        headings = ["Method", "class", "n", "cosine distance", "of real", "Vendi", "Vendi / real"]
        lines = [
            [
                method,
                label,
                str(entry["n"]),
                number(entry["pairwise_distance"]),
                number(entry.get("real_pairwise_distance", float("nan"))),
                number(entry["vendi_score"], 2),
                number(_vendi_ratio(entry), 2),
            ]
            for method, entries in result["embeddings"].items()
            for label, entry in entries.items()
        ]
        table = markdown_table(headings, lines)
        name = result["encoder"]["name"]
        parts.append(f"## Images of a class, in the space of {name}\n\n{table}")
    if result["failures"]:
        parts.append(failures_line(result["failures"]))
    return "\n\n".join(parts) + "\n"
