"""``cas datasets phantom``: draw a data set of phantoms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cas_metric.cli.common import emit_json, progress


def phantom(
    domain: Annotated[
        str, typer.Argument(help="chexpert, fitzpatrick17k, breakhis or origa.", metavar="DOMAIN")
    ],
    out: Annotated[Path, typer.Argument(help="Folder that gets train/ and test/.", metavar="OUT")],
    train: Annotated[
        int | None, typer.Option(min=1, help="Training images. Default: as many as in the paper.")
    ] = None,
    test: Annotated[
        int | None, typer.Option(min=1, help="Test images. Default: as many as in the paper.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other phantoms.")] = 0,
    size: Annotated[int, typer.Option(min=16, max=2048, help="Side of the images in pixels.")] = 64,
    balanced: Annotated[
        bool, typer.Option("--balanced", help="Uniform classes, not the paper's proportions.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Results as JSON.")] = False,
) -> None:
    """Draw a data set of phantoms: pictures of which the truth is known, never medical data.

    OUT/train and OUT/test each get images/, a metadata.csv (file_name, id, label, prompt,
    patient), a cas.yaml that makes them complete for cas score, and specs.jsonl, the truth about
    every image. Classes occur in the proportions of the paper's Tables 19-22. The same arguments
    give the same files, and a folder that is complete is left as it is.

    Example: cas datasets phantom chexpert phantoms/ --train 495 --test 495 --seed 0
    """
    from cas_metric.phantoms import canonical_domain
    from cas_metric.phantoms.dataset import class_counts, paper_size, write_phantom_dataset

    domain = canonical_domain(domain)
    totals = {
        "train": paper_size(domain, "train") if train is None else train,
        "test": paper_size(domain, "test") if test is None else test,
    }
    with progress() as bar:
        task = bar.add_task(domain, total=sum(totals.values()), rate="")
        folders = write_phantom_dataset(
            domain,
            out,
            **totals,
            seed=seed,
            size=size,
            balanced=balanced,
            advance=lambda: bar.advance(task),
        )
    counts = {
        split: class_counts(domain, totals[split], split, balanced=balanced) for split in folders
    }
    if json_output:
        paths = {split: str(folder) for split, folder in folders.items()}
        emit_json({"domain": domain, "seed": seed, "size": size, "splits": paths, "counts": counts})
        return
    for split, folder in folders.items():
        listed = ", ".join(f"{count} {label}" for label, count in counts[split].items())
        typer.echo(f"{folder}: {totals[split]} images ({listed})")
