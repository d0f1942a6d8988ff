"""``craft-trainer estimate``: what a configuration costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from craft_trainer.cli.options import AsJson, ConfigFile, Overrides

app = typer.Typer(add_completion=False)


@app.command()
def estimate(
    config: ConfigFile,
    overrides: Overrides = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", help="Take a few steps of every stage on a few images, and time them."
        ),
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for estimate.json and estimate.md.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell what each stage computes and how much memory it takes, before it runs.

    Work is counted in forwards of the denoiser on one image; a backward pass counts as two, and as
    three with gradient checkpointing. Memory is counted by building the modules without their
    weights, from the configuration files of the base model and the critic, where these are here.
    The formulas are in the modules `craft_trainer.cost.estimate` and `craft_trainer.cost.memory`.
    """
    from cas_metric.cli.common import CountProgress
    from cas_metric.cli.results import deliver
    from cas_metric.verbs.result import require_free
    from craft_trainer.config.schema import load_config
    from craft_trainer.cost.estimate import estimate as run

    settings = load_config(config, overrides or ())
    require_free(out, "estimate", None, files=("estimate.json", "estimate.md"))
    with CountProgress("stages") as bar:
        found = run(settings, measure=measure, progress=bar)
    deliver(found.summary["stages"], found.text, out=out, name=found.name, as_json=as_json)
