"""``craft-trainer estimate``: what a configuration costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def estimate(
    config: Annotated[Path, typer.Argument(help="YAML file, as for `craft-trainer train`.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="As for `train`.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Results as JSON on stdout.")] = False,
) -> None:
    """Count what each stage computes: UNet forwards of one image, without loading a model.

    A backward pass counts as two forwards, and as three with gradient checkpointing. Only what
    depends on the settings is counted: not the text encoder, the VAE or the critic.
    """
    from rich.table import Table

    from cas_metric.cli.common import console_out, emit_json
    from craft_trainer.config import load_config
    from craft_trainer.data import read_examples
    from craft_trainer.estimate import cost_of

    settings = load_config(config, list(overrides or []))
    count = len(read_examples(settings.data.train, settings.data.domain))
    costs = [cost_of(settings, stage, count) for stage in settings.stages]
    if as_json:
        emit_json([cost._asdict() for cost in costs])
        return
    table = Table("stage", "steps", "forwards / image", "forwards / step", "forwards in all")
    for cost in costs:
        table.add_row(
            cost.method,
            f"{cost.steps}",
            f"{cost.forwards_per_image:g}",
            f"{cost.forwards_per_step:g}",
            f"{cost.forwards:g}",
        )
    console_out().print(table)
