"""``cas memorization``: are generated images copies of training images?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from cas_metric import protocol
from cas_metric.cli import options as option
from cas_metric.cli.common import CountProgress, console_err, console_out, emit_json
from cas_metric.errors import EXIT_SOME_FAILED, CasError, InputError

if TYPE_CHECKING:
    from cas_metric.cli.features import Running
    from cas_metric.copies.analysis import Analysis, Settings
    from cas_metric.copies.pictures import Pictures
    from cas_metric.copies.suspects import Features
    from cas_metric.manifest import Manifest

HELP = """
Look for copies of the images of TRAIN among those of GEN.

Every generated image is compared with every training image by three detectors (Appendix M):

- **SSIM** on grey squares of one size: how many exceed 0.95, and the exact maximum over all pairs.
- **pHash**: how many lie within 5 of 64 bits.
- **Feature space** (DINOv2, whole frame): cosine distance to the nearest training image. With
  `--test`, unseen real images, it is compared with the distance to them, also at equal numbers of
  images, and tested by exchanging which real image was in which set.

Each detector is blind to something: SSIM and pHash to crops and mirror images (`--variants` hashes
those too), the feature space to what its encoder ignores. Finding nothing is no guarantee of
privacy.
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


class _Sets(NamedTuple):
    """The manifests."""

    generated: Manifest
    train: Manifest
    test: Manifest | None


@app.command(help=HELP, epilog=EPILOG, no_args_is_help=True)
def memorization(
    generated: Annotated[Path, typer.Argument(metavar="GEN", help="Generated images.")],
    train: Annotated[
        Path, typer.Argument(metavar="TRAIN", help="Images that the generator was trained on.")
    ],
    test: Annotated[
        Path | None, typer.Option(help="Real images that it has not seen.", metavar="FOLDER")
    ] = None,
    method: option.Method = None,
    seed: option.Seed = None,
    features: Annotated[
        bool, typer.Option("--features/--no-features", help="Search in feature space.")
    ] = True,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Feature space: an alias (`cas encoders`), a hub id or a directory. "
            "Default: dinov2; phantom-dino for phantom images.",
            metavar="SPEC",
        ),
    ] = None,
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
        str, typer.Option(help="Variants to hash too: none, mirror, or all (also rotations).")
    ] = "none",
    faiss: Annotated[
        bool,
        typer.Option(
            "--faiss",
            help="Let FAISS find the nearest images (needs the extra faiss). Same answer; worth "
            "trying only beyond a million training images.",
        ),
    ] = False,
    offline: option.Offline = False,
    out: option.Out = None,
    as_json: option.Json = False,
    device: option.Device = "auto",
    batch_size: option.BatchSize = None,
    num_workers: option.NumWorkers = None,
    cache: option.Cache = None,
) -> None:
    """Compare a generated set with its training set; the help text is :data:`HELP`."""
    from cas_metric.cli.features import Running
    from cas_metric.cli.memorization_run import memorization_summary, write_memorization
    from cas_metric.copies.analysis import Settings, analyse
    from cas_metric.copies.ssim_search import Search
    from cas_metric.manifest import read_manifest
    from cas_metric.scoring.inputs import select

    if count_only and verify:
        raise InputError("--count-only and --verify ask for different things", fix="give one")
    place = ssim_device(device)  # a device that is not there shows before hours of reading
    sets = _Sets(
        select(read_manifest(generated), method, seed),
        read_manifest(train),
        read_manifest(test) if test is not None else None,
    )
    found, space = None, None
    if features:
        running = Running(cache, batch_size, num_workers)
        found, space = _embed(sets, encoder, device, offline, running)
    pictures = (
        read_pictures_of(sets.generated, ssim_size, variants, num_workers),
        read_pictures_of(sets.train, ssim_size, variants, num_workers),
    )
    with CountProgress("pairs") as bar:
        search = Search(maximum=not count_only, device=place, progress=bar)
        settings = Settings(search if ssim else None, ssim_size, variants, faiss)
        analysis = analyse(
            *(sets.generated, sets.train, pictures),
            test=sets.test,
            features=found,
            settings=settings,
        )
    if verify and ssim:
        _verify(analysis, pictures, search)
    failures = _failures(pictures, space)
    base = _base(sets, settings, failures)
    summary = memorization_summary(
        analysis, base, n_train=len(pictures[1]), encoder=space["encoder"] if space else None
    )
    folder = out or Path("memorization") / generated.absolute().stem
    write_memorization(folder, analysis, summary)
    if as_json:
        emit_json({**summary, "run": str(folder)})
    else:
        _print(summary, folder)
    if failures:
        raise typer.Exit(EXIT_SOME_FAILED)


def read_pictures_of(
    manifest: Manifest, size: int, variants: str, num_workers: int | None
) -> Pictures:
    """The pictures of a manifest, with a progress bar."""
    from cas_metric.copies.pictures import read_pictures

    for note in manifest.notes:
        console_err().print(note, markup=False)
    with CountProgress("images") as bar:
        return read_pictures(
            manifest, size=size, variants=variants, num_workers=num_workers, progress=bar
        )


def ssim_device(device: str) -> str:
    """A CUDA device where one is named or found, else ``cpu``, whose loop is compiled.

    Raises:
        InputError: There is no such device.
    """
    from cas_metric.encoders.devices import resolve_device

    chosen = resolve_device(device)
    return str(chosen) if chosen.type == "cuda" else "cpu"


def _embed(
    sets: _Sets, spec: str | None, device: str, offline: bool, running: Running
) -> tuple[Features, dict[str, Any]]:
    """Embeddings of all sets; the encoder and what could not be embedded."""
    from cas_metric.cli.features import choose_encoder, embed
    from cas_metric.copies.suspects import Features

    model = choose_encoder(spec, sets.train, device=device, offline=offline)
    parts = [embed(one, model, running) for one in sets if one is not None]
    identity = {"name": model.name, "revision": model.revision, "fingerprint": model.fingerprint}
    errors = {path: why for part in parts for path, why in part.errors.items()}
    return Features(*(p.embeddings for p in parts)), {"encoder": identity, "errors": errors}


def _verify(analysis: Analysis, pictures: tuple[Pictures, ...], search: Any) -> None:
    """Evaluate all pairs without pruning and compare.

    Raises:
        CasError: The answers differ.
    """
    import dataclasses

    import numpy as np

    from cas_metric.copies.ssim_search import nearest

    full = nearest(
        pictures[0].grey, pictures[1].grey, dataclasses.replace(search, prune=False, progress=None)
    )
    rows = analysis.rows.iloc[pictures[0].rows]
    counts = np.bincount(full.above[:, 0], minlength=len(full.value))
    if not (
        np.array_equal(rows["ssim"].to_numpy(dtype=float), full.value)
        and np.array_equal(rows["ssim_above"].to_numpy(dtype=float), counts)
    ):
        raise CasError("the pruned SSIM search and the full one disagree", fix="report this")
    console_err().print("verified: the pruned answer equals the full one")


def _failures(pictures: tuple[Pictures, ...], space: dict[str, Any] | None) -> list[dict[str, str]]:
    errors = space["errors"] if space else {}
    for one in pictures:
        errors = {**errors, **one.errors}
    return [{"image": path, "error": reason} for path, reason in sorted(errors.items())]


def _base(sets: _Sets, settings: Settings, failures: list[dict[str, str]]) -> dict[str, Any]:
    """What the summary tells beside the figures."""
    from cas_metric.cli.memorization_run import domain_of, provenance

    domain = domain_of(sets.train, sets.generated)
    return {
        "domain": domain,
        "embedded_world": domain.startswith("phantom-"),
        "settings": {
            "ssim_size": settings.size,
            "ssim_grey": "Rec. 601 luma, resized by an antialiasing triangle filter, 0 to 255",
            "ssim_threshold": protocol.SSIM_THRESHOLD,
            "ssim": settings.search is not None,
            "phash_threshold": protocol.PHASH_THRESHOLD,
            "phash_variants": settings.variants,
        },
        "failures": failures,
        "provenance": provenance(**sets._asdict()),
    }


def _print(summary: dict[str, Any], folder: Path) -> None:
    """Tables 17 and 18, the verdict and where the rest lies."""
    from rich.table import Table

    table = Table("method", "images", "SSIM > 0.95", "pHash ≤ 5", "either", "max SSIM")
    distances = Table("method", "to training", "to test", "difference", "95% interval", "p")
    for one in summary["methods"]:
        table.add_row(
            *(str(one.get(key, "–")) for key in ("method", "n", "ssim_above", "phash_near")),
            str(one["either"]), f"{one['max_ssim']:.3f}" if "max_ssim" in one else "–",
        )  # fmt: skip
        near = one.get("neighbours")
        if near and "p_nearer_to_train" in near:
            gap = near["difference"]
            distances.add_row(
                one["method"], f"{near['train']:.4f}", f"{near['test']:.4f}",
                f"{gap['estimate']:+.4f}", f"{gap['low']:+.4f} to {gap['high']:+.4f}",
                f"{near['p_nearer_to_train']:.3g}",
            )  # fmt: skip
    out = console_out()
    out.print(table)
    if distances.row_count:
        out.print(distances)
    out.print(summary["verdict"], markup=False)
    if summary["failures"]:
        out.print(f"{len(summary['failures'])} images could not be read; see summary.json.")
    out.print(f"Report: {folder / 'report.html'}", markup=False, soft_wrap=True)
