"""``cas fidelity``: FID, KID and precision/recall on any encoder's features."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cas_metric import protocol
from cas_metric.cli import options as option
from cas_metric.cli.common import CountProgress, names
from cas_metric.cli.results import finish

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")

HELP = """
Compare generated with real images as distributions of features.

Every distance stands beside that of real images from other real patients at the same size; a set
is called *farther* only where it lies beyond those. Prints the Fréchet distance (FID, but in the
space of the chosen encoder and on its scale), kernel distances (KID, CMMD), precision, recall,
density and coverage, for every method, class and group of --by. Numbers of different encoders, or
of sets of different sizes, are not comparable. None of them says whether a single image shows what
it should: that is what `cas score` is for.

Example: `cas fidelity gen/ real/ --encoder dinov2 --out fidelity`
"""


@app.command(help=HELP)
def fidelity(
    generated: Annotated[Path, typer.Argument(metavar="GEN", help="Generated images.")],
    real: Annotated[Path, typer.Argument(metavar="REAL", help="Real images.")],
    train: Annotated[
        Path | None,
        typer.Option(
            help="Real images that the generator was trained on: prints AuthPct and the "
            "data-copying test C_T, for which REAL must be unseen.",
            metavar="FOLDER",
        ),
    ] = None,
    method: option.Method = None,
    by: Annotated[
        str | None,
        typer.Option(
            help="Columns whose groups are compared each for itself, e.g. sex,age,site; numbers "
            "are cut at quartiles. Generated images take them from their reference.",
            metavar="COLUMNS",
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Space to compare in: an alias (`cas encoders`), a hub id or a directory; "
            "`inception:FILE` for FID with its published weights; `chexgenbench` for RadDino-FID. "
            "Default: dinov2; phantom-dino for phantom images.",
            metavar="SPEC",
        ),
    ] = None,
    neighbours: Annotated[
        int, typer.Option(min=1, help="k of precision, recall, density and coverage.")
    ] = 5,
    frd: Annotated[
        bool, typer.Option("--frd", help="Also the Fréchet radiomics distance (extra `frd`).")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of blocks, splits and subsets.")] = (
        protocol.BOOTSTRAP_SEED
    ),
    offline: option.Offline = False,
    out: Annotated[
        Path | None, typer.Option(help="Directory for fidelity.json, .md and .csv.")
    ] = None,
    as_json: option.Json = False,
    device: option.Device = "auto",
    batch_size: option.BatchSize = None,
    num_workers: option.NumWorkers = None,
    cache: option.Cache = None,
) -> None:
    """Compare distributions; the help text is :data:`HELP`."""
    from cas_metric.verbs import fidelity as verb
    from cas_metric.verbs.features import Running

    with CountProgress("images") as progress:
        result = verb.fidelity(
            *(generated, real),
            train=train,
            method=method,
            by=names(by),
            encoder=encoder,
            neighbours=neighbours,
            frd=frd,
            seed=seed,
            offline=offline,
            device=device,
            running=Running(cache, batch_size, num_workers),
            out=out,
            progress=progress,
        )
    finish(result, out, as_json=as_json)
