"""``craft-trainer canaries``: plant pictures whose memorization can be measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def canaries(
    train: Annotated[Path, typer.Argument(metavar="TRAIN", help="Training images with labels.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write; not there yet.")],
    count: Annotated[int, typer.Option(help="Canaries to plant; as many are kept back.")] = 8,
    repeat: Annotated[int, typer.Option(help="How often each stands in the training set.")] = 4,
    side: Annotated[int, typer.Option(help="Side of the pictures, in pixels.", min=16)] = 512,
    seed: Annotated[int, typer.Option(help="Of the drawings.", min=0)] = 0,
) -> None:
    """Write a training folder with canaries in it, and their twins that are kept back.

    Set `data.train` to the folder, train, draw equally many images of all prompts with
    `craft-trainer generate MODEL OUT/canaries`, and measure what was memorized with
    `cas memorization GEN OUT --canaries OUT/canaries`. The images are linked, not copied, where the
    file system can. A model with canaries is for measuring, never for use.
    """
    from cas_metric.copies.canaries import FOLDER, plant
    from cas_metric.manifest import read_manifest

    written = plant(read_manifest(train), out, count=count, repeat=repeat, side=side, seed=seed)
    typer.echo(f"{count} canaries, {repeat} times each, in {written}; twins in {written / FOLDER}")
