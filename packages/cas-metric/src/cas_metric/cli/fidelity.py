"""``cas fidelity``: FID, KID and precision/recall on any encoder's features."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cas_metric import protocol
from cas_metric.cli import options as option
from cas_metric.cli.results import deliver
from cas_metric.errors import EXIT_SOME_FAILED

if TYPE_CHECKING:
    import numpy as np

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command()
def fidelity(
    generated: Annotated[Path, typer.Argument(metavar="GEN", help="Generated images.")],
    real: Annotated[Path, typer.Argument(metavar="REAL", help="Real images.")],
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Space to compare in: an alias (`cas encoders`), a hub id or a directory. "
            "Default: dinov2; phantom-dino for phantom images.",
            metavar="SPEC",
        ),
    ] = None,
    neighbours: Annotated[
        int, typer.Option(min=1, help="k of precision, recall, density and coverage.")
    ] = 5,
    seed: Annotated[int, typer.Option(help="Seed of the subsets of KID.")] = (
        protocol.BOOTSTRAP_SEED
    ),
    offline: option.Offline = False,
    out: Annotated[Path | None, typer.Option(help="Directory for fidelity.json and .md.")] = None,
    as_json: option.Json = False,
    device: option.Device = "auto",
    batch_size: option.BatchSize = None,
    num_workers: option.NumWorkers = None,
    cache: option.Cache = None,
) -> None:
    """Compare generated with real images as distributions of features.

    Prints the Fréchet distance (FID, but in the space of the chosen encoder and on its scale), the
    kernel distance (KID), precision, recall, density and coverage, for all images and for each
    class, beside a real-against-real floor: the same of two random halves of REAL. Numbers of
    different encoders, or of sets of different sizes, are not comparable. None of them says
    whether a single image shows what it should: that is what `cas score` is for.

    Example: `cas fidelity gen/ real/ --encoder dinov2 --out fidelity`
    """
    from cas_metric.cli.features import Running, choose_encoder, embed, is_phantom
    from cas_metric.manifest import read_manifest

    manifests = read_manifest(generated), read_manifest(real)
    model = choose_encoder(encoder, manifests[1], device=device, offline=offline)
    running = Running(cache, batch_size, num_workers)
    sets = [embed(manifest, model, running) for manifest in manifests]
    labels = [manifest.rows["label"].to_numpy(dtype=str) for manifest in manifests]
    result = measure(
        sets[0].embeddings, sets[1].embeddings, labels[0], labels[1], k=neighbours, seed=seed
    )
    result["encoder"] = {"name": model.name, "fingerprint": model.fingerprint}
    result["failures"] = {**sets[0].errors, **sets[1].errors}
    result["pixels"] = {"generated": sets[0].pixels, "real": sets[1].pixels}
    result["embedded_world"] = is_phantom(manifests[1])
    deliver(result, _markdown(result), out=out, name="fidelity", as_json=as_json)
    if result["failures"]:
        raise typer.Exit(EXIT_SOME_FAILED)


def measure(
    generated: np.ndarray,
    real: np.ndarray,
    generated_labels: np.ndarray,
    real_labels: np.ndarray,
    *,
    k: int,
    seed: int,
) -> dict[str, Any]:
    """All distances, over everything and by class, with the floor and the warnings.

    Args:
        generated: ``(N, D)`` features; NaN rows are left out.
        real: ``(M, D)``.
        generated_labels: ``(N,)``.
        real_labels: ``(M,)``.
        k: Neighbours.
        seed: Seed of subsets and halves.
    """
    import numpy as np

    from cas_metric.sets.fidelity import small_sample_warnings

    kept = [np.isfinite(rows).all(axis=1) for rows in (generated, real)]
    generated, real = generated[kept[0]], real[kept[1]]
    generated_labels, real_labels = generated_labels[kept[0]], real_labels[kept[1]]
    halves = np.array_split(np.random.default_rng(seed).permutation(len(real)), 2)
    result: dict[str, Any] = {
        **_sizes(generated, real),
        "dimensions": generated.shape[1],
        "neighbours": k,
        "all": {**_sizes(generated, real), **_distances(generated, real, k, seed)},
        "by_class": {},
        "warnings": small_sample_warnings(len(generated), len(real), generated.shape[1]),
    }
    if min(map(len, halves)) > k:
        pair = real[halves[0]], real[halves[1]]
        result["floor"] = {**_sizes(*pair), **_distances(*pair, k, seed)}
    for label in np.unique(generated_labels):
        pair = generated[generated_labels == label], real[real_labels == label]
        if label and min(map(len, pair)) > k:
            result["by_class"][str(label)] = {**_sizes(*pair), **_distances(*pair, k, seed)}
    return result


def _sizes(generated: np.ndarray, real: np.ndarray) -> dict[str, int]:
    return {"n_generated": len(generated), "n_real": len(real)}


def _distances(generated: np.ndarray, real: np.ndarray, k: int, seed: int) -> dict[str, Any]:
    from cas_metric.sets.fidelity import frechet_distance, kernel_distance, manifolds

    return {
        "frechet_distance": frechet_distance(generated, real),
        "kernel_distance": kernel_distance(generated, real, seed=seed)._asdict(),
        **manifolds(generated, real, k=k)._asdict(),
    }


def _markdown(result: dict[str, Any]) -> str:
    from cas_metric.statistics.tables import PHANTOM_NOTICE, markdown_table, number

    entries = {"all images": result["all"], **result["by_class"]}
    if "floor" in result:
        entries = {"real halves (floor)": result["floor"], **entries}
    lines = [
        [
            name,
            f"{entry['n_generated']} / {entry['n_real']}",
            number(entry["frechet_distance"], 4),
            _kernel(entry["kernel_distance"]),
            *(number(entry[key]) for key in ("precision", "recall", "density", "coverage")),
        ]
        for name, entry in entries.items()
    ]
    headings = ["", "images / real", "Fréchet ↓", "kernel ↓"]
    headings += ["precision ↑", "recall ↑", "density ↑", "coverage ↑"]
    parts = [
        *([PHANTOM_NOTICE] if result["embedded_world"] else []),
        f"# Fidelity\n\n{result['n_generated']} generated and {result['n_real']} real images in "
        f"the space of {result['encoder']['name']} ({result['dimensions']} dimensions), "
        f"{result['neighbours']} neighbours.",
        *(f"**Warning.** {warning}." for warning in result["warnings"]),
        markdown_table(headings, lines),
    ]
    if result["failures"]:
        parts.append(f"{len(result['failures'])} images could not be read and were left out.")
    return "\n\n".join(parts) + "\n"


def _kernel(entry: dict[str, Any]) -> str:
    """Mean and deviation over subsets; the mean alone where there was one subset."""
    from cas_metric.statistics.tables import number

    deviation = number(entry["std"], 5)
    return number(entry["mean"], 5) + (f" ± {deviation}" if deviation != "–" else "")
