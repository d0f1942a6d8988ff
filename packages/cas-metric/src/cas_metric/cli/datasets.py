"""``cas datasets``: prepare the clinical data sets, or draw phantom ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cas_metric.cli import datasets_views
from cas_metric.cli.common import console_err, console_out, emit_json, progress
from cas_metric.cli.datasets_phantom import phantom

if TYPE_CHECKING:
    from cas_metric.datasets import Preparation
    from cas_metric.datasets.duplicates import Track

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Prepare the clinical data sets, or draw phantom ones.\n\nImages are never downloaded: "
    "'cas datasets list' says where each data set is obtained and under which terms.",
)

AsJson = Annotated[bool, typer.Option("--json", help="Results as JSON on stdout.")]


@app.command("list")
def list_datasets(as_json: AsJson = False) -> None:
    """Where each data set is obtained, under which terms, and which splits can be made of it."""
    from cas_metric.datasets import DATASETS

    if as_json:
        emit_json(
            {
                name: {**asdict(dataset.source), "splits": dict(dataset.splits)}
                for name, dataset in DATASETS.items()
            }
        )
        return
    for name, dataset in DATASETS.items():
        source = dataset.source
        typer.echo(f"{name}: {source.title}, {source.citation}")
        typer.echo(f"  from   {source.url}\n  terms  {source.terms}\n  layout {source.layout}")
        for split, what in dataset.splits.items():
            typer.echo(f"  --split {split}: {what}")


@app.command()
def prepare(
    dataset: Annotated[str, typer.Argument(help="fitzpatrick17k, chexpert, breakhis or origa.")],
    root: Annotated[Path, typer.Option("--root", help="Folder that you unpacked it into.")],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help="Folder for train.parquet, test.parquet and cas.yaml; or NAME.parquet (.csv, "
            ".jsonl) for NAME-train.parquet and NAME-test.parquet.",
        ),
    ],
    split: Annotated[
        str,
        typer.Option(
            "--split", help="paper, official, patient, duplicate-disjoint; not all have each."
        ),
    ] = "paper",
    seed: Annotated[int, typer.Option("--seed", help="Seeds every draw.")] = 42,
    shots: Annotated[
        int | None, typer.Option("--shots", help="Keep this many training images a class.")
    ] = None,
    metadata_only: Annotated[
        bool, typer.Option("--metadata-only", help="Do not look at the images at all.")
    ] = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Leave out missing images, and say which.")
    ] = False,
    near_duplicates: Annotated[
        bool, typer.Option("--near-duplicates", help="Also list near-duplicates (slow).")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Verify a data set, split it as the paper does, and say where that differs from the paper.

    Writes a manifest of each side, a cas.yaml that names domain, training manifest, image folder
    and provenance, the class counts beside those of Tables 19-22, and a list of images that are
    there more than once. 'cas score GEN OUT/test.parquet' then needs no further option.
    """
    from cas_metric.datasets import Request, write
    from cas_metric.datasets import prepare as run

    request = Request(
        dataset, root, split, seed, shots, metadata_only, allow_missing, near_duplicates
    )
    with _tracked() as track:
        preparation = run(request, track)
    paths = write(preparation, out)
    if as_json:
        emit_json(_describe(preparation, paths))
    else:
        _print(preparation, paths)


@contextmanager
def _tracked() -> Iterator[Track]:
    """Progress bars on stderr for the loops over images."""
    with progress() as bars:

        def track(paths: Iterable[Path], description: str) -> Iterable[Path]:
            every = list(paths)
            task = bars.add_task(description, total=len(every), rate="")
            for path in every:
                yield path
                bars.advance(task)

        yield track


def _describe(preparation: Preparation, paths: dict[str, Path]) -> dict[str, Any]:
    request = preparation.request
    return {
        "dataset": request.dataset,
        "split": request.split,
        "seed": request.seed,
        "shots": request.shots,
        "root": str(preparation.root),
        "train": len(preparation.train),
        "test": len(preparation.test),
        "classes": [asdict(count) for count in preparation.counts],
        "differences": preparation.differences,
        "notes": preparation.notes,
        "sha256": preparation.files,
        "files": {what: str(path) for what, path in paths.items()},
    }


def _print(preparation: Preparation, paths: dict[str, Path]) -> None:
    from rich.table import Column, Table

    numeric = ("train", "test", "train (paper)", "test (paper)")
    table = Table("class", *(Column(name, justify="right") for name in numeric))
    for count in preparation.counts:
        numbers = (count.train, count.test, count.paper_train, count.paper_test)
        table.add_row(count.label, *(f"{number:,}" for number in numbers))
    console_out().print(table)
    for line in (*preparation.notes, *preparation.differences):
        typer.echo(f"- {line}")
    for what, path in paths.items():
        typer.echo(f"{what}: {path}")
    console_err().print(f"Next: cas score GENERATED {paths['test']}", soft_wrap=True)


app.command("phantom")(phantom)
app.command("shots")(datasets_views.shots)
app.command("split")(datasets_views.split)
