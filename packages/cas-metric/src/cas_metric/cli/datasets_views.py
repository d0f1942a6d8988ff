"""``cas datasets split`` and ``shots``: parts of a data set, whose images stay where they lie."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cas_metric.cli import options as option
from cas_metric.cli.common import console_err, emit_json

Out = Annotated[Path, typer.Option("--out", help="Folder to write into.")]
AsJson = Annotated[bool, typer.Option("--json", help="Results as JSON on stdout.")]


def shots(
    train: Annotated[Path, typer.Argument(help="Training split: folder or table.")],
    number: Annotated[int, typer.Option("--shots", min=1, help="Images a class.")],
    out: Out,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seeds the draw.")] = 42,
    allow_root: option.AllowRoot = None,
    as_json: AsJson = False,
) -> None:
    """Keep a few training images of each class (Appendix F).

    Writes a metadata.csv and a cas.yaml into OUT; the images stay where they are. With one seed,
    fewer shots are a part of more.

    Example: cas datasets shots data/train --shots 10 --out data/train-10shot
    """
    from cas_metric.datasets.views import take_shots

    view = take_shots(train, number, out, seed=seed, allowed_roots=allow_root or ())
    if as_json:
        emit_json({"out": str(out), "images": view.images, "classes": view.classes, "seed": seed})
    else:
        typer.echo(f"{out}: {view.images} images of {view.classes} classes")


def split(
    source: Annotated[Path, typer.Argument(help="Folder or table with such a column.")],
    by: Annotated[str, typer.Option("--by", help="Column that names the split of each row.")],
    out: Out,
    domain: option.Domain = None,
    train: Annotated[
        str | None,
        typer.Option(
            help="Value of the split that probes learn from. Default: train, where there is one."
        ),
    ] = None,
    allow_root: option.AllowRoot = None,
    as_json: AsJson = False,
) -> None:
    """Divide a data set by a column of its table that says which split a row belongs to.

    Each value gets a folder in OUT with a metadata.csv and a cas.yaml that names the images where
    they lie, the domain and the training split: cas score then needs no further option.

    Example: cas datasets split isic2017/ --by split --domain skin.yaml --out isic
    """
    from cas_metric.datasets.views import split_by

    views = split_by(source, by, out, domain=domain, train=train, allowed_roots=allow_root or ())
    if as_json:
        emit_json(
            {name: {**vars(view), "folder": str(view.folder)} for name, view in views.items()}
        )
        return
    for view in views.values():
        typer.echo(f"{view.folder}: {view.images} images of {view.classes} classes")
    last = list(views.values())[-1]
    console_err().print(f"Next: cas score GENERATED {last.folder}", soft_wrap=True)
