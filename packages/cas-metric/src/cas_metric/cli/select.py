"""``cas select``: choose the images of a run to train on, with a reason for every refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cas_metric.cli import options as option
from cas_metric.cli.common import CountProgress
from cas_metric.cli.results import finish

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")

HELP = """
Choose images of RUN and write them as a manifest that every verb reads.

--keep, which may be given several times; every rule must be met:

- **alpha:0.05** (default): refuse images that are less aligned than all but 5% of real images of
  their class.
- **top:0.5**: the best half of each method's images of each class.
- **risk:0.05**, with --labels: at most 5% of all images are kept and bad (conformal risk
  control).

Images are refused, too, that are the same file as another, or near-copies of images of --train.
DIR gets metadata.csv and cas.yaml of the images that are kept, and selection.csv with the reason
for each that is not.
"""


@app.command(help=HELP, no_args_is_help=True)
def select(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a `cas score` run.")],
    out: Annotated[
        Path, typer.Option(help="Directory for the manifest and the reasons.", metavar="DIR")
    ],
    keep: Annotated[
        list[str] | None, typer.Option(help="alpha:SHARE, top:SHARE or risk:SHARE.", metavar="RULE")
    ] = None,
    balance: Annotated[
        list[str] | None,
        typer.Option(
            help="Column, such as label; groups keep as many images as the smallest. May be given "
            "several times.",
            metavar="COLUMN",
        ),
    ] = None,
    train: Annotated[
        Path | None,
        typer.Option(help="Real images that none may be a near-copy of.", metavar="FOLDER"),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Table of labelled images: id, good (1 or 0).", metavar="TABLE"),
    ] = None,
    files: Annotated[
        str,
        typer.Option(help="none, link (hard) or copy: how the files come along.", metavar="HOW"),
    ] = "none",
    diversity: Annotated[bool, typer.Option(help="Tell the diversity before and after.")] = True,
    encoder: option.RunEncoder = None,
    as_json: option.Json = False,
    device: option.Device = "auto",
    cache: option.Cache = None,
    offline: option.Offline = False,
) -> None:
    """Choose images; the help text is :data:`HELP`."""
    from cas_metric.verbs import select as verb

    with CountProgress("images") as bar:
        result = verb.select(
            run,
            keep=keep or verb.KEEP,
            balance=balance or (),
            train=train,
            labels=labels,
            files=files,
            diversity=diversity,
            encoder=encoder,
            device=device,
            offline=offline,
            cache=cache,
            out=out,
            progress=bar,
        )
    finish(result, out, as_json=as_json)
