"""``cas datasets shots``: a few training images a class, from any prepared split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cas_metric.cli.common import emit_json


def shots(
    train: Annotated[Path, typer.Argument(help="Training split: folder or table.")],
    number: Annotated[int, typer.Option("--shots", min=1, help="Images a class.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the smaller split.")],
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seeds the draw.")] = 42,
    as_json: Annotated[bool, typer.Option("--json", help="Results as JSON on stdout.")] = False,
) -> None:
    """Keep a few training images of each class (Appendix F).

    Writes a metadata.csv and a cas.yaml into OUT; the images stay where they are. With one seed,
    fewer shots are a part of more.

    Example: cas datasets shots data/train --shots 10 --out data/train-10shot
    """
    import numpy as np

    from cas_metric.datasets.splits import few_shot
    from cas_metric.errors import InputError
    from cas_metric.manifest import (
        FolderConfig,
        read_manifest,
        write_folder_config,
        write_manifest,
    )

    manifest = read_manifest(train)
    labels = list(manifest.rows["label"])
    if "" in labels:
        raise InputError(f"{train}: a row has no label", fix="label every row")
    kept = few_shot(np.arange(len(manifest)), labels, number, seed)
    if out.resolve() in (
        manifest.root.resolve(),
        (train if train.is_dir() else train.parent).resolve(),
    ):
        raise InputError(
            f"{out} is the folder of the images themselves or of their table, whose cas.yaml "
            "would be replaced",
            fix="give another --out",
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{out} cannot be made: {error.strerror}", fix="give another --out"
        ) from None
    config = manifest.config or FolderConfig()
    provenance = {**config.provenance, "shots": number, "shots_seed": seed, "of": str(train)}
    changes = {"root": manifest.root.resolve(), "train": None, "provenance": provenance}
    write_folder_config(out, config.model_copy(update=changes))
    write_manifest(manifest.rows.iloc[kept], out)
    result = {"out": str(out), "images": len(kept), "classes": len(set(labels)), "seed": seed}
    if as_json:
        emit_json(result)
    else:
        typer.echo(f"{out}: {len(kept)} images of {result['classes']} classes")
