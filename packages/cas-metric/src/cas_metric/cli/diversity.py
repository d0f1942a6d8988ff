"""``cas diversity``: LPIPS and embedding diversity of the samples of a prompt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cas_metric.cli import options as option
from cas_metric.cli.common import CountProgress
from cas_metric.cli.results import deliver
from cas_metric.errors import EXIT_SOME_FAILED, ImageError, InputError

if TYPE_CHECKING:
    import numpy as np

    from cas_metric.cli.features import Running
    from cas_metric.encoders import Encoder
    from cas_metric.manifest import Manifest

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


HELP = """
Measure how different the samples of one prompt, and the images of one class, are.

LPIPS is taken over all pairs of the samples that share a prompt (or, where rows name one, a
reference), and averaged over prompts with an interval that resamples prompts. The spread of
embeddings (mean cosine distance, Vendi score) needs no LPIPS weights; with --real it is
compared with real images of the class at equal numbers.

Example: `cas diversity samples/ --real real/ --backbone alexnet.safetensors`
"""


@app.command(help=HELP)
def diversity(
    generated: Annotated[
        Path, typer.Argument(metavar="GEN", help="Generated images, several samples a prompt.")
    ],
    real: Annotated[
        Path | None, typer.Option(help="Real images, to compare the spread of each class with.")
    ] = None,
    lpips: Annotated[
        bool, typer.Option("--lpips/--no-lpips", help="LPIPS over the samples of each prompt.")
    ] = True,
    backbone: Annotated[
        Path | None,
        typer.Option(
            help="Safetensors file of torchvision's AlexNet weights for LPIPS; by default "
            "torchvision's own copy, downloaded on first use."
        ),
    ] = None,
    embeddings: Annotated[
        bool,
        typer.Option("--embeddings/--no-embeddings", help="Spread of each class's embeddings."),
    ] = True,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Space of the embeddings: an alias (`cas encoders`), a hub id or a directory. "
            "Default: dinov2; phantom-dino for phantom images.",
            metavar="SPEC",
        ),
    ] = None,
    offline: option.Offline = False,
    out: Annotated[Path | None, typer.Option(help="Directory for diversity.json and .md.")] = None,
    as_json: option.Json = False,
    device: option.Device = "auto",
    batch_size: option.BatchSize = None,
    num_workers: option.NumWorkers = None,
    cache: option.Cache = None,
) -> None:
    """Measure diversity; the help text is :data:`HELP`."""
    from cas_metric.cli.features import is_phantom
    from cas_metric.manifest import read_manifest

    manifest = read_manifest(generated)
    other = read_manifest(real) if real is not None else None
    if not (lpips or embeddings):
        raise InputError("--no-lpips with --no-embeddings leaves nothing to measure")
    result: dict[str, Any] = {"failures": {}}
    if lpips:
        result["lpips"] = _lpips(manifest, backbone, offline, result["failures"])
    if embeddings:
        from cas_metric.cli.features import Running, choose_encoder

        model = choose_encoder(encoder, manifest, device=device, offline=offline)
        running = Running(cache, batch_size, num_workers)
        result |= _embeddings(manifest, other, model, running, result["failures"])
    result["embedded_world"] = any(is_phantom(one) for one in (manifest, other) if one)
    deliver(result, _markdown(result), out=out, name="diversity", as_json=as_json)
    if result["failures"]:
        raise typer.Exit(EXIT_SOME_FAILED)


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
    manifest: Manifest, backbone: Path | None, offline: bool, failures: dict[str, str]
) -> dict[str, Any]:
    """LPIPS of every prompt, averaged for each method; unreadable images go to ``failures``."""
    from cas_metric.images import load_image, to_tensor
    from cas_metric.sets.diversity import load_lpips, lpips_of_samples
    from cas_metric.statistics.uncertainty import bootstrap_mean

    groups = prompt_groups(manifest)
    network = load_lpips(backbone, offline=offline)
    values: dict[str, dict[str, float]] = {}
    with CountProgress("prompts") as bar:
        for done, ((method, key), members) in enumerate(sorted(groups.items()), start=1):
            samples = []
            for row in members:
                path = manifest.path(row)
                try:
                    samples.append(to_tensor(load_image(path, window=manifest.window).pixels))
                except ImageError as error:
                    failures[str(path)] = error.problem
            if len(samples) > 1:
                values.setdefault(method, {})[key] = lpips_of_samples(samples, network)
            bar(done, len(groups))
    return {
        method: {
            "n_prompts": len(prompts),
            "mean": bootstrap_mean(list(prompts.values()))._asdict(),
            "by_prompt": prompts,
        }
        for method, prompts in values.items()
    }


def _embeddings(
    manifest: Manifest,
    real: Manifest | None,
    model: Encoder,
    running: Running,
    failures: dict[str, str],
) -> dict[str, Any]:
    """Spread of the embeddings of each class; unreadable images go to ``failures``."""
    from cas_metric.cli.features import embed

    found = embed(manifest, model, running)
    reference = embed(real, model, running) if real is not None else None
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
                "vendi_matched": ours,
                "real_vendi_matched": theirs,
            }
    return found


def _markdown(result: dict[str, Any]) -> str:
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
                number(
                    entry["vendi_matched"] / entry["real_vendi_matched"]
                    if "vendi_matched" in entry
                    else float("nan"),
                    2,
                ),
            ]
            for method, entries in result["embeddings"].items()
            for label, entry in entries.items()
        ]
        table = markdown_table(headings, lines)
        name = result["encoder"]["name"]
        parts.append(f"## Images of a class, in the space of {name}\n\n{table}")
    if result["failures"]:
        parts.append(f"{len(result['failures'])} images could not be read and were left out.")
    return "\n\n".join(parts) + "\n"
