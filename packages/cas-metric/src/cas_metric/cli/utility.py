"""``cas utility``: accuracy of classifiers trained on real and synthetic images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cas_metric.cli import options as option
from cas_metric.cli.common import CountProgress
from cas_metric.cli.results import finish

HELP = """
Train classifiers on real and synthetic images together and test them on real ones (Figure 3).

Of every batch, 20% is synthetic. For each METHOD, and for real images alone, one classifier is
trained at every data scale (share of the real training images) with every seed. A seed decides
the real images, the first weights and the order of everything, so classifiers of one seed are
compared in pairs; all make the same number of updates, and none is chosen by its test accuracy.

Differences are tested twice: over training seeds, and over test images (patients, where they are
known). Every classifier is written as soon as it is done; the same command continues an
interrupted run.

Writes utility.csv, summary.json, utility.md and the figure.
"""

EPILOG = """
**Examples**

- `cas utility real/train real/test lora=gen/lora craft=gen/craft --focus craft --out utility`

- `cas utility real/train real/test gen/craft --model small --seeds 3 --scale 1`

**Exit codes**

0 done; 3 done, but some images could not be read; 2 wrong usage or input; 4 weights are missing.
"""

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")

TRAINING = "Training"


@app.command(help=HELP, epilog=EPILOG, no_args_is_help=True)
def utility(
    train: Annotated[
        Path, typer.Argument(metavar="REAL_TRAIN", help="Real images to train on, with labels.")
    ],
    test: Annotated[
        Path, typer.Argument(metavar="REAL_TEST", help="Real images to test on, with labels.")
    ],
    generated: Annotated[
        list[str],
        typer.Argument(
            metavar="METHOD=GEN…",
            help="Synthetic images of each method. Without a name: that of the folder.",
        ),
    ],
    scale: Annotated[
        list[float] | None,
        typer.Option(help="Share of the real training images; may be repeated. [0.25, 0.5, 1]"),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Training seeds.", min=1)] = 5,
    focus: Annotated[
        str | None,
        typer.Option(
            help="Method to compare with the best of the others; by default the most accurate, "
            "which is then chosen after the fact.",
            metavar="METHOD",
        ),
    ] = None,
    runs: Annotated[
        list[str] | None,
        typer.Option(
            "--run",
            help="Run of `cas score` of these methods, or NAME=RUN; may be repeated. With three "
            "methods or more, their CAS is correlated with both scores (Appendix G).",
            metavar="RUN",
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            help="resnet18 (the paper's), or small: four convolutions, for 64×64 pictures on a "
            "CPU.",
            rich_help_panel=TRAINING,
        ),
    ] = "resnet18",
    weights: Annotated[
        Path | None,
        typer.Option(
            help="Safetensors file of torchvision's ResNet-18 to start from; by default random "
            "weights.",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            help="Side of the pictures; by default 224, or 64 for small.",
            min=16,
            rich_help_panel=TRAINING,
        ),
    ] = None,
    share: Annotated[
        float,
        typer.Option(
            help="Share of every batch that is synthetic.",
            min=0.0,
            max=0.99,
            rich_help_panel=TRAINING,
        ),
    ] = 0.2,
    epochs: Annotated[
        int,
        typer.Option(
            help="Updates of every classifier, as passes over all real training images.",
            min=1,
            rich_help_panel=TRAINING,
        ),
    ] = 30,
    learning_rate: Annotated[
        float,
        typer.Option(
            help="Peak of the one-cycle schedule of AdamW.", min=0.0, rich_help_panel=TRAINING
        ),
    ] = 1e-3,
    batch_size: Annotated[
        int, typer.Option(help="Images in a batch.", min=2, rich_help_panel=TRAINING)
    ] = 50,
    augment: Annotated[
        bool,
        typer.Option(
            "--augment/--no-augment",
            help="Mirror and shift training images.",
            rich_help_panel=TRAINING,
        ),
    ] = True,
    out: Annotated[Path | None, option.result_folder("utility/")] = None,
    as_json: option.Json = False,
    device: option.Device = "auto",
    num_workers: option.NumWorkers = None,
    offline: option.Offline = False,
) -> None:
    """Measure downstream utility; the help text is :data:`HELP`."""
    from cas_metric.verbs import utility as verb

    with CountProgress("images") as bar:
        result = verb.utility(
            *(train, test, generated),
            scales=scale or verb.SCALES,
            seeds=seeds,
            focus=focus,
            runs=runs or (),
            model=model,
            weights=weights,
            size=size,
            share=share,
            epochs=epochs,
            learning_rate=learning_rate,
            batch_size=batch_size,
            augment=augment,
            folder=out,
            device=device,
            num_workers=num_workers,
            offline=offline,
            progress=bar,
        )
    finish(result, None, as_json=as_json)
