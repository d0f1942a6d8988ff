"""``cas demo``: score three sets of known quality on the embedded world."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cas_metric.cli.common import CountProgress, tell
from cas_metric.cli.results import finish

HELP = """
Score three generated sets of known quality on drawn phantoms, without any download.

Draws a training and a test split of phantoms, and three sets of "generated" images for the prompts
of the test split: *faithful* ones show the finding in another picture, *degraded* ones are blurred,
noisy, flat or exaggerated as well, *wrong* ones show the finding of another class or none. Then it
runs `cas score` on them and says whether the score put the sets in that order.

Nothing here is medical data.
"""

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command(help=HELP)
def demo(
    out: Annotated[Path, typer.Option(help="Folder to write everything to.", metavar="DIR")] = Path(
        "demo"
    ),
    domain: Annotated[
        str, typer.Option(help="chexpert, fitzpatrick17k, breakhis or origa.", metavar="NAME")
    ] = "chexpert",
    images: Annotated[
        int, typer.Option(help="Images in each set; as many again to train the probe.", min=40)
    ] = 240,
    seed: Annotated[int, typer.Option(help="Another seed draws other phantoms.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Results as JSON on stdout.")] = False,
) -> None:
    """Draw, score, compare; the help text is :data:`HELP`."""
    from cas_metric.cli.score import print_summary
    from cas_metric.verbs import demo as verb

    with CountProgress("phantoms") as bar:
        run, result = verb.demo(
            out, domain=domain, images=images, seed=seed, progress=bar, notify=tell
        )
    if not as_json:
        print_summary(run)
    finish(result, None, as_json=as_json)
