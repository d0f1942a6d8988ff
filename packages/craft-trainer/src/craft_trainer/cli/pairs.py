"""``craft-trainer pairs``: preference pairs for the `dpo` stage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from craft_trainer.cli.options import AsJson, StageName

app = typer.Typer(add_completion=False)


@app.command()
def pairs(
    artifact: Annotated[
        Path,
        typer.Argument(help="Folder of a run, or the `artifact` of the stage to draw samples of."),
    ],
    prompts: Annotated[
        Path, typer.Argument(help="Manifest of real training images with labels and prompts.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the images and pairs.csv.")],
    stage: StageName = None,
    count: Annotated[int, typer.Option("--pairs", min=1, help="Pairs to make.")] = 1024,
    judge: Annotated[
        str,
        typer.Option(
            "--judge",
            metavar="JUDGE",
            help="cas: the Clinical Alignment Score; r_cam: the reward of CRAFT; mllm:SPEC: a "
            "multimodal language model, e.g. mllm:local:google/medgemma-4b-it.",
        ),
    ] = "cas",
    encoder: Annotated[
        str | None,
        typer.Option("--encoder", help="Of cas and r_cam. Default: the critic of the run."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of order and noise.")] = 0,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images in a pass.")] = 8,
    cache: Annotated[
        str | None, typer.Option("--cache", help="Folder of the embedding store, or `none`.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Draw two samples a prompt that differ in their seed, and let a judge choose the better one.

    Images that exist are kept and answers of a language model are remembered: the same command
    continues an interrupted one, and another --judge or more --pairs draw nothing anew. The
    folder's cas.yaml says what the images were drawn with; another stage or seed needs another
    folder. A judge should not be the encoder that scores the result.
    """
    from cas_metric.cli.common import console_out, emit_json
    from cas_metric.errors import EXIT_SOME_FAILED
    from craft_trainer.cli.progress import Bars
    from craft_trainer.preference.pairs import make_pairs

    with Bars() as bars:
        made = make_pairs(
            artifact,
            prompts,
            out,
            stage=stage,
            count=count,
            judge=judge,
            encoder=encoder,
            seed=seed,
            batch_size=batch_size,
            cache=cache,
            progress=bars,
        )
    if as_json:
        values = dict(vars(made))
        emit_json({"pairs": str(values.pop("table")), **values})
    else:
        console_out().print(
            f"{made.count} pairs by {made.judge}, {made.without_preference} without a preference: "
            f"{made.table}",
            soft_wrap=True,
        )
    if made.without_preference:
        raise typer.Exit(EXIT_SOME_FAILED)
