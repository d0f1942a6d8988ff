"""``cas leakage``: duplicates and shared patients between two splits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cas_metric import protocol
from cas_metric.cli import options as option
from cas_metric.cli.common import CountProgress
from cas_metric.cli.results import finish

HELP = """
Look for images and patients of TEST in TRAIN.

- **Same file**: the same bytes under another name.
- **Same pixels**: another file, but every decoded pixel equal.
- **Near duplicates**: perceptual hashes within 5 of 64 bits; SSIM tells which agree pixel by pixel.
- **Altered copies**: cropped, shifted, rotated, mirrored, inverted or pasted in; they fit once they
  are aligned, better than training images fit each other.
- **Shared patients**, where both splits have a `patient` column.

Writes pairs.csv, patients.csv, summary.json and report.html with both pictures of every pair.
"""

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command(help=HELP, no_args_is_help=True)
def leakage(
    train: Annotated[Path, typer.Argument(metavar="TRAIN", help="One split.")],
    test: Annotated[Path, typer.Argument(metavar="TEST", help="The other split.")],
    threshold: Annotated[
        int, typer.Option(help="Largest pHash distance of near duplicates.", min=0, max=64)
    ] = protocol.PHASH_THRESHOLD,
    ssim_size: Annotated[
        int, typer.Option(help="Side of the grey square that SSIM is taken on.", min=7)
    ] = protocol.SSIM_SIZE,
    geometry: Annotated[
        bool,
        typer.Option(
            "--geometry/--no-geometry",
            help="Look for altered copies by local features and alignment.",
        ),
    ] = True,
    out: Annotated[Path | None, option.result_folder("leakage/ and the name of TEST")] = None,
    as_json: option.Json = False,
    num_workers: option.NumWorkers = None,
    offline: option.Offline = False,
) -> None:
    """Search for leakage; the help text is :data:`HELP`.

    Example: cas leakage train/ test/ --out leakage
    """
    from cas_metric.verbs import leakage as verb

    with CountProgress("images") as bar:
        result = verb.leakage(
            *(train, test),
            threshold=threshold,
            ssim_size=ssim_size,
            geometry=geometry,
            num_workers=num_workers,
            offline=offline,
            out=out,
            progress=bar,
        )
    finish(result, None, as_json=as_json)
