"""``cas explain``: why images score low: which primitive, which attribute, and where."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cas_metric.cli import options as option
from cas_metric.cli.common import CountProgress
from cas_metric.cli.results import finish

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")

HELP = """
Explain the lowest images of RUN, or those that are named.

Of each image it tells which primitive lies farthest below real images of the class, and which
attributes of the checklist: each attribute contrasted with the same attribute of the other classes.
Maps show where the encoder's patch tokens speak for an attribute (orange) or against it (blue).

Written into RUN by default, where the report then shows it: explanation.csv, primitives.csv,
explanation.json, explanation.md and maps/.
"""


@app.command(help=HELP, no_args_is_help=True)
def explain(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a `cas score` run.")],
    image: Annotated[
        list[str] | None,
        typer.Option(help="Id of an image; may be given several times.", metavar="ID"),
    ] = None,
    count: Annotated[
        int, typer.Option(min=1, help="How many of the lowest images of each method.", metavar="N")
    ] = 24,
    domain: Annotated[
        str | None,
        typer.Option(
            help="Checklists. Default: those that the run was scored by.",
            rich_help_panel=option.INPUTS,
            metavar="PACK",
        ),
    ] = None,
    encoder: option.RunEncoder = None,
    maps: Annotated[bool, typer.Option(help="Draw where.")] = True,
    occlusion: Annotated[
        bool, typer.Option("--occlusion", help="Draw by occlusion: slow, for any encoder.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Directory for the files in place of RUN.", metavar="DIR")
    ] = None,
    as_json: option.Json = False,
    device: option.Device = "auto",
    cache: option.Cache = None,
    offline: option.Offline = False,
) -> None:
    """Explain images; the help text is :data:`HELP`."""
    from cas_metric.verbs import explain as verb

    with CountProgress("maps") as bar:
        result = verb.explain(
            run,
            images=image or (),
            count=count,
            domain=domain,
            encoder=encoder,
            maps=maps,
            occlusion=occlusion,
            device=device,
            offline=offline,
            cache=cache,
            out=out,
            progress=bar,
        )
    finish(result, out or run, as_json=as_json)
