"""``cas utility``: does synthetic data help a classifier of real images?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from cas_metric.cli import options as option
from cas_metric.cli.common import CountProgress, console_err
from cas_metric.errors import EXIT_SOME_FAILED, InputError

if TYPE_CHECKING:
    from cas_metric.downstream.grid import Experiment
    from cas_metric.downstream.pictures import LabelledPictures
    from cas_metric.manifest import Manifest

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


class _Read(NamedTuple):
    """Manifests and their pictures."""

    train: Manifest
    test: Manifest
    methods: dict[str, Manifest]
    real: LabelledPictures
    held_out: LabelledPictures
    synthetic: dict[str, LabelledPictures]

    @property
    def errors(self) -> dict[str, str]:
        """Path of each unreadable image to the reason."""
        parts = (self.real, self.held_out, *self.synthetic.values())
        return {path: why for part in parts for path, why in part.errors.items()}


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
    out: option.Out = None,
    as_json: option.Json = False,
    device: option.Device = "auto",
    num_workers: option.NumWorkers = None,
) -> None:
    """Measure downstream utility; the help text is :data:`HELP`."""
    from cas_metric.cli.utility_run import correlation, deliver_utility, summarise
    from cas_metric.downstream.batches import synthetic_per_batch
    from cas_metric.downstream.comparison import Outcome
    from cas_metric.downstream.grid import Experiment, run
    from cas_metric.downstream.networks import SIZES, build_network
    from cas_metric.downstream.training import Recipe
    from cas_metric.encoders.devices import resolve_device

    synthetic_per_batch(batch_size, share)
    chosen = str(resolve_device(device))
    build_network(
        model, 2, seed=0, weights=weights
    )  # a wrong name, file or device shows before decoding
    folder = out or Path("utility")
    read = _read(train, test, generated, size or SIZES[model], folder, num_workers)
    if focus is not None and focus not in read.methods:
        raise InputError(f"no method {focus!r}", fix=f"one of {', '.join(read.methods)}")
    recipe = Recipe(
        network=model,
        size=size or SIZES[model],
        batch_size=batch_size,
        share=share,
        steps=epochs * -(-len(read.real) // batch_size),
        learning_rate=learning_rate,
        augment=augment,
        weights=weights,
        device=chosen,
    )
    scales = sorted(set(scale or (0.25, 0.5, 1.0)))
    experiment = Experiment(read.real, read.held_out, read.synthetic, scales, range(seeds), recipe)
    with CountProgress("classifiers") as bar:
        predictions = run(experiment, folder / "cells", bar)
    outcome = Outcome(
        read.held_out.classes, read.held_out.clusters, len(_classes(read.train)), predictions
    )
    summary = summarise(outcome, focus)
    summary |= _context(read, experiment)
    summary["correlation"] = correlation(runs or [], outcome)
    deliver_utility(summary, folder, as_json=as_json)
    if read.errors:
        raise typer.Exit(EXIT_SOME_FAILED)


def _read(
    train: Path,
    test: Path,
    generated: list[str],
    size: int,
    folder: Path,
    num_workers: int | None,
) -> _Read:
    """Read all manifests first, so that a mistake in one costs no decoding."""
    from cas_metric.downstream.pictures import read_pictures
    from cas_metric.manifest import read_manifest

    manifests = read_manifest(train), read_manifest(test)
    methods = {}
    for argument in generated:
        name, path = named_path(argument)
        if name in methods:
            raise InputError(f"two methods are called {name!r}", fix="name them: NAME=FOLDER")
        methods[name] = read_manifest(path)
    classes = _classes(manifests[0])
    pictures = []
    for manifest in (*manifests, *methods.values()):
        for note in manifest.notes:
            console_err().print(note, markup=False)
        with CountProgress("images") as bar:
            pictures.append(
                read_pictures(
                    manifest, classes, size=size, folder=folder / "pictures",
                    num_workers=num_workers, progress=bar,
                )
            )  # fmt: skip
    real, held_out, *synthetic = pictures
    by_name = dict(zip(methods, synthetic, strict=True))
    return _Read(*manifests, methods, real, held_out, by_name)


def named_path(argument: str) -> tuple[str, Path]:
    """``NAME=PATH``, or a path, whose own name is then taken."""
    name, found, path = argument.partition("=")
    if found and not Path(argument).exists():
        return name, Path(path)
    return Path(argument).absolute().stem, Path(argument)


def _classes(train: Manifest) -> list[str]:
    """The labels of the real training images, in alphabetical order."""
    classes = sorted(set(train.rows["label"]) - {""})
    if len(classes) < 2:
        raise InputError(
            f"{train.root}: the real training images have {len(classes)} classes, two are needed"
        )
    return classes


def _context(read: _Read, experiment: Experiment) -> dict[str, Any]:
    """What the summary tells beside the scores."""
    from cas_metric.cli.memorization_run import domain_of, provenance

    domain = domain_of(read.train, read.test)
    return {
        "domain": domain,
        "embedded_world": domain.startswith("phantom-"),
        "classes": _classes(read.train),
        "n_test": len(read.held_out),
        "n_real": _n_real(experiment),
        "n_synthetic": {name: len(pictures) for name, pictures in read.synthetic.items()},
        "recipe": experiment.recipe.identity(),
        "seeds": list(experiment.seeds),
        "warnings": leaks(read),
        "failures": [{"image": p, "error": why} for p, why in sorted(read.errors.items())],
        "provenance": provenance(train=read.train, test=read.test, **read.methods),
    }


def _n_real(experiment: Experiment) -> dict[str, int]:
    import numpy as np

    from cas_metric.downstream.batches import real_subset

    classes = experiment.real.classes
    return {
        str(scale): len(real_subset(classes, scale, np.random.default_rng(0)))
        for scale in experiment.scales
    }


def leaks(read: _Read) -> list[str]:
    """Ways in which the test images may have got into training, one sentence each."""
    held_out = set(read.held_out.files)
    found = []
    for name, pictures in (("the real training images", read.real), *read.synthetic.items()):
        same = len(held_out & set(pictures.files))
        if same:
            found.append(f"{same} of {name} are test images, byte for byte: see `cas leakage`")
    tests, own = set(read.test.rows["id"]) - {""}, set(read.train.rows["id"])
    for name, manifest in read.methods.items():
        made = int(manifest.rows["reference"].isin(tests - own).sum())
        if made:
            found.append(
                f"{made} images of {name} were made for test images (their `reference`): what "
                "their prompts tell of the test images reaches the classifier"
            )
    return found
