"""``cas leakage``: images and patients that two splits share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cas_metric import protocol
from cas_metric.cli import options as option
from cas_metric.cli.common import console_out, emit_json
from cas_metric.errors import EXIT_SOME_FAILED

HELP = """
Look for images and patients of TEST in TRAIN.

- **Same file**: the same bytes under another name.
- **Same pixels**: another file, but every decoded pixel equal.
- **Near duplicates**: perceptual hashes within 5 of 64 bits; SSIM tells which agree pixel by pixel.
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
    out: option.Out = None,
    as_json: option.Json = False,
    num_workers: option.NumWorkers = None,
) -> None:
    """Search for leakage; the help text is :data:`HELP`.

    Example: cas leakage train/ test/ --out leakage
    """
    from cas_metric.cli.memorization import read_pictures_of
    from cas_metric.cli.memorization_run import (
        domain_of,
        leakage_summary,
        provenance,
        write_leakage,
    )
    from cas_metric.copies.leakage import find_leakage
    from cas_metric.manifest import read_manifest

    sets = read_manifest(train), read_manifest(test)
    pictures = [read_pictures_of(one, ssim_size, "none", num_workers) for one in sets]
    found = find_leakage(*sets, (pictures[0], pictures[1]), threshold=threshold)
    domain = domain_of(*sets)
    errors = {**pictures[0].errors, **pictures[1].errors}
    summary = leakage_summary(
        found,
        {
            "domain": domain,
            "embedded_world": domain.startswith("phantom-"),
            "settings": {"phash_threshold": threshold, "ssim_size": ssim_size},
            "failures": [{"image": p, "error": why} for p, why in sorted(errors.items())],
            "provenance": provenance(train=sets[0], test=sets[1]),
        },
    )
    folder = out or Path("leakage") / test.absolute().stem
    write_leakage(folder, found, summary)
    if as_json:
        emit_json({**summary, "run": str(folder)})
    else:
        console = console_out()
        console.print(summary["verdict"], markup=False)
        console.print(f"Report: {folder / 'report.html'}", markup=False, soft_wrap=True)
    if errors:
        raise typer.Exit(EXIT_SOME_FAILED)
