"""``cas diversity``: LPIPS and embedding diversity of the samples of a prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cas_metric.cli import options as option
from cas_metric.cli.common import CountProgress
from cas_metric.cli.results import finish

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
    from cas_metric.verbs import diversity as verb
    from cas_metric.verbs.features import Running

    with CountProgress("prompts") as progress:
        result = verb.diversity(
            *(generated, real),
            lpips=lpips,
            backbone=backbone,
            embeddings=embeddings,
            encoder=encoder,
            offline=offline,
            device=device,
            running=Running(cache, batch_size, num_workers),
            out=out,
            progress=progress,
        )
    finish(result, out, as_json=as_json)
