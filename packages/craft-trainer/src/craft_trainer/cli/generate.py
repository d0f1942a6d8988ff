"""``craft-trainer generate``: seeds × prompts of a manifest, for ``cas score``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from craft_trainer.cli.options import AsJson, StageName

app = typer.Typer(add_completion=False)


@app.command()
def generate(
    artifact: Annotated[
        Path,
        typer.Argument(
            help="Folder of a run of `craft-trainer train`, or the `artifact` of one of its stages."
        ),
    ],
    prompts: Annotated[
        Path,
        typer.Argument(help="Manifest of the real images to re-synthesise: labels and prompts."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the images.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Settings of base model, data and sampling other than those of training, "
            "e.g. sampling.steps=50.",
        ),
    ] = None,
    stage: StageName = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Images a prompt.")] = 5,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images in a pass.")] = 8,
    method: Annotated[
        str | None, typer.Option("--method", help="Name in the tables. Default: the stage's.")
    ] = None,
    zero_shot: Annotated[
        bool, typer.Option("--zero-shot", help="Leave the artefact out: the base model alone.")
    ] = False,
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt",
            help="Template of the text, with {prompt}, {label}, {token}. Default: the stage's.",
        ),
    ] = None,
    lora_scale: Annotated[
        float,
        typer.Option("--lora-scale", min=0, help="How much of the adapter counts: 0 is the base."),
    ] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Draw every prompt of a manifest with several seeds into a folder that `cas score` reads.

    Base model, sampler and guidance are those of training, unless replaced. Images that exist are
    kept: the same command continues an interrupted one. The folder's cas.yaml names the domain and
    the training split, and what the images were drawn with; other settings need another folder.
    """
    from cas_metric.cli.common import console_out, emit_json
    from craft_trainer.cli.progress import Bars
    from craft_trainer.config.schema import parse_overrides
    from craft_trainer.generation import generate as run

    with Bars() as bars:
        made = run(
            artifact,
            prompts,
            out,
            stage=stage,
            seeds=seeds,
            batch_size=batch_size,
            method=method,
            zero_shot=zero_shot,
            prompt=prompt,
            lora_scale=lora_scale,
            progress=bars,
            **parse_overrides(overrides or ()),
        )
    if as_json:
        where = {"out": str(made.folder), "artifact": str(made.artifact)}
        emit_json({**where, "drawn": made.drawn, "kept": made.kept})
    else:
        console_out().print(
            f"{made.drawn} images drawn, {made.kept} kept: {made.folder}", soft_wrap=True
        )
