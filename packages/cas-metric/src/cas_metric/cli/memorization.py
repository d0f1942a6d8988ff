"""``cas memorization``: near-duplicates and nearest neighbours of training images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cas_metric import protocol
from cas_metric.cli import options as option
from cas_metric.cli.common import CountProgress
from cas_metric.cli.results import finish

HELP = """
Look for copies of the images of TRAIN among those of GEN.

Every generated image is compared with the training images by five detectors, the first three of
them those of Appendix M:

- **SSIM** on grey squares of one size: how many exceed 0.95, and the exact maximum over all pairs.
- **pHash**: how many lie within 5 of 64 bits.
- **Feature space** (DINOv2, whole frame): cosine distance to the nearest training image. With
  `--test`, unseen real images, it is compared with the distance to them, also at equal numbers of
  images, and tested by exchanging which real image was in which set.
- **Aligned copies**: the likeliest training images are laid over it as local features say, cropped,
  shifted, rotated, mirrored, inverted or pasted in. How well two must agree is learned from the
  real images: from `--test` against TRAIN, else from TRAIN against itself.
- **Matched points**: keypoints that agree under one transformation: the same lesion or scene again.

Each detector is blind to something: SSIM and pHash to crops, pHash to mirrored, turned and inverted
images that neither `--variants` nor `symmetries` of the domain pack name, the feature space to what
its encoder ignores, alignment to smooth pictures. Finding nothing is no guarantee of privacy. Blank
images are counted as blank.
"""

EPILOG = """
**Examples**

- `cas memorization gen/ train/ --test test/` writes to memorization/gen/

- `cas memorization gen/ train/ --no-features --variants all`

**Exit codes**

0 done; 3 done, but some images could not be read; 2 wrong usage or input; 4 the encoder is not
available (`--no-features` works without one).
"""

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command(help=HELP, epilog=EPILOG, no_args_is_help=True)
def memorization(
    generated: Annotated[Path, typer.Argument(metavar="GEN", help="Generated images.")],
    train: Annotated[
        Path, typer.Argument(metavar="TRAIN", help="Images that the generator was trained on.")
    ],
    test: Annotated[
        Path | None, typer.Option(help="Real images that it has not seen.", metavar="FOLDER")
    ] = None,
    canaries: Annotated[
        Path | None,
        typer.Option(
            help="Pictures planted among the training images and their twins, from "
            "`craft-trainer canaries`.",
            metavar="FOLDER",
        ),
    ] = None,
    method: option.Method = None,
    seed: option.Seed = None,
    features: Annotated[
        bool | None,
        typer.Option(
            "--features/--no-features",
            help="Search in feature space. Default: where the encoder can be had.",
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Feature space: an alias (`cas encoders`), a hub id or a directory. "
            "Default: dinov2; phantom-dino for phantom images.",
            metavar="SPEC",
        ),
    ] = None,
    geometry: Annotated[
        bool,
        typer.Option(
            "--geometry/--no-geometry",
            help="Look for altered copies by local features and alignment.",
        ),
    ] = True,
    ssim: Annotated[bool, typer.Option("--ssim/--no-ssim", help="Compare by SSIM.")] = True,
    ssim_size: Annotated[
        int, typer.Option(help="Side of the grey square that SSIM is taken on.", min=7)
    ] = protocol.SSIM_SIZE,
    count_only: Annotated[
        bool,
        typer.Option(
            "--count-only",
            help="Count the pairs above the SSIM threshold without finding the maximum below it: "
            "several times as fast.",
        ),
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Evaluate every pair as well, without pruning, and stop if the answers differ.",
        ),
    ] = False,
    variants: Annotated[
        str | None,
        typer.Option(
            help="Variants to hash too: none, all, or some of mirror, rotate90, invert. Default: "
            "the symmetries of the domain pack.",
            metavar="NAMES",
        ),
    ] = None,
    faiss: Annotated[
        bool,
        typer.Option(
            "--faiss",
            help="Let FAISS find the nearest images (needs the extra faiss). Same answer; worth "
            "trying only beyond a million training images.",
        ),
    ] = False,
    offline: option.Offline = False,
    out: Annotated[Path | None, option.result_folder("memorization/ and the name of GEN")] = None,
    as_json: option.Json = False,
    device: option.Device = "auto",
    batch_size: option.BatchSize = None,
    num_workers: option.NumWorkers = None,
    cache: option.Cache = None,
) -> None:
    """Compare a generated set with its training set; the help text is :data:`HELP`."""
    from cas_metric.verbs import memorization as verb

    with CountProgress("images") as bar:
        result = verb.memorization(
            *(generated, train, test),
            canaries=canaries,
            method=method,
            seed=seed,
            features=features,
            encoder=encoder,
            geometry=geometry,
            ssim=ssim,
            ssim_size=ssim_size,
            count_only=count_only,
            verify=verify,
            variants=variants,
            faiss=faiss,
            offline=offline,
            device=device,
            batch_size=batch_size,
            num_workers=num_workers,
            cache=cache,
            out=out,
            progress=bar,
        )
    finish(result, None, as_json=as_json)
